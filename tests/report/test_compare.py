"""Several runs in one table, statistics where data sets are the same, a warning for all that differs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.cli import main
from cotuning_tune.report import comparison_report, read_runs
from cotuning_tune.runs.folder import RunDir
from tests.report.synthetic import write_run


@pytest.fixture
def runs(tmp_path: Path) -> list[RunDir]:
    """Two searches of the same studies with other draws; the second one has a method less."""
    make: Callable[..., RunDir] = write_run
    few = {"rates": (0.15, 1.0), "trials": 6, "epochs": 3, "pruned": 0.0, "files": False}
    return [
        make(tmp_path / "one", ("birds",), methods=3, **few),
        make(tmp_path / "two", ("birds",), methods=2, seed=1, **few),
    ]


def test_the_table(runs: list[RunDir]) -> None:
    """A row a method, a column for each run's setting; a method that a run lacks has a dash."""
    report = comparison_report(read_runs(runs))
    table = report.tables[0]
    assert table.header == ["method", "one: birds 15 %", "one: birds 100 %", "two: birds 15 %", "two: birds 100 %"]
    assert [row[0] for row in table.rows] == ["fine_tune", "l2_sp", "delta"]
    assert table.rows[2][3:] == ["-", "-"]
    assert all("±" in text for row in table.rows[:2] for text in row[1:])


def test_statistics_where_the_studies_are_the_same(runs: list[RunDir]) -> None:
    """Two rates of one data set are one unit of each shared method, the later run minus the first: no verdict."""
    statistics = comparison_report(read_runs(runs)).tables[1]
    assert [row[:2] for row in statistics.rows] == [["fine_tune: two - one", "1"], ["l2_sp: two - one", "1"]]
    assert {tuple(row[3:]) for row in statistics.rows} == {("-", "-", "no verdict (one data set)")}


def test_verdicts_over_data_sets(tmp_path: Path) -> None:
    """From two data sets on each pair has a paired t, with an interval and a p."""
    few = {"rates": (1.0,), "methods": 2, "trials": 6, "epochs": 3, "pruned": 0.0, "files": False}
    make: Callable[..., RunDir] = write_run
    report = comparison_report(read_runs([make(tmp_path / f"run{seed}", seed=seed, **few) for seed in range(2)]))
    assert [row[1] for row in report.tables[1].rows] == ["2", "2"]
    assert all(" to " in row[3] and row[4] != "-" for row in report.tables[1].rows)


def test_equal_settings_are_not_warned_of(runs: list[RunDir]) -> None:
    """Runs that differ in nothing but draws and methods have no warning, but their budgets side by side."""
    shared = [runs[0], runs[0].__class__(runs[1].path)]
    report = comparison_report(read_runs(shared))
    budgets = report.tables[-1]
    assert [row[:2] for row in budgets.rows][-2:] == [["two", "fine_tune"], ["two", "l2_sp"]]
    assert [r for r in report.remarks if "methods.delta" not in r and r.startswith("WARNING")] == []


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('backbone = "resnet50"', 'backbone = "resnet18"', "backbone (one: resnet50, two: resnet18)"),
        ("epochs = 3", "epochs = 30", "train.epochs (one: 3, two: 30)"),
        ('sampler = "random"', 'sampler = "qmc"', "sampler (one: random, two: qmc)"),
        ("seeds = [0, 1, 2]", "seeds = [3, 4, 5]", "seeds (one: [0, 1, 2], two: [3, 4, 5])"),
    ],
)
def test_what_differs(runs: list[RunDir], old: str, new: str, named: str) -> None:
    """Another backbone, number of epochs, sampler or set of seeds is a warning with both values."""
    text = runs[1].experiment_file.read_text()
    assert old in text
    runs[1].experiment_file.write_text(text.replace(old, new))
    remarks = comparison_report(read_runs(runs)).remarks
    assert any(r.startswith("WARNING: the runs differ in ") and named in r for r in remarks)


def test_another_number_of_trials(tmp_path: Path, runs: list[RunDir]) -> None:
    """A run with more trials is warned of, and no word is given."""
    more = write_run(tmp_path / "more", ("birds",), (0.15, 1.0), 2, trials=9, epochs=3, pruned=0.0, files=False)
    report = comparison_report(read_runs([runs[0], more]))
    assert any("differ in trials (one: 6, more: 9)" in remark for remark in report.remarks)
    assert {row[-1] for row in report.tables[1].rows} == {"not judged (budgets differ)"}


def test_no_shared_studies(tmp_path: Path, runs: list[RunDir]) -> None:
    """Runs of different tasks stand side by side without statistics, and that is said."""
    other = write_run(tmp_path / "other", ("cars",), (1.0,), 2, trials=6, epochs=3, pruned=0.0, files=False)
    report = comparison_report(read_runs([runs[0], other]))
    assert [table.name for table in report.tables] == ["compare", "compare_budget"]
    assert any(remark.startswith("No statistics") for remark in report.remarks)


def test_equal_names(tmp_path: Path, runs: list[RunDir]) -> None:
    """Two runs of one name are told apart by their paths."""
    same = write_run(tmp_path / "b" / "one", ("birds",), (1.0,), 2, trials=3, epochs=3, pruned=0.0, files=False)
    labels = [run.label for run in read_runs([runs[0], same])]
    assert labels == [str(runs[0].path), str(same.path)]


def test_one_run_is_no_comparison(runs: list[RunDir]) -> None:
    """A run alone, or named twice, cannot be compared."""
    for given in (runs[:1], [runs[0], runs[0]]):
        with pytest.raises(UserError, match="two different runs"):
            read_runs(given)


def test_the_command(runs: list[RunDir], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``compare`` shows the tables and writes them as a page, Markdown, CSV and LaTeX; a mistake is one line."""
    out = tmp_path / "out"
    assert main(["compare", *(str(run.path) for run in runs), "--out", str(out)]) == 0
    assert "one: birds 15 %" in capsys.readouterr().out
    kinds = {
        f"{name}.{kind}" for name in ("compare", "compare_budget", "compare_statistics") for kind in ("csv", "tex")
    }
    assert {path.name for path in out.iterdir()} == {"compare.md", "index.html"} | kinds
    assert main(["compare", str(runs[0].path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
