"""Tables as Markdown, CSV and LaTeX."""

import csv
import io
import re

import pytest

from cotuning_tune.base.tables import Table, latex_text

TABLE = Table("t", "Title", ["method", "acc."], [["bss", "61.25 ± 0.10"], ["co_tuning", "-"]])


def test_markdown() -> None:
    """Columns are aligned, the first to the left, the others to the right."""
    assert TABLE.markdown().splitlines() == [
        "| method    |         acc. |",
        "| --------- | -----------: |",
        "| bss       | 61.25 ± 0.10 |",
        "| co_tuning |            - |",
    ]


def test_markdown_without_rows() -> None:
    """A table without rows still has its head."""
    assert len(Table("t", "", ["a", "b"], []).markdown().splitlines()) == 2


@pytest.mark.parametrize("header", [["n", "k"], ["name", "k"]])
def test_rules_are_valid(header: list[str]) -> None:
    """Below every head stands a rule with a dash at least: else it is no table for Markdown."""
    rules = Table("t", "", header, [["1", "2"]]).markdown().splitlines()[1]
    assert all(re.fullmatch(r" :?-+:? ", cell) for cell in rules.strip("|").split("|"))


@pytest.mark.parametrize("text", ["a | b", "a\nb"])
def test_a_cell_stays_a_cell(text: str) -> None:
    """A bar or a line end inside a text does not make a new column or row."""
    lines = Table("t", "", ["x", "y"], [[text, "1"]]).markdown().splitlines()
    assert len(lines) == 3
    assert len(re.findall(r"(?<!\\)\|", lines[2])) == 3


def test_every_row_is_as_wide_as_the_head() -> None:
    """A row with a missing cell is an error, not a crooked table."""
    with pytest.raises((ValueError, IndexError)):
        Table("t", "", ["a", "b"], [["1"]]).markdown()


def test_csv_comes_back() -> None:
    """What is written is what a reader of CSV reads, separators inside texts included."""
    rows = [["a, b", 'quo"te'], ["two\nlines", "±"]]
    written = Table("t", "", ["x", "y"], rows).csv()
    assert list(csv.reader(io.StringIO(written, newline=""))) == [["x", "y"], *rows]


def test_latex() -> None:
    """A booktabs table: title and note as comments, signs escaped, bold where it is said, minus signs set."""
    rows = [["co_tuning", "61.2 ± 0.1"], ["50 % & #1 {x}", "-0.50 (-1.0 %)"]]
    table = Table("t", "Title", ["method", "a - b"], rows, "Note.", frozenset({(0, 1)}))
    assert table.latex().splitlines() == [
        "% Title",
        "% Note.",
        "% \\usepackage{booktabs}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"method & a - b \\",
        r"\midrule",
        r"co\_tuning & \textbf{61.2 $\pm$ 0.1} \\",
        r"50 \% \& \#1 \{x\} & $-$0.50 ($-$1.0 \%) \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\\b", r"a\textbackslash{}b"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("a|b<c>", r"a\textbar{}b\textless{}c\textgreater{}"),
        ("1e-05, trial-2", "1e-05, trial-2"),
        ("--seed -1", "--seed $-$1"),
        ("two\nlines", "two lines"),
    ],
)
def test_latex_text(text: str, expected: str) -> None:
    """Every sign that LaTeX would take for a command is escaped; hyphens inside words stay."""
    assert latex_text(text) == expected


def test_bold() -> None:
    """Bold is marked in Markdown and left out of CSV."""
    table = Table("t", "", ["a", "b"], [["x", "1"], ["y", "2"]], bold=frozenset({(1, 1)}))
    assert "**2**" in table.markdown().splitlines()[-1]
    assert "*" not in table.csv() + table.markdown().splitlines()[-2]
