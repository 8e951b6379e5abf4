"""README and guides: short enough, no link that leads nowhere, no command that does not exist."""

import ast
import re
import runpy
import shlex
from pathlib import Path

import pytest

from cotuning_tune import cli, methods
from cotuning_tune.cli import _server
from cotuning_tune.experiment import parse

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
README_WORDS = 900


def links_of(page: Path) -> list[Path]:
    """The files that a page links to; addresses in the web are left out."""
    found = (link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link)
    return [(page.parent / link).resolve() for link in found]


def test_the_readme_is_short() -> None:
    """At most 900 words; what is longer belongs to a page of docs/."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= README_WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_resolves(page: Path) -> None:
    """Each relative link of a page names a file that is there."""
    assert [link for link in links_of(page) if not link.exists()] == []


def test_the_readme_leads_to_every_page() -> None:
    """It links the main pages and the site's first one; every other stands in the navigation (``test_site``)."""
    main = {"index", "first-search", "own-photos", "experiment-file", "methods", "report", "durability", "launch"}
    assert {ROOT / "docs" / f"{name}.md" for name in main} <= set(links_of(ROOT / "README.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one(page: Path) -> None:
    """The command line accepts each command of a page's code blocks, options and choices included."""
    lines = [line for block in BLOCK.findall(page.read_text(encoding="utf-8")) for line in block.splitlines()]
    for line in lines:
        if line.startswith("cotuning-tune ") and " | " not in line:
            server, words = _server.asked(shlex.split(line, comments=True)[1:], "")
            parser = _server.make_parser(cli.Parser) if server else cli.make_parser()
            assert parser.parse_args(words).command == words[0]


EXPERIMENTS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```toml\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))
    if block.startswith("[experiment]") and "tasks =" in block
]


@pytest.mark.parametrize("text", EXPERIMENTS)
def test_every_experiment_is_one(text: str) -> None:
    """Each whole experiment that a page shows is read without an error, and has studies."""
    assert parse(text, "shown", ROOT).studies


def messages() -> set[str]:
    """Every text of the source, with … for what is put in."""
    found = set[str]()
    for path in (ROOT / "cotuning_tune").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_every_message_is_one_of_the_program() -> None:
    """The page of errors quotes what the source says."""
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    said = "\n".join(messages())
    assert len(rows) > 30
    assert [row for row in rows if row not in said] == []


def test_what_follows_from_the_code_is_written_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """README and guides name the methods that there are, with their lines and sources: ``scripts/write_tables.py``."""
    script = runpy.run_path(str(ROOT / "scripts" / "write_tables.py"))
    monkeypatch.setattr("sys.argv", ["write_tables.py", "--check"])
    assert script["main"]() == 0, capsys.readouterr().out
    rows = script["table_of_methods"]().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == methods.names()
    assert [row.split("`")[1] for row in rows if row.endswith("|  |")] == ["fine_tune"]
