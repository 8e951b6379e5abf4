"""Saved data sets of Hugging Face, written as ``save_to_disk`` writes them, and Parquet files as the Hub has them."""

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import FileDataSet
from cotuning_tune.testing import pixels_of
from tests.data.test_csv_list import names
from tests.data.test_data_sets import make

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": ["zebra", "ant", "yak"]},
    "id": {"_type": "Value", "dtype": "int64"},
}


def encoded(seed: int) -> bytes:
    """The bytes of an image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (9, 8), (seed, 0, 255 - seed)).save(buffer, "PNG")
    return buffer.getvalue()


def table(count: int = 4, features: dict[str, Any] | None = FEATURES, **columns: Any) -> pa.Table:
    """Images 0, 1, ... of the classes 0 and 1 in turn; other columns in the place of these."""
    whole = {
        "image": pa.array([{"bytes": encoded(n), "path": None if n % 2 else f"p{n}.PNG"} for n in range(count)], IMAGE),
        "label": [n % 2 for n in range(count)],
        "id": list(range(count)),
    } | columns
    made = pa.table({name: values for name, values in whole.items() if values is not None})
    info = {"huggingface": json.dumps({"info": {"features": features}})}
    return made.replace_schema_metadata(info if features is not None else None)


def saved(folder: Path, *parts: pa.Table) -> None:
    """A folder of ``Dataset.save_to_disk``, of one file or several."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [f"data-{n:05d}-of-{len(parts):05d}.arrow" for n in range(len(parts))]
    for file, part in zip(files, parts, strict=True):
        with pa.ipc.new_stream(folder / file, part.schema) as stream:
            stream.write_table(part, max_chunksize=3)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in files]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))


def saved_dict(root: Path, **splits: pa.Table) -> Path:
    """A folder of ``DatasetDict.save_to_disk``."""
    for split, part in splits.items():
        saved(root / split, part)
    (root / "dataset_dict.json").write_text(json.dumps({"splits": [*splits]}))
    return root


def opened(root: Path, **options: object) -> FileDataSet:
    """The data set in this folder."""
    found = make("hf_dataset", root=str(root), **options)
    assert isinstance(found, FileDataSet)
    return found


def colours(listing: Any) -> list[int]:
    """The number of each image, by its colour."""
    return [int(pixels[0, 0, 0]) for pixels in pixels_of(listing)]


@pytest.mark.parametrize("embedded", [True, False])
def test_a_dict_of_splits(tmp_path: Path, embedded: bool) -> None:
    """Splits, labels, their names and order, and the bytes of every image; classes without an image are told."""
    features = FEATURES if embedded else None
    saved_dict(tmp_path, train=table(7, features), validation=table(2, features), test=table(4, features))
    found = opened(tmp_path)
    assert found.class_names == ("zebra", "ant")
    assert names(found, "train") == [f"train/{n:06d}.png" for n in range(7)]
    assert (names(found, "val"), len(names(found, "test"))) == (["validation/000000.png", "validation/000001.png"], 4)
    listing = found.train()
    assert (listing.labels, colours(listing)) == ([0, 1, 0, 1, 0, 1, 0], [*range(7)])
    files = found.files("test")
    assert files
    assert (files.root / "test/000003.png").read_bytes() == encoded(3)
    assert found.not_taken() == ["1 not taken, a class without an image: yak"]


def test_a_single_one(tmp_path: Path) -> None:
    """A share of each class is the test split; several files are one after the other."""
    saved(tmp_path, table(10), table(10))
    found = opened(tmp_path)
    test = found.files("test")
    assert test
    assert sorted(test.labels) == [0, 0, 1, 1]
    whole = sorted(names(found, "train") + names(found, "test"))
    assert whole == [f"{n:06d}.png" for n in range(20)]
    assert sorted(colours(found.train()) + colours(found.test())) == sorted([*range(10)] * 2)


def test_parquet_of_the_hub(tmp_path: Path) -> None:
    """Files of Parquet with the splits in their names."""
    for split, count in (("train", 2), ("test", 1)):
        for n in range(count):
            (tmp_path / "data").mkdir(exist_ok=True)
            pq.write_table(table(4), tmp_path / "data" / f"{split}-{n:05d}-of-{count:05d}.parquet")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "train.parquet").write_bytes(b"")
    found = opened(tmp_path)
    assert names(found, "test") == [f"data/test-00000-of-00001/{n:06d}.png" for n in range(4)]
    assert colours(found.train()) == [0, 1, 2, 3] * 2
    (tmp_path / "data").rename(tmp_path / "small")
    (tmp_path / "big" / "train").mkdir(parents=True)
    pq.write_table(table(4), tmp_path / "big" / "train" / "0.parquet")
    with pytest.raises(UserError, match="holds several data sets, in big/ and small/: set root to one of these"):
        opened(tmp_path)
    assert len(names(opened(tmp_path, **{"splits/train": "big/*", "splits/test": "small/test*"}), "train")) == 4


def test_columns(tmp_path: Path) -> None:
    """Named where there are several; plain bytes are images too; labels without names keep their texts."""
    fine = {"fine": {"_type": "ClassLabel", "names": ["x", "y"]}}
    data = table(
        10,
        {**FEATURES, **fine},
        raw=pa.array([encoded(200)] * 10),
        thumb=pa.array([{"bytes": encoded(100), "path": None}] * 10, IMAGE),
        fine=[n // 5 for n in range(10)],
    )
    saved(tmp_path, data)
    with pytest.raises(UserError, match="has several columns of images, image and thumb: say image = one of image, "):
        opened(tmp_path)
    with pytest.raises(UserError, match="has several columns of labels, label and fine: say label = one of"):
        opened(tmp_path, image="thumb")
    found = opened(tmp_path, image="thumb", label="fine")
    assert (found.class_names, set(colours(found.train()))) == (("x", "y"), {100})
    found = opened(tmp_path, image="raw", label="id", test_fraction=0.5)
    assert found.class_names == tuple(map(str, range(10)))
    with pytest.raises(UserError, match="has no column what"):
        opened(tmp_path, image="raw", label="what")
    with pytest.raises(UserError, match="id holds int64, no image files"):
        opened(tmp_path, image="id")


def test_other_splits(tmp_path: Path) -> None:
    """Those that cannot be told are asked for; what is not used is told."""
    saved_dict(tmp_path, train=table(), validation=table(), extra=table(2))
    with pytest.raises(UserError, match="train is of the train split, but what is extra: say splits"):
        opened(tmp_path)
    found = opened(tmp_path, **{"splits/train": "train", "splits/test": "validation"})
    assert names(found, "test")[0] == "validation/000000.png"
    assert found.not_taken()[1] == "1 not taken, of no split that is used: extra"


def test_class_names_of_several_files(tmp_path: Path) -> None:
    """Files that number the same classes otherwise are joined by the names; names in some files only are refused."""
    turned = FEATURES | {"label": {"_type": "ClassLabel", "names": ["ant", "zebra"]}}
    root = saved_dict(tmp_path / "one", train=table(), test=table(4, turned))
    found = opened(root)
    assert (found.class_names, found.train().labels, found.test().labels) == (("zebra", "ant"), [0, 1] * 2, [1, 0] * 2)
    for train, test, words in ((FEATURES, {}, "does not name the classes"), ({}, FEATURES, "names the classes")):
        root = saved_dict(tmp_path / words, train=table(4, train), test=table(4, test))
        with pytest.raises(UserError, match=rf"test/data-00000-of-00001\.arrow {words} of label, files before"):
            opened(root)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": [0, None, 1, 0]}, "arrow row 2: no label in label"),
        ({"label": [0, 1, 0, -1]}, "arrow row 4: no label in label"),
        ({"label": [0, 1, 3, 0]}, "arrow row 3: 3 in label; 0 to 2 are possible"),
        ({"label": [[0], [1], [0], [0]]}, r"arrow row 1: label holds \[0\]; one class is needed"),
        ({"label": None}, "has no column of labels: say label = one of image, id"),
        ({"image": pa.array([{"bytes": None, "path": "/etc/x.png"}] * 4, IMAGE)}, "row 1: image names the file /etc/x"),
        ({"image": pa.array([None] * 4, IMAGE)}, "row 1: image holds no image"),
        ({"image": [[1, 2]] * 4}, "image holds list<.*>, no image files"),
        ({"image": None}, "has no column of images: say image = one of label, id"),
    ],
)
def test_mistakes_in_rows(tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    """Each is one line with the file, and the row where there is one."""
    saved_dict(tmp_path, train=table(), test=table(**columns))
    with pytest.raises(UserError) as caught:
        opened(tmp_path)
    assert re.search(words, str(caught.value)), caught.value
    assert str(caught.value).startswith(str(tmp_path / "test" / "data-00000-of-00001.arrow"))
    assert "\n" not in str(caught.value)


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a file of JSON."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "edit", "words"),
    [
        ("dataset_dict.json", lambda found: found.update(splits=3), "dataset_dict.json lists no splits"),
        ("dataset_dict.json", lambda found: found.update(splits=["../x"]), r"'\.\./x' leads out of"),
        ("dataset_dict.json", lambda found: found.update(splits=["train", "gone"]), "gone has no state.json"),
        ("train/state.json", lambda found: found.clear(), "state.json names no data files"),
        ("train/state.json", lambda found: found["_data_files"].clear(), "state.json names no data files"),
        ("train/state.json", lambda found: found["_data_files"][0].update(filename="/x"), "'/x' leads out of"),
        ("train/state.json", lambda found: found["_data_files"][0].update(filename="x"), "lacks x, which its state"),
        ("train/state.json", lambda found: found.update(_indices_data_files=[1]), "holds an index .*flatten_indices"),
    ],
)
def test_mistakes_in_the_folder(
    tmp_path: Path, file: str, edit: Callable[[dict[str, Any]], object], words: str
) -> None:
    """A damaged folder is one line that names the file."""
    saved_dict(tmp_path, train=table(), test=table())
    change(tmp_path / file, edit)
    with pytest.raises(UserError, match=words) as caught:
        opened(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("cut", [0, 100, 1500, -600])
@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_cut_off(tmp_path: Path, cut: int, ending: str) -> None:
    """Half a file is one line."""
    saved(tmp_path, table(20))
    path = tmp_path / "data-00000-of-00001.arrow"
    if ending == "parquet":
        path.unlink()
        (tmp_path / "state.json").unlink()
        path = tmp_path / "x.parquet"
        pq.write_table(table(20), path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=rf"{path.name} (cannot be read: |is cut off)") as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


def test_zeros_in_the_middle(tmp_path: Path) -> None:
    """A file whose second batch is overwritten by zeros is not taken for one that ends there."""
    saved(tmp_path, table(9))
    path = tmp_path / "data-00000-of-00001.arrow"
    whole = path.read_bytes()
    starts = [
        n for n in range(8, len(whole), 8) if whole[n : n + 4] == b"\xff" * 4 and whole[n + 4 : n + 8] != bytes(4)
    ]
    assert len(starts) == 3
    path.write_bytes(whole[: starts[1]] + bytes(256) + whole[starts[1] + 256 :])
    with pytest.raises(UserError, match=r"arrow is damaged at byte \d+: more follows the end of its rows"):
        opened(tmp_path)


def test_wrong_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, one that is none of Hugging Face's, and pyarrow that is not installed."""
    for options, words in (({}, "set root"), ({"root": "/no/such"}, "there is no /no/such")):
        with pytest.raises(UserError, match=words):
            make("hf_dataset", **options)
    with pytest.raises(UserError, match=r"has no dataset_dict\.json, no state\.json and no \.parquet file"):
        opened(tmp_path)
    saved(tmp_path, table(10))
    for name in ("pyarrow", "pyarrow.ipc", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"arrow needs one more package to be read: pip install pyarrow"):
        opened(tmp_path)
