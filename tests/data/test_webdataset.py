"""Tar shards of WebDataset: samples by name, splits by the shards' names, and what is wrong with one."""

import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cotuning_tune.base.cache import cache_root
from cotuning_tune.base.errors import UserError
from cotuning_tune.data import FileDataSet
from cotuning_tune.testing import pixels_of
from tests.data.test_csv_list import names
from tests.data.test_data_sets import make

Members = dict[str, bytes | str]


def image(seed: int, kind: str = "PNG") -> bytes:
    """The bytes of an image file of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (9, 8), (seed, 0, 255 - seed)).save(buffer, kind)
    return buffer.getvalue()


def shard(path: Path, members: Members) -> Path:
    """A tar file of these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, text in members.items():
            data = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def samples(first: int, count: int = 4, label: str = "cls") -> Members:
    """``count`` images and labels 2, 10, 2, 10."""
    found: Members = {}
    for n in range(first, first + count):
        found[f"{n:04d}.png"] = image(n)
        found[f"{n:04d}.{label}"] = str(2 + 8 * (n % 2)) if label == "cls" else json.dumps({"label": "ab"[n % 2]})
    return found


def opened(root: Path, **options: object) -> FileDataSet:
    """The data set of these shards."""
    found = make("webdataset", root=str(root), **options)
    assert isinstance(found, FileDataSet)
    return found


@pytest.mark.parametrize("place", ["{}-00000{}.tar", "{}/00000{}.tar", "birds-{}-{}.TAR"])
def test_shards_of_splits(tmp_path: Path, place: str) -> None:
    """The word in a shard's path is its split; a key may come again in another shard; labels are texts."""
    for split, count in (("train", 2), ("valid", 1), ("test", 1)):
        for number in range(count):
            shard(tmp_path / place.format(split, number), samples(0))
    found = opened(tmp_path)
    assert found.class_names == ("2", "10")
    stems = [place.format("train", number).rpartition(".")[0] for number in (0, 1)]
    assert names(found, "train") == [f"{stem}/{n:04d}.png" for stem in stems for n in range(4)]
    assert (len(names(found, "val")), len(names(found, "test"))) == (4, 4)
    listing = found.train()
    assert listing.labels == [0, 1] * 4
    assert [int(pixels[0, 0, 0]) for pixels in pixels_of(listing)] == [0, 1, 2, 3] * 2
    assert found.not_taken() == []


def test_labels_in_json(tmp_path: Path) -> None:
    """Without .cls the label is guessed in .json; another key may be named; other fields are told."""
    members = samples(0, 20, "json") | {"0000.txt": "a caption", "._0001.png": "", "readme": "", "0000.seg.npy": b""}
    file = shard(tmp_path / "x.tar", members)
    found = opened(file)
    assert found.class_names == ("a", "b")
    assert (len(names(found, "train")), len(names(found, "test"))) == (16, 4)
    assert found.not_taken() == [
        "1 not taken, hidden or left behind by a tool: x/._0001.png",
        "2 not taken, no image: x/0000.txt, ...",
        "1 not taken, of a format that is not read: x/0000.seg.npy",
    ]
    members = {name: text if name.endswith("png") else '{"id": 7, "kind": true}' for name, text in members.items()}
    members |= {"0003.json": '{"kind": 5}', "0003.cls": "never mind"}
    assert opened(shard(tmp_path / "x.tar", samples(4, 8, "json") | members), label="kind").class_names == ("5", "True")


def test_image_by_ending(tmp_path: Path) -> None:
    """Of several images of a sample one is named; the others are told."""
    members = samples(0, 10) | {f"{n:04d}.mask.png": image(200) for n in range(10)}
    with pytest.raises(UserError, match=r"x\.tar: 0000 has 2 images, png, mask\.png: say image = one of these"):
        opened(shard(tmp_path / "x.tar", members))
    found = opened(tmp_path, image="png")
    assert int(pixels_of(found.train())[:, 0].max()) < 10
    assert found.not_taken() == ["10 not taken, no image: x/0000.mask.png, ..."]


def test_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shards are read at the first call only; a shard that has changed makes it again."""
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path / "cache"))
    file = shard(tmp_path / "data" / "x.tar", samples(0, 10))
    before = names(opened(file), "train")
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)
        assert names(opened(file), "train") == before
    shard(file, samples(0, 12))
    assert len(names(opened(file), "train")) == 10
    assert len(list((cache_root() / "unpacked").iterdir())) == 2


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.png": image(0)}, "a has no label: a a.cls or a.json is needed"),
        ({"a.cls": "1"}, "a has a label, but no image$"),
        ({"a.cls": "1", "a.jxl": b""}, "a has a label, but no image; it has jxl"),
        ({"a.png": image(0), "a.cls": " "}, "a.cls is empty"),
        ({"a.png": image(0), "a.cls": b"\xff\xfe"}, "a.cls is not text"),
        ({"a.png": image(0), "a.cls": "x" * (1 << 21)}, "a.cls has 2097152 bytes, too many for a label"),
        ({"a.png": image(0), "a.json": "{"}, "a.json is not JSON"),
        ({"a.png": image(0), "a.json": '{"x": 1, "y": 2}'}, "a.json has no label or class of one value: it has x, y"),
        ({"a.png": image(0), "a.json": '{"label": [1]}'}, "a.json has no label or class of one value"),
        ({"../../a.png": image(0)}, r"'\.\./\.\./a\.png' leads out of it"),
        ({"/etc/a.cls": "1"}, r"'/etc/a\.cls' leads out of it"),
        ({"a.png": image(0), "a.cls": "1"}, r"1 class\(es\); two or more"),
    ],
)
def test_mistakes_in_samples(tmp_path: Path, members: Members, words: str) -> None:
    """Each is one line with the shard and the sample's name."""
    file = shard(tmp_path / "x.tar", members)
    with pytest.raises(UserError) as caught:
        opened(file)
    assert re.search(words, str(caught.value)), caught.value
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link, or a device, is not made and not read, but told."""
    shard(tmp_path / "x.tar", samples(0, 10))
    with tarfile.open(tmp_path / "x.tar", "a") as archive:
        for name, kind in (("l.png", tarfile.SYMTYPE), ("h.png", tarfile.LNKTYPE), ("d.png", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    assert opened(tmp_path).not_taken() == ["3 not taken, a link in an archive: x/l.png, ..."]


def test_damaged_shards(tmp_path: Path) -> None:
    """Cut off anywhere, overwritten in the middle, empty, or no tar at all: one line, never fewer samples."""
    whole = shard(tmp_path / "w.tar", samples(0, 4)).read_bytes()
    used = np.frombuffer(whole, np.uint8).nonzero()[0].max() // 512 * 512 + 512
    garbage = whole[:2048] + b"\x7f" * 512 + whole[2560:]
    cases = [whole[:cut] for cut in (0, 100, 512, 700, 1024, 1536, 2048, int(used))]
    for data in (*cases, garbage, b"no tar" * 1000):
        (tmp_path / "w.tar").write_bytes(data)
        with pytest.raises(UserError, match=r"w\.tar (cannot be read: |is cut off or damaged at byte )") as caught:
            opened(tmp_path / "w.tar")
        assert "\n" not in str(caught.value)


def test_splits_that_cannot_be_told(tmp_path: Path) -> None:
    """They are asked for; patterns say them, and shards that none takes are told."""
    for name in ("part1-0", "part2-0", "part3-0"):
        shard(tmp_path / f"{name}.tar", samples(0))
    found = opened(tmp_path, **{"splits/train": "part1*", "splits/test": "part3*"})
    assert names(found, "test")[0] == "part3-0/0000.png"
    assert found.not_taken() == ["1 not taken, of no split that is used: part2-0.tar"]
    (tmp_path / "part1-0.tar").rename(tmp_path / "train-0.tar")
    with pytest.raises(UserError, match=r"train-0\.tar is of the train split, but what is part2-0\.tar: say splits"):
        opened(tmp_path)
    for name in ("part2-0", "part3-0"):
        (tmp_path / f"{name}.tar").unlink()
    with pytest.raises(UserError, match=r"there is train, but no test split among train-0\.tar: say splits"):
        opened(tmp_path)
    (tmp_path / "train-0.tar").rename(tmp_path / "train-val-0.tar")
    with pytest.raises(UserError, match=r"train-val-0\.tar may be train or val: say splits"):
        opened(tmp_path)
    with pytest.raises(UserError, match=r"train-val-0\.tar is of the train and of the test split"):
        opened(tmp_path, **{"splits/train": "*", "splits/test": "train*"})


def test_wrong_folders(tmp_path: Path) -> None:
    """No folder, one without shards, compressed shards."""
    for options, words in (({}, "set root"), ({"root": "/no/such"}, "there is no /no/such")):
        with pytest.raises(UserError, match=words):
            make("webdataset", **options)
    with pytest.raises(UserError, match=r"has no \.tar file"):
        opened(tmp_path)
    (tmp_path / "x.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"compressed shards are not read, as x\.tar\.gz"):
        opened(tmp_path)
    with pytest.raises(UserError, match=r"is not a \.tar file"):
        opened(tmp_path / "x.tar.gz")
