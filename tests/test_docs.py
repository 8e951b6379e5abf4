"""README and guides: short enough, no link that leads nowhere, no command that does not exist."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from cotuning_tune import cli, methods

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
    """No page of docs/ is found only by listing the folder."""
    assert {page for page in PAGES if page.parent.name == "docs"} <= set(links_of(ROOT / "README.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one(page: Path) -> None:
    """The command line accepts each command of a page's code blocks, options and choices included."""
    lines = [line for block in BLOCK.findall(page.read_text(encoding="utf-8")) for line in block.splitlines()]
    for line in lines:
        if line.startswith("cotuning-tune ") and " | " not in line:
            words = shlex.split(line, comments=True)[1:]
            assert cli.make_parser().parse_args(words).command == words[0]


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
