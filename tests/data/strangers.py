"""What hypothesis draws as data of strangers: folders, lists, image files and checkpoints, sound ones and odd ones."""

import functools
import io
import os
import warnings
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image, features

from cotuning_tune.models.images._weights import PREFIXES, WRAPPERS

Parts = tuple[str, ...]
UMLAUT = ("K\u00e4fer", "Ka\u0308fer")  # composed and decomposed
CLASSES = ("a", "b", "Zebra", *UMLAUT, "with space", "x.y", "caf\udce9", "1", "01", "Test", "train")
FILES = (
    *("0.jpg", "1.PNG", "2.jpeg", "\u00fc.jpg", "u\u0308.jpg", "b\udcff.gif", " .png", "a.b.c.webp", "line\nend.bmp"),
    *("-.jpg", "~.png", "%s.jpg", "'\".jpg", "$(x).png", "3.JFIF"),
)
ODD = (
    *(".hidden", "._0.jpg", ".jpg", "Thumbs.db", "THUMBS.DB", "desktop.ini", "notes.txt", "x.heic", "raw.CR2", "x.svg"),
    *("__MACOSX", "@eaDir", ".ipynb_checkpoints", "noending", "archive.tar.gz", "0.jpg.part", "folder.jpg", "deep"),
)
SPLITS = (("train", "test"), ("Training", "TESTING"), ("train", "test", "Val"), ("TRAIN", "test", "dev"))


@dataclass(frozen=True)
class Entry:
    """Something in a folder: an image by its number, or what else its ``kind`` says."""

    path: Parts
    kind: str = "image"
    number: int = 0


@functools.cache
def png(number: int) -> bytes:
    """A sound image of 4 x 4 pixels, another one for each number."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _below(parts: Parts, classes: list[str], names: st.SearchStrategy[str]) -> st.SearchStrategy[Entry]:
    """An entry somewhere in the folder: beside splits, beside classes, in a class, or deeper."""
    base = st.sampled_from([(), *((part,) for part in parts)])
    places = st.tuples(base, st.lists(st.sampled_from(classes) | names, max_size=3), names)
    kinds = ("image", "image", "image", "broken", "text", "empty", "dangling", "link", "loop", "folder", "pipe")
    return st.builds(
        lambda place, kind, number: Entry((*place[0], *place[1], place[2]), kind, number),
        places,
        st.sampled_from(kinds),
        st.integers(0, 30),
    )


@st.composite
def folders(draw: st.DrawFn) -> list[Entry]:
    """A folder of classes, with splits or without, and what lies in it besides."""
    parts = draw(st.sampled_from([*SPLITS, (), ()]) | st.lists(st.sampled_from(["train", "Test", "valid"])).map(tuple))
    classes = draw(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=3, unique=True))
    entries = []
    for part in parts or ("",):
        for name in classes:
            files = draw(st.lists(st.sampled_from(FILES), min_size=draw(st.integers(0, 2)), max_size=6, unique=True))
            entries += [Entry((*filter(None, [part]), name, file), number=len(entries)) for file in files]
    odd = _below(parts, classes, st.sampled_from(ODD) | st.sampled_from(FILES))
    return entries + draw(st.lists(odd, max_size=4))


def write(root: Path, entries: list[Entry]) -> list[str]:
    """Make the folder; the names of the files and links that could be made, relative to it."""
    made = []
    for entry in entries:
        path = root.joinpath(*entry.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(path) and _make(root, path, entry):
                made.append("/".join(entry.path))
        except (FileExistsError, NotADirectoryError):  # a file is where a folder would have to be
            continue
    return made


def _make(root: Path, path: Path, entry: Entry) -> bool:
    """Make one; whether it is none of the folders."""
    content = {"image": png(entry.number), "broken": png(entry.number)[:40], "text": b"no image", "empty": b""}
    if entry.kind in content:
        path.write_bytes(content[entry.kind])
    elif entry.kind == "dangling":
        path.symlink_to("nowhere")
    elif entry.kind == "link":
        path.with_name(f".{path.name}.target").write_bytes(png(entry.number))
        path.symlink_to(f".{path.name}.target")
    elif entry.kind == "pipe":
        os.mkfifo(path)
    elif entry.kind == "loop":
        path.symlink_to(root, target_is_directory=True)
    else:
        path.mkdir()
    return entry.kind not in ("folder", "loop")


LABELS = st.sampled_from(
    ["a", "b", "1", "01", "2", "K\u00e4fer", "with, comma", 'with "quotes"', " b ", "x\ny", "9" * 5000]
)
WORDS = st.sampled_from(["train", "Test", "VAL", "dev", "testing", "training", "other", ""])
NAMES = [f"{number}.png" for number in range(12)]
PATHS = st.sampled_from(
    [*NAMES, "./0.png", "sub/../1.png", "missing.png", "../out.png", "/etc/passwd", "x" * 300, "\0"]
)


@dataclass(frozen=True)
class Table:
    """A list of images as bytes, and how many rows of images it has, None where that is not known."""

    content: bytes
    rows: int | None


def _quoted(text: str, delimiter: str, always: bool) -> str:
    if always or any(sign in text for sign in (delimiter, '"', "\n", "\r")):
        return '"' + text.replace('"', '""') + '"'
    return text


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A list of images: mostly well formed, with odd quoting, delimiters, line ends and encodings."""
    delimiter, end = draw(st.sampled_from(",;\t")), draw(st.sampled_from(["\n", "\r\n"]))
    columns = draw(st.sampled_from([("path", "label"), ("path", "label", "split"), ("Class", "extra", "FILE", "Part")]))
    names = draw(st.permutations(NAMES)) if draw(st.booleans()) else draw(st.lists(PATHS, max_size=8))
    rows = []
    for name in names:
        path, label, word = (
            name,
            draw(LABELS),
            draw(WORDS if draw(st.booleans()) else st.sampled_from(["train", "test"])),
        )
        by_column = {"path": path, "FILE": path, "label": label, "Class": label, "split": word, "Part": word}
        rows.append([by_column.get(column, "-") for column in columns])
    lines = [
        delimiter.join(_quoted(text, delimiter, draw(st.booleans())) for text in row) for row in [[*columns], *rows]
    ]
    for _ in range(draw(st.integers(0, 2))):
        lines.insert(draw(st.integers(1, len(lines))), "")
    content = (end.join(lines) + draw(st.sampled_from(["", end]))).encode(draw(st.sampled_from(["utf-8", "utf-8-sig"])))
    return draw(st.just(Table(content, len(rows))) | _spoiled(content))


def _spoiled(content: bytes) -> st.SearchStrategy[Table]:
    """The same in another encoding, cut off, or with a byte that is not meant to be there; or any bytes at all."""
    text = content.decode("utf-8-sig")
    cuts = st.integers(0, len(content)).map(lambda place: content[:place])
    bits = st.tuples(st.integers(0, len(content)), st.binary(min_size=1, max_size=3)).map(
        lambda pair: content[: pair[0]] + pair[1] + content[pair[0] :]
    )
    others = st.sampled_from([text.encode("utf-16"), text.encode("latin-1", "replace"), b"", b"\xef\xbb\xbf", b"path"])
    return (cuts | bits | others | st.binary(max_size=60)).map(lambda found: Table(found, None))


@functools.cache
def sound_images() -> dict[str, bytes]:
    """A small image in each format and mode that Pillow writes."""
    found = {}
    formats = ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "DIB", "ICO", "TGA", "PDF", "JPEG2000"]
    formats += ["AVIF"] if features.check("avif") else []
    grey = np.random.default_rng(0).integers(0, 256, (6, 8, 4)).astype(np.uint8)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16", "PA"):
        made = _of_mode(grey, mode)
        for kind in formats:
            for number, extra in enumerate(({}, {"compression": "tiff_lzw"} if kind == "TIFF" else {"quality": 30})):
                buffer = io.BytesIO()
                try:
                    made.save(buffer, kind, **extra)
                except (OSError, KeyError, ValueError, AttributeError):
                    continue
                found[f"{kind} {mode} {number}"] = buffer.getvalue()
    return found


def _of_mode(values: np.ndarray, mode: str) -> Image.Image:
    if mode in ("I", "F", "I;16"):
        kind = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
        return Image.fromarray((values[:, :, 0].astype(np.int32) * (1 if mode == "F" else 200)).astype(kind))
    image = Image.fromarray(values, "RGBA") if mode in ("RGBA", "LA", "PA") else Image.fromarray(values[:, :, :3])
    return image.convert("P" if mode == "PA" else mode)


@st.composite
def image_files(draw: st.DrawFn) -> bytes:
    """A sound image file, one that is cut off, has flipped bits or foreign parts; or any bytes with a known start."""
    known = sound_images()
    content = known[draw(st.sampled_from(sorted(known)))]
    change = draw(st.sampled_from(["none", "cut", "bits", "bits", "splice", "tail", "bytes"]))
    if change == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if change == "bits":
        altered = bytearray(content)
        for place in draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            altered[place] ^= 1 << draw(st.integers(0, 7))
        return bytes(altered)
    if change == "splice":
        place = draw(st.integers(0, len(content)))
        return content[:place] + draw(st.binary(max_size=8)) + content[place + draw(st.integers(0, 8)) :]
    if change == "tail":
        return content + draw(st.binary(max_size=40))
    if change == "bytes":
        return content[: draw(st.sampled_from([0, 2, 4, 12, 16]))] + draw(st.binary(max_size=60))
    return content


class Network(torch.nn.Module):
    """A convolution, a BatchNorm and a head of 5 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.fc = torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 5)


ODD_VALUES = st.sampled_from(
    [
        *(None, 3, "text", [1, 2], Namespace(lr=0.1), np.float64(1.0), np.arange(3), Path("/x"), {}, (), b"x", 10**400),
        *(torch.zeros(2).to_sparse(), torch.zeros(2, dtype=torch.complex64), torch.full((2,), float("nan"))),
        *(torch.zeros(2, dtype=torch.int8), torch.zeros(0), torch.tensor(1.0), torch.zeros(2, dtype=torch.bool)),
        *(torch.zeros(2, device="meta"), torch.zeros(2).half(), torch.zeros(2, dtype=torch.bfloat16)),
        *(torch.nn.Parameter(torch.zeros(2)), torch.zeros(4)[::2], torch.zeros(2, dtype=torch.float64)),
    ]
)
ODD_KEYS = st.sampled_from(
    ["extra", "epoch", "optimizer", "n_averaged", "head.last_layer.x", "fc.weight", 7, "", "a\nb"]
)


@st.composite
def checkpoints(draw: st.DrawFn) -> Any:
    """The weights of ``Network``, with odd names and values, in the dicts of a trainer; or something else."""
    weights: dict[Any, Any] = {k: torch.ones_like(v) for k, v in Network().state_dict().items()}
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from(sorted(weights, key=str)))
        change = draw(st.sampled_from(["drop", "value", "shape", "rename"]))
        value = weights.pop(key)
        if change == "value":
            weights[key] = draw(ODD_VALUES)
        elif change == "shape":
            weights[key] = torch.zeros(draw(st.lists(st.integers(0, 3), max_size=4)))
        elif change == "rename":
            weights[draw(ODD_KEYS)] = value
    for _ in range(draw(st.integers(0, 2))):
        weights.setdefault(draw(ODD_KEYS), draw(ODD_VALUES))
    if prefix := draw(st.sampled_from(["", "", *PREFIXES, "encoder_q.", "backbone."])):
        weights = {f"{prefix}{key}": value for key, value in weights.items()}
    found: Any = weights
    for wrapper in draw(st.lists(st.sampled_from(WRAPPERS), max_size=2)):
        found = {wrapper: found, **draw(st.dictionaries(ODD_KEYS, ODD_VALUES, max_size=2))}
    if draw(st.integers(0, 9)) == 0 and isinstance(found, dict):
        found[draw(st.sampled_from(WRAPPERS))] = found  # a dict that holds itself
    return found if draw(st.integers(0, 9)) else draw(ODD_VALUES)


def stored(found: Any, *, old: bool) -> bytes:
    """A checkpoint as torch stores it, in the present or the old format; nothing where it cannot be."""
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(found, buffer, _use_new_zipfile_serialization=not old)
    except (RuntimeError, NotImplementedError):
        return b""
    return buffer.getvalue()
