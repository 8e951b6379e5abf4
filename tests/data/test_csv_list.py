"""One's own list of images as a table: its columns, its splits, and its mistakes by line."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import FileDataSet, data_set
from cotuning_tune.hyper import build

Write = Callable[..., Path]
ROWS = [f"{n}.jpg,{'ab'[n % 2]},{'test' if n > 3 else 'train'}" for n in range(6)]


def make(place: Path, text: str | bytes | None = None, /, **options: Any) -> FileDataSet:
    """The list in a file that holds this text."""
    if text is not None:
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = data_set("csv_list")
    made = found(build(found.Config, {"file": str(place), **options}), 8)
    assert isinstance(made, FileDataSet)
    return made


def names(found: FileDataSet, split: str) -> list[str]:
    """The names of a split."""
    files = found.files(split)
    return list(files.names) if files else []


@pytest.mark.parametrize("head", ["path,label,split", "file,class,part", "Image,Category,Set", " image , LABEL,subset"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_columns_are_guessed(tmp_path: Path, head: str, mark: str, bom: bytes) -> None:
    """Usual names of columns, commas, semicolons and tabs, and a byte order mark, are understood."""
    text = "\n".join([head, *ROWS]).replace(",", mark)
    found = make(tmp_path / "l.csv", bom + text.encode())
    assert names(found, "train") == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert names(found, "test") == ["4.jpg", "5.jpg"]
    assert found.class_names == ("a", "b")


def test_columns_by_name(tmp_path: Path) -> None:
    """Columns with other names are named in the options; others are passed over."""
    text = "id,where,path,what,fold\n" + "".join(
        f"{n},{n}.jpg,x,{'ab'[n % 2]},{'dev' if n > 3 else 'train' if n < 2 else 'testing'}\n" for n in range(6)
    )
    found = make(tmp_path / "l.csv", text, path="where", label="what", split="fold")
    assert [names(found, split) for split in ("train", "val", "test")] == [
        ["0.jpg", "1.jpg"],
        ["4.jpg", "5.jpg"],
        ["2.jpg", "3.jpg"],
    ]


def test_quotes(tmp_path: Path) -> None:
    """Quoted names may hold commas, quotes and line ends."""
    text = 'path,label,split\r\n"a, b.jpg","one ""two""",train\r\n"c\nd.jpg",x,train\r\ne.jpg,x,test\r\n'
    found = make(tmp_path / "l.csv", text)
    assert names(found, "train") == ["a, b.jpg", "c\nd.jpg"]
    assert found.class_names == ('one "two"', "x")


def test_paths(tmp_path: Path, write_image: Write) -> None:
    """Relative paths start at the table's folder, or at ``root``; absolute ones lie below it; links are followed."""
    write_image(tmp_path / "in" / "a.png")
    write_image(tmp_path / "b.png")
    write_image(tmp_path / "elsewhere" / "c.png")
    (tmp_path / "in" / "c.png").symlink_to(tmp_path / "elsewhere" / "c.png")
    text = f"path,label,split\n./a.png,x,train\n{tmp_path}/in/c.png,y,train\nno/../a2.png,y,test\n"
    listing = make(tmp_path / "in" / "l.csv", text).train()
    assert listing.names == ["a.png", "c.png"]
    assert listing.examples.take([0, 1]).shape == (2, 3, 8, 8)
    text = f"path,label,split\nin/a.png,x,train\n{tmp_path}/b.png,y,train\nb2.png,y,test\n"
    listing = make(tmp_path / "in" / "l.csv", text, root=str(tmp_path)).train()
    assert listing.names == ["in/a.png", "b.png"]
    (tmp_path / "link").symlink_to(tmp_path / "in")
    text = f"path,label,split\n{tmp_path}/link/a.png,x,train\nc.png,y,train\nd.png,y,test\n"
    assert make(tmp_path / "link" / "l.csv", text).train().names == ["a.png", "c.png"]


@pytest.mark.parametrize("path", ["../b.png", "in/../../b.png", "/etc/passwd", "..", "a\0b.png"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    """The line of the table is named, and the way out: the folder that holds all images."""
    text = f"path,label,split\na.png,x,train\n{path},y,train\nc.png,y,test\n"
    with pytest.raises(UserError) as caught:
        make(tmp_path / "l.csv", text)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{tmp_path}/l.csv line 3: ")
    assert "leads out of" in line or "NUL" in line


def test_without_splits(tmp_path: Path) -> None:
    """Without a column of splits a fixed share of each class is the test split, by the names alone."""
    rows = [f"{n}.jpg,{'ab'[n % 2]}" for n in range(20)]
    one = make(tmp_path / "l.csv", "\n".join(["path,label", *rows]))
    other = make(tmp_path / "l.csv", "\n".join(["path,label", *reversed(rows)]))
    files = one.files("test")
    assert files
    assert Counter(files.labels) == {0: 2, 1: 2}
    assert set(names(one, "test")) == set(names(other, "test"))
    assert set(names(one, "test")).isdisjoint(names(one, "train"))
    assert set(names(make(tmp_path / "l.csv", split_seed=1), "test")) != set(names(one, "test"))
    assert len(names(make(tmp_path / "l.csv", test_fraction=0.5), "test")) == 10


def test_numbers_as_labels(tmp_path: Path) -> None:
    """Labels that are numbers stand in their order as numbers."""
    text = "path,label,split\n" + "".join(f"{n}.jpg,{n},train\n{n}x.jpg,{n},test\n" for n in (10, 9, 2))
    assert make(tmp_path / "l.csv", text).class_names == ("2", "9", "10")


HEAD = "path,label,split\n"
GOOD = HEAD + "\n".join(ROWS) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column path or file or image.*first row names none"),
        ("a,b\n1,2\n", "no column path or file or image.*first row names a, b"),
        ("path,x\n1,2\n", "no column label or class"),
        (GOOD + "0.jpg,b,test\n", "line 8: 0.jpg stands in line 2 already"),
        (GOOD + "./0.jpg,a,test\n", "line 8: 0.jpg stands in line 2 already"),
        (GOOD + "9.jpg,a\n", "line 8: 2 cells under 3 columns"),
        (GOOD + "9,5.jpg,a,train\n", "line 8: 4 cells under 3 columns; quote"),
        (GOOD + ",a,train\n", "line 8: no path or no label"),
        (GOOD + "9.jpg, ,train\n", "line 8: no path or no label"),
        (GOOD + "9.jpg,a,holdout\n", "line 8: no split 'holdout'; there are train"),
        (GOOD + "9.jpg,a,\n", "line 8: no split ''"),
        (GOOD + "9.jpg,c,test\n", "no training image of class 'c'"),
        (GOOD.replace("test", "val"), "no row of the test split"),
        (GOOD.replace("train", "val"), "no row of the train split"),
        (GOOD.replace(",b,", ",a,"), r"1 class\(es\); two or more"),
        (HEAD, r"0 class\(es\); two or more"),
        (GOOD + '"9.jpg,a,test\n', "cannot be read: unexpected end of data"),
        (b"path,label\n\xff.jpg,a\n", "cannot be read: 'utf-8' codec"),
    ],
)
def test_mistakes(tmp_path: Path, text: str | bytes, words: str) -> None:
    """Each mistake in the table is one line that names the file, the line where there is one, and what is wrong."""
    with pytest.raises(UserError) as caught:
        make(tmp_path / "l.csv", text)
    assert re.search(words, str(caught.value)), caught.value
    assert str(tmp_path / "l.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"file": ""}, "set file"),
        ({"file": "/no/such/list.csv"}, "/no/such/list.csv cannot be read"),
        ({"label": "kind"}, "no column kind"),
        ({"split": "fold"}, "no column fold"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """A file or a column that is not there is named."""
    (tmp_path / "l.csv").write_text(GOOD)
    with pytest.raises(UserError, match=words):
        make(tmp_path / "l.csv", None, **options)


@pytest.mark.parametrize("fraction", [0, 1, -0.5])
def test_impossible_shares(tmp_path: Path, fraction: float) -> None:
    """A test share outside of 0 to 1 is refused."""
    with pytest.raises(UserError, match="test_fraction"):
        make(tmp_path / "l.csv", "path,label\n1.jpg,a\n2.jpg,b\n", test_fraction=fraction)


def test_a_label_of_thousands_of_digits(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    """More digits than Python makes a number of are a name as any other."""
    rows = [(f"{number}.png", label) for number, label in enumerate(["1", "2", "9" * 5000] * 3)]
    for number, (name, _) in enumerate(rows):
        write_image(tmp_path / name, number)
    text = "path,label\n" + "".join(f"{name},{label}\n" for name, label in rows)
    assert make(tmp_path / "list.csv", text).class_names == ("1", "2", "9" * 5000)


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    """A path with more letters than the file system allows is missing, in one line."""
    text = f"path,label,split\n{'x' * 300},a,train\ny.png,b,train\nz.png,a,test\n"
    with pytest.raises(UserError, match=r"2 of 2 listed images are not in .*: xxx"):
        make(tmp_path / "list.csv", text).train()
