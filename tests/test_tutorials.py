"""The tutorials' commands are run as they stand, on tiny things: what ``<!-- run -->`` and ``<!-- file X -->`` mark."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^<!-- (run|file (\S+)) -->\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
TINY = {  # what stands in the tutorials for what takes long
    'backbone = "resnet50"': 'backbone = "tiny_cnn"',
    "trials = 8": "trials = 2\nseeds = [0]\nselection = 'max'",
    "epochs = 10": "epochs = 1",
    "[train]\n": "[task]\nsize = 16\nresize = 16\n\n[train]\n",
}
PAGES = {"first-search": 2, "own-photos": 4, "resuming": 2}  # how many marked blocks each has


def blocks(page: str) -> list[tuple[str, str]]:
    """The marked blocks of a page: the name of a file, '' for commands; and the text."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return [(name, body) for _, name, body in BLOCK.findall(text)]


@pytest.mark.parametrize(("page", "count"), PAGES.items())
def test_the_blocks_are_found(page: str, count: int) -> None:
    """A mark that is mistyped would run nothing."""
    assert len(blocks(page)) == count
    assert (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").count("<!--") == count


def test_every_tutorial_is_run() -> None:
    """No other page has marked blocks."""
    assert {path.stem for path in ROOT.glob("docs/*.md") if blocks(path.stem)} == set(PAGES)


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str], str]:
    """A shell in a new folder that has ``search_spaces/`` and ``cotuning-tune``."""
    program = tmp_path / "bin" / "cotuning-tune"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cotuning_tune.cli "$@"\n')
    program.chmod(0o755)
    shutil.copytree(ROOT / "search_spaces", tmp_path / "search_spaces")
    paths = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(commands: str) -> str:
        done = subprocess.run(
            ["sh", "-e", "-c", commands],
            cwd=tmp_path,
            env=os.environ | paths,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.proof
def test_first_search_and_resuming(tmp_path: Path, shell: Callable[[str], str]) -> None:
    """A run, looked at, resumed and extended."""
    for page in ("first-search", "resuming"):
        for _, commands in blocks(page):
            shell(commands)
    assert (tmp_path / "runs" / "tiny" / "report" / "index.html").is_file()
    assert len(list((tmp_path / "runs" / "tiny" / "studies" / "synthetic-1.00-bss" / "trials").glob("????"))) >= 6


@pytest.mark.proof
def test_own_photos(tmp_path: Path, shell: Callable[[str], str], write_image: Callable[..., Path]) -> None:
    """From JPEG files to the class of a photo that nobody has labelled."""
    for seed, (name, number) in enumerate((name, number) for name in ("apple", "leaf", "sky") for number in range(12)):
        write_image(tmp_path / "photos" / name / f"IMG_{number:04d}.JPG", seed, side=(60, 40))
    write_image(tmp_path / "new" / "one.jpg", 99, side=(60, 40))
    for name, text in blocks("own-photos"):
        if name:
            for long, short in TINY.items():
                assert long in text
                text = text.replace(long, short)
            (tmp_path / name).write_text(text)
        else:
            shell(text)
    header, row = (tmp_path / "classes.csv").read_text().splitlines()
    assert header == "path,class,probability,p(apple),p(leaf),p(sky)"
    assert row.startswith("one.jpg,")
