"""Files from strangers: lists that lead out of their folder, images that are none, or giants."""

import io
import json
import pickle
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cotuning_tune.base.cache import cached_arrays
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import leaves
from cotuning_tune.base.pixels import decoded
from cotuning_tune.data import DecodedImages, ImageFiles, open_task
from cotuning_tune.data.images import fgvc_aircraft
from cotuning_tune.data.images._files import Files
from cotuning_tune.inspection.build_coco70 import BuildOptions, read_candidates
from cotuning_tune.inspection.verify import check_file
from cotuning_tune.models.images._weights import load_network, read_checkpoint
from tests.data.miniatures import MINIATURES, SMALL, make
from tests.data.strangers import Network
from tests.data.test_published_mistakes import edit

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("a/b.jpg", False),
        ("a/../b.jpg", False),
        ("..b.jpg", False),
        ("a..jpg", False),
        ("../b.jpg", True),
        ("a/../../b.jpg", True),
        ("/a.jpg", True),
        ("..", True),
        ("a\0.jpg", True),
    ],
)
def test_what_leads_out(name: str, out: bool, tmp_path: Path) -> None:
    """``..`` beyond the folder, an absolute path and a NUL; a name with dots does not. No list of files takes such."""
    assert leaves(name) == out
    if out:
        with pytest.raises(UserError, match="leads out of"):
            Files(tmp_path, ["ok.jpg", name], [0, 1])


@pytest.mark.parametrize(
    ("kind", "source", "old", "new"),
    [
        ("coco70", "train.txt", "train/", "../../"),
        ("coco70", "test.txt", "test/", "/etc/"),
        ("cub200", "images.txt", "001.Black_footed_Albatross/", "001.Black_footed_Albatross/../../../../"),
        ("food101", "train.txt", "/", "/../../../"),
        ("dtd", "val1.txt", "/", "/../../../"),
        ("fgvc_aircraft", "images_variant_test.txt", "", "../../../"),
    ],
)
def test_a_list_that_leads_out_is_refused(kind: str, source: str, old: str, new: str, tmp_path: Path) -> None:
    """The list and its line are named, in one line; nothing outside of the folder is opened."""
    options = MINIATURES[kind](tmp_path, 0)
    (path,) = tmp_path.rglob(source)
    if old:
        edit(path, old, new)
    else:
        path.write_text(new + path.read_text())
    with pytest.raises(UserError) as caught:
        open_task("it", 1.0, SMALL, options, kind)
    line = str(caught.value)
    assert "\n" not in line
    assert "which leads out of it" in line
    assert f"{source} line " in line


def test_links_inside_a_data_folder_work(tmp_path: Path) -> None:
    """An image that is a symbolic link of the folder's owner is read as any other."""
    options = MINIATURES["food101"](tmp_path, 0)
    found = make("food101", options)
    files = found.files("train")  # type: ignore[attr-defined]
    first = files.root / files.names[0]
    first.rename(tmp_path / "moved.jpg")
    first.symlink_to(tmp_path / "moved.jpg")
    assert found.train().examples.take([0]).shape[0] == 1


def test_annotations_that_lead_out_are_refused(tmp_path: Path) -> None:
    """COCO's file names and the categories that name our files stay in their folders."""
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "instances_train2017.json"
    dropped = ["parking meter", "frisbee", "snowboard", "sports ball", "baseball glove", "mouse", "toaster"]
    dropped += ["scissors", "hair drier", "toothbrush"]

    def read(kind: str, file: str) -> None:
        names = [*dropped, *(f"thing {n}" for n in range(69)), kind]
        categories = [{"id": n, "name": name} for n, name in enumerate(names)]
        images = [{"id": 7, "file_name": file, "width": 9, "height": 9}]
        path.write_text(json.dumps({"categories": categories, "images": images, "annotations": []}))
        read_candidates(tmp_path, ["train2017"], BuildOptions())

    read("cat", "1.jpg")
    with pytest.raises(UserError, match=r"image 7 has the file_name '\.\./\.\./x\.jpg' outside of it"):
        read("cat", "../../x.jpg")
    with pytest.raises(UserError, match=r"has the category '\.\./x', which cannot name a file"):
        read("../x", "1.jpg")


def giant() -> bytes:
    """A PNG file of a few hundred bytes that says it has 30000 x 30000 pixels."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", pixels) + part(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "said"),
    [(giant(), "more than task.max_megapixels = 179"), (EPS, "no image that is known"), (b"", "no bytes in it")],
)
def test_a_giant_or_a_program_is_named(data: bytes, said: str, tmp_path: Path) -> None:
    """An image beyond the limit and a PostScript program under an image's name are one line with the file."""
    (tmp_path / "x.jpg").write_bytes(data)
    assert said in str(decoded(data, 8))
    with pytest.raises(UserError, match=r"1 of 1 images in .* cannot be read: x\.jpg \(.*" + said) as caught:
        DecodedImages(ImageFiles(tmp_path, ["x.jpg"], 8))
    assert "\n" not in str(caught.value)
    assert check_file(tmp_path / "x.jpg").kind == "corrupt"


def test_no_other_program_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript; here it is not opened at all."""
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was started"))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    assert decoded(EPS, 8) == "no image that is known"


def test_whatever_a_reader_raises_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file may raise anything in Pillow: it is a reason, no traceback."""

    def stumble(*_: object, **__: object) -> None:
        raise struct.error("unpack requires a buffer of 4 bytes")

    monkeypatch.setattr(Image, "open", stumble)
    assert decoded(b"x", 8) == "unpack requires a buffer of 4 bytes"


class Evil:
    """A pickle that runs something when it is loaded."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


def test_weights_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that asks for a function is refused, in the present and in the old format of torch."""
    monkeypatch.chdir(tmp_path)
    for old in (False, True):
        torch.save({"state_dict": Evil()}, tmp_path / "x.pth", _use_new_zipfile_serialization=not old)
        with pytest.raises(UserError, match=r"x\.pth holds a getattr beside its weights: .* could run code"):
            read_checkpoint(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()


def test_cifar_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of CIFAR is a pickle: what it asks for beyond arrays is refused."""
    monkeypatch.chdir(tmp_path)
    options = MINIATURES["cifar10"](tmp_path, 0)
    (path,) = tmp_path.rglob("test_batch")
    path.write_bytes(pickle.dumps({"data": Evil(), "labels": []}))
    with pytest.raises(UserError, match="it asks for pathlib"):
        make("cifar10", options).test()
    assert not (tmp_path / "ran").exists()


def test_arrays_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of objects in the cache is not unpickled."""
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        cached_arrays("k", "1", lambda: {"a": np.array([Evil()], dtype=object)})
    assert not (tmp_path / "ran").exists()


def test_an_image_without_its_banner_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A torn copy in the cache is noticed by the checksums of PNG, with a line."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    cut = tmp_path / "cut" / "a.png"
    fgvc_aircraft._cut(tmp_path / "a.png", cut, 32)
    whole = cut.read_bytes()
    for torn in (whole[:-40], whole[:200], b"", whole[:300] + bytes(20) + whole[320:]):
        cut.write_bytes(torn)
        caplog.clear()
        fgvc_aircraft._cut(tmp_path / "a.png", cut, 32)
        assert cut.read_bytes() == whole
        assert [record.message for record in caplog.records] == [f"{cut} is damaged: it is made again"]
    caplog.clear()
    fgvc_aircraft._cut(tmp_path / "a.png", cut, 32)
    assert not caplog.records


def test_a_checkpoint_that_holds_itself(tmp_path: Path) -> None:
    """A dict inside of itself is read to an end, and refused in one line."""
    found: dict[str, object] = {"epoch": 1}
    found["model"] = found
    torch.save(found, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth holds no weights but a dict with 'epoch', 'model', a state dict is"):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("bn1.weight", torch.zeros(2, dtype=torch.complex64), "do not fit it: 'bn1.weight' holds no plain numbers"),
        ("bn1.weight", torch.zeros(2, device="meta"), "'bn1.weight' holds no plain numbers"),
        ("bn1.bias", torch.zeros(2, dtype=torch.int8), "'bn1.bias' holds int8 and must hold floating-point numbers"),
        ("fc.bias", torch.full((5,), torch.nan), "the head of it: 'bias' holds values that are not finite"),
        ("fc.weight", torch.zeros(0, 2), ""),
        ("", torch.zeros(1), "they have '' too"),
    ],
    ids=["complex", "meta", "int8", "nan", "no classes", "no name"],
)
def test_weights_of_odd_kinds(key: str, value: torch.Tensor, said: str, tmp_path: Path) -> None:
    """What is no plain finite number is refused with its name; a head without classes is none."""
    torch.save(Network().state_dict() | {key: value}, tmp_path / "x.pth")
    if said:
        with pytest.raises(UserError, match=re.escape(said)):
            load_network(Network(), "fc", read_checkpoint(tmp_path / "x.pth"), "it")
        return
    head, reason = load_network(Network(), "fc", read_checkpoint(tmp_path / "x.pth"), "it")
    assert head.out_features == 1000
    assert reason == f"{tmp_path}/x.pth has something else than a linear layer at fc, as self-supervised files do"
