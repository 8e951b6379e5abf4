"""Folders with metadata files, as Hugging Face's imagefolder has them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import FileDataSet
from cotuning_tune.testing import pixels_of
from tests.data.test_csv_list import names
from tests.data.test_data_sets import make

Write = Callable[..., Path]
ROWS = [{"file_name": f"{n}.png", "label": n % 2 + 9, "text": "a, b"} for n in range(4)]


def opened(root: Path, **options: object) -> FileDataSet:
    """The data set in this folder."""
    found = make("hf_imagefolder", root=str(root), **options)
    assert isinstance(found, FileDataSet)
    return found


def table(path: Path, rows: list[dict[str, object]]) -> None:
    """A metadata file in the format of its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0]), *(",".join(f'"{value}"' for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_table_in_each_split(tmp_path: Path, write_image: Write, ending: str) -> None:
    """Names are relative to the table; the folder is the split; what no table names is told."""
    for split in ("train", "Validation", "test"):
        table(tmp_path / split / f"metadata.{ending}", ROWS)
        for n in range(4):
            write_image(tmp_path / split / f"{n}.png", n)
    write_image(tmp_path / "test" / "more.png")
    (tmp_path / "test" / "notes.txt").write_text("")
    found = opened(tmp_path)
    assert found.class_names == ("9", "10")
    assert names(found, "train") == [f"train/{n}.png" for n in range(4)]
    assert names(found, "val") == [f"Validation/{n}.png" for n in range(4)]
    listing = found.test()
    assert (listing.labels, pixels_of(listing).shape) == ([0, 1, 0, 1], (4, 3, 8, 8))
    assert found.not_taken() == [
        "1 not taken, named in no metadata file: test/more.png",
        "1 not taken, no image: test/notes.txt",
    ]


def test_one_table(tmp_path: Path) -> None:
    """The first folder of the names is the split; a column of splits counts before it; without both, a share."""
    rows = [{"file_name": f"{split}/{n}.png", "label": "ab"[n % 2]} for split in ("train", "test") for n in range(4)]
    table(tmp_path / "one" / "metadata.csv", rows)
    assert names(opened(tmp_path / "one"), "test") == [f"test/{n}.png" for n in range(4)]
    table(
        tmp_path / "two" / "metadata.csv",
        [row | {"split": "test" if "0" in row["file_name"] or "1" in row["file_name"] else "train"} for row in rows],
    )
    assert names(opened(tmp_path / "two"), "test") == ["train/0.png", "train/1.png", "test/0.png", "test/1.png"]
    table(tmp_path / "three" / "metadata.jsonl", [{"file_name": f"x/{n}.png", "label": n % 2} for n in range(20)])
    assert len(names(opened(tmp_path / "three"), "test")) == 4
    assert len(names(opened(tmp_path / "three", test_fraction=0.5), "test")) == 10


def test_labels(tmp_path: Path) -> None:
    """Another column is named; without one the folder of an image is its class."""
    rows = [
        {"file_name": f"{split}/{k}/{n}.png", "kind": f"k{n}"}
        for split in ("train", "test")
        for k in "ab"
        for n in (1, 2)
    ]
    table(tmp_path / "metadata.csv", rows)
    assert opened(tmp_path).class_names == ("a", "b")
    assert opened(tmp_path, label="kind").class_names == ("k1", "k2")


GOOD: dict[str, list[dict[str, object]]] = {"train/metadata.csv": list(ROWS), "test/metadata.csv": list(ROWS)}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "has no metadata.csv, metadata.jsonl, metadata.parquet, and none of its folders has: x"),
        (GOOD | {"x/metadata.csv": ROWS}, "x/ has a table, but is not a split: train, training"),
        ({"train/metadata.csv": ROWS, "test/0.csv": ROWS}, "test/ has none of metadata.csv, .*, but train/ has"),
        (GOOD | {"test/metadata.jsonl": ROWS}, "test has metadata.csv and metadata.jsonl: keep one"),
        ({"train/metadata.csv": ROWS}, "has no row of the test split"),
        (
            {"metadata.csv": [{"file_name": "train/a.png", "label": 1}, {"file_name": "b/b.png", "label": 2}]},
            "b/b.png lies in no folder of a split, others do",
        ),
        ({"metadata.csv": [{"file": "a.png"}]}, "metadata.csv has no column file_name: its first row names file$"),
        ({"metadata.csv": [{"file_name": "train/a.png"}]}, "has no column label or .*train/a.png lies in no class"),
        ({"train/metadata.csv": [*ROWS, {"file_name": "../../a", "label": 1, "text": ""}]}, "line 6: .*leads out of"),
        (GOOD | {"train/metadata.csv": [{"file_name": "a", "label": ""}]}, "train/metadata.csv line 2: no path or no"),
        (GOOD | {"test/metadata.csv": [{"file_name": "a", "label": "new"}]}, "no training image of class 'new'"),
    ],
)
def test_mistakes(tmp_path: Path, files: dict[str, list[dict[str, object]]], words: str) -> None:
    """Each is one line that names the folder or the table."""
    (tmp_path / "x").mkdir()
    for name, rows in files.items():
        table(tmp_path / name, rows)
    with pytest.raises(UserError) as caught:
        opened(tmp_path)
    assert re.search(words, str(caught.value)), caught.value
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_images(tmp_path: Path) -> None:
    """Images that a table names, but that are not there, are counted and named; no folder at all is said."""
    for name, rows in GOOD.items():
        table(tmp_path / name, rows)
    with pytest.raises(UserError, match=r"4 of 4 listed images are not in .*: train/0\.png"):
        opened(tmp_path).train()
    for options, words in (({"root": ""}, "set root"), ({"root": "/no/such"}, "there is no /no/such")):
        with pytest.raises(UserError, match=words):
            make("hf_imagefolder", **options)
