"""The one walk over folders: as people's folders are."""

import os
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.walk import sub_folders, told, walk


def made(root: Path, *names: str) -> Path:
    """Files with these names below a folder."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_what_counts(tmp_path: Path) -> None:
    """Images of every ending that is read, below folders of any name; in the order of their parts."""
    names = ["a/b.JPG", "a/beach.jpg/c.png", "a.jfif", "b.webp", "c.pgm", "d.avif", "e.heic", "ümlaut (1).tiff"]
    assert walk(made(tmp_path, *names)).images == names


def test_what_is_passed_over(tmp_path: Path) -> None:
    """What tools leave behind never counts; formats that are not read, other files and broken links are told."""
    made(tmp_path, "a.jpg", ".ipynb_checkpoints/a-checkpoint.jpg", "__MACOSX/a.jpg", "x/@eaDir/a.jpg", "._a.jpg")
    made(tmp_path, "Thumbs.db", "scan.psd", "x/list.csv", "x/raw.NEF")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = walk(tmp_path)
    assert found.images == ["a.jpg"]
    assert told(found.passed) == [
        "1 not taken, a broken link: gone.jpg",
        "5 not taken, hidden or left behind by a tool: ._a.jpg, ...",
        "1 not taken, no image: x/list.csv",
        "2 not taken, of a format that is not read: scan.psd, ...",
    ]
    assert told(found.below("train/a").passed)[0] == "1 not taken, a broken link: train/a/gone.jpg"


def test_links_are_followed(tmp_path: Path) -> None:
    """A linked folder's images count; a link back to a folder above it would never end and is refused."""
    made(tmp_path / "elsewhere", "1.png", "2.png")
    made(tmp_path / "data", "a/0.png")
    (tmp_path / "data" / "a" / "more").symlink_to("../../elsewhere")
    (tmp_path / "data" / "again").symlink_to("../elsewhere")
    assert walk(tmp_path / "data").images == ["a/0.png", "a/more/1.png", "a/more/2.png", "again/1.png", "again/2.png"]
    (tmp_path / "elsewhere" / "loop").symlink_to("../data")
    with pytest.raises(UserError, match=r"loop is a link to a folder that it lies in"):
        walk(tmp_path / "data")


def test_what_cannot_be_listed(tmp_path: Path) -> None:
    """One line with the folder."""
    with pytest.raises(UserError, match=r"none cannot be listed: No such file"):
        walk(tmp_path / "none")


def test_names_of_classes(tmp_path: Path) -> None:
    """Composed alike, whatever system wrote them; two that look the same, and bytes that are no text, are refused."""
    (tmp_path / "Ka\u0308fer").mkdir()
    (tmp_path / "Ameise").mkdir()
    assert sub_folders(tmp_path) == {"Ameise": "Ameise", "K\u00e4fer": "Ka\u0308fer"}
    (tmp_path / "K\u00e4fer").mkdir()
    with pytest.raises(UserError, match="has two folders 'Käfer'"):
        sub_folders(tmp_path)
    (tmp_path / "K\u00e4fer").rmdir()
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(UserError, match=r"has the folder 'caf\\udce9', whose name is not UTF-8: rename it"):
        sub_folders(tmp_path)
