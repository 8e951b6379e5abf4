"""Lists of images as Parquet and JSON Lines: the same columns, options and lines of mistakes as CSV."""

import re
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import FileDataSet
from tests.data.test_csv_list import make, names

LABELS = ["1", "10", "2", "1", "10", "2"]


def parquet(place: Path, **columns: Any) -> FileDataSet:
    """The list in a Parquet file of these columns."""
    pq.write_table(pa.table(columns), place, row_group_size=2)
    return make(place)


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.uint8(), pa.large_string()])
def test_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    """Columns are guessed, and labels that are numbers are the same classes as their texts, in number's order."""
    found = parquet(
        tmp_path / "l.parquet",
        id=[9] * 6,
        file_name=[f"{n}.jpg" for n in range(6)],
        label=pa.array([int(n) if pa.types.is_integer(kind) else n for n in LABELS], kind),
        split=["train"] * 3 + ["dev"] + ["testing"] * 2,
    )
    assert found.class_names == ("1", "2", "10")
    files = found.files("train")
    assert files
    assert (files.names, files.labels) == (["0.jpg", "1.jpg", "2.jpg"], [0, 2, 1])
    assert (names(found, "val"), names(found, "test")) == (["3.jpg"], ["4.jpg", "5.jpg"])


def test_parquet_of_categories(tmp_path: Path) -> None:
    """What pandas writes of a categorical column are its texts; without a column of splits a share is the test."""
    label = pa.array(["b", "a"] * 10).dictionary_encode()
    found = parquet(tmp_path / "l.PQ", path=[f"{n}.jpg" for n in range(20)], label=label)
    assert found.class_names == ("a", "b")
    assert (len(names(found, "train")), len(names(found, "test"))) == (16, 4)


def test_json_lines(tmp_path: Path) -> None:
    """An object a line; numbers are texts; other keys are passed over."""
    rows = [
        f'{{"file_name": "{n}.jpg", "x": [1], "label": {n % 2}, "split": "{"test" if n > 3 else "train"}"}}'
        for n in range(6)
    ]
    found = make(tmp_path / "l.jsonl", "\n".join(rows) + "\n\n")
    assert found.class_names == ("0", "1")
    assert (names(found, "train"), names(found, "test")) == (["0.jpg", "1.jpg", "2.jpg", "3.jpg"], ["4.jpg", "5.jpg"])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": ["a", None, "b"]}, "row 2: no path or no label"),
        ({"path": ["a.jpg", "b.jpg", "./a.jpg"]}, "row 3: a.jpg stands in row 1 already"),
        ({"path": ["a.jpg", "b.jpg", "../a.jpg"]}, r"row 3: '\.\./a\.jpg' leads out of"),
        ({"split": ["train", "test", "holdout"]}, "row 3: no split 'holdout'; there are train"),
        ({"label": [["a"], ["b"], ["a"]]}, "row 1: label is a list of 1; one value is needed"),
        ({"path": [{"bytes": b"x", "path": "a"}] * 3}, "row 1: path holds images, not their paths: .*hf_dataset"),
        ({"label": None}, "no column label or class or class_name: there are path$"),
    ],
)
def test_mistakes_of_parquet(tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    """Each is one line with the file, the row where there is one, and what is wrong."""
    whole = {"path": ["a.jpg", "b.jpg", "c.jpg"], "label": ["a", "b", "a"]} | columns
    with pytest.raises(UserError) as caught:
        parquet(tmp_path / "l.parquet", **{name: values for name, values in whole.items() if values})
    assert re.search(words, str(caught.value)), caught.value
    assert str(caught.value).startswith(str(tmp_path / "l.parquet"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"path": "a", "label": 1}\n{"path"', "line 2: no JSON "),
        ('{"path": "a", "label": 1}\n[1]', "line 2: an object is needed"),
        ('{"path": "a", "label": 1}\n{"path": "b"}', "line 2: no path or no label"),
        ('{"path": "a"}', "no column label or class or class_name: its first line names path$"),
        ("", "no column path or file or image: its first line names none"),
    ],
)
def test_mistakes_of_json_lines(tmp_path: Path, text: str, words: str) -> None:
    """Each names the line."""
    with pytest.raises(UserError) as caught:
        make(tmp_path / "l.jsonl", text)
    assert re.search(words, str(caught.value)), caught.value


@pytest.mark.parametrize("data", [b"", b"PAR1" + b"\0" * 40 + b"PAR1", b"path,label\na,b\n"])
def test_no_parquet(tmp_path: Path, data: bytes) -> None:
    """A damaged file is one line."""
    with pytest.raises(UserError, match=r"l\.parquet cannot be read: ") as caught:
        make(tmp_path / "l.parquet", data)
    assert "\n" not in str(caught.value)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyarrow is not installed, one line says so; CSV needs none."""
    for name in ("pyarrow", "pyarrow.ipc", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"l\.parquet needs one more package to be read: pip install pyarrow"):
        make(tmp_path / "l.parquet", b"PAR1")
    assert make(tmp_path / "l.csv", "path,label\na.jpg,x\nb.jpg,y\n").class_names == ("x", "y")
