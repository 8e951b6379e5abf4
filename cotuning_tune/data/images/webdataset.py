"""Tar shards of WebDataset: files of one name before the first dot are one sample, as 0001.jpg and 0001.cls.

The label is the text in ``.cls``, or a value of ``.json``. The images are unpacked once, into the cache, as they are.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from cotuning_tune.base.errors import UserError, first_line, first_three
from cotuning_tune.base.files import leaves
from cotuning_tune.base.pixels import ENDINGS
from cotuning_tune.base.unpack import LINK, Target, unpacked
from cotuning_tune.base.walk import FORMAT, LEFT_BEHIND, OTHER, UNREAD, is_debris
from cotuning_tune.data.images._lists import UNUSED, Content, ListedImages, Patterns, Row, by_split, needed
from cotuning_tune.data.images._tables import GUESSES
from cotuning_tune.hyper import hyper

PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
MOST_LABEL = 1 << 20  # bytes of a file with a label


class Webdataset(ListedImages):
    """Samples in tar shards; the shards' names say the split, as ``train-000000.tar``, or the pattern for it.

    Raises UserError for a damaged shard, for a sample with two images, or without an image or a label.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        root: str = hyper("", path=True, doc="the folder of the shards, or a single one; needed")
        image: str = hyper("", doc="ending of the images, where a sample has several; as jpg")
        label: str = hyper("", doc="key of the label in the .json; default: the .cls, else label, class, ... there")
        splits: Patterns = field(default_factory=Patterns)
        test_fraction: float = hyper(0.2, doc="share of each class to test, where there are no splits")
        split_seed: int = hyper(0, doc="of the test share")

    layout = """
    a folder of train-000000.tar, train-000001.tar, test-000000.tar, ... (also train/000000.tar), each with
      0001.jpg, 0001.cls, 0002.jpg, 0002.cls, ...; or KEY.json with a label in the place of KEY.cls
    """

    @property
    def where(self) -> Path:
        return Path(self.config.root).expanduser().resolve()

    def read(self) -> Content:
        root = needed(self.config.root, "a data set of tar shards")
        base, names = (root.parent, [root.name]) if root.is_file() else (root, _shards(root))
        if root.is_file() and not root.name.lower().endswith(".tar"):
            raise UserError(f"{root} is not a .tar file: give one, or the folder of the shards")
        splits, unused = ({root.name: ""}, []) if root.is_file() else by_split(root, names, self.config.splits)
        used = [name for name in names if name in splits]
        options = {"image": self.config.image.lstrip(".").lower(), "label": self.config.label}

        def make(target: Target) -> dict[str, Any]:
            rows: list[tuple[str, str, str]] = []
            passed: dict[str, list[str]] = {}
            for name in used:
                shard = _Shard(base / name, name.rpartition(".")[0], target, options)
                rows += [(name, *row) for row in shard.rows()]
                for reason, found in shard.passed.items():
                    passed.setdefault(reason, []).extend(found)
            return {"rows": rows, "passed": passed}

        found = unpacked("tar", root, [base / name for name in used], [options, used], make)
        rows = [Row(name, label, splits[shard]) for shard, name, label in found.record["rows"]]
        return Content(found.root, rows, passed={**found.record["passed"], UNUSED: unused})


def _shards(root: Path) -> list[str]:
    """The tar files below a folder. Raises UserError where there is none, or one that is compressed."""
    below = [path.relative_to(root) for path in sorted(root.rglob("*"))]
    names = [path.as_posix() for path in below if not any(map(is_debris, path.parts))]
    if packed := [name for name in names if name.lower().endswith(PACKED)]:
        raise UserError(f"{root}: compressed shards are not read, as {packed[0]}: decompress them to .tar")
    found = [name for name in names if name.lower().endswith(".tar")]
    if not found:
        raise UserError(f"{root} has no .tar file")
    return found


@dataclass
class _Sample:
    """What is known of a sample: names of its images, and its label by what it stands in."""

    images: dict[str, str] = field(default_factory=dict)
    cls: str = ""
    json: str = ""
    fields: list[str] = field(default_factory=list)


class _Shard:
    """One tar file: its images are written below ``folder``; ``passed``: what was not taken, by reason."""

    def __init__(self, file: Path, folder: str, target: Target, options: dict[str, str]) -> None:
        self.file, self.folder, self.target, self.options = file, folder, target, options
        self.samples: dict[str, _Sample] = {}
        self.passed: dict[str, list[str]] = {}

    def rows(self) -> Iterator[tuple[str, str]]:
        """Name and label of each sample."""
        try:
            with tarfile.open(self.file, "r:") as archive:
                for member in archive:
                    self._take(archive, member)
                self._refuse_cut(archive.offset)
        except UserError:
            raise
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as problem:
            raise UserError(f"{self.file} cannot be read: {first_line(problem)}") from None
        for key, sample in self.samples.items():
            if sample.images or sample.cls or sample.json:
                yield self._image(key, sample), self._label(key, sample)

    def _refuse_cut(self, end: int) -> None:
        """Raises UserError where no tar file ends there as they do: tarfile takes garbage for the end."""
        with self.file.open("rb") as file:
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise UserError(f"{self.file} is cut off or damaged at byte {end}")

    def _pass(self, reason: str, name: str) -> None:
        self.passed.setdefault(reason, []).append(f"{self.folder}/{name}")

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = member.name.removeprefix("./")
        if leaves(name):
            raise UserError(f"{self.file}: {name!r} leads out of it: nothing of it is unpacked")
        if member.isdir():
            return
        if not member.isreg():
            self._pass(LINK, name)
        elif any(map(is_debris, name.split("/"))):
            self._pass(LEFT_BEHIND, name)
        else:
            self._take_file(name, cast(IO[bytes], archive.extractfile(member)), member.size)

    def _take_file(self, name: str, data: IO[bytes], size: int) -> None:
        folder, slash, last = name.rpartition("/")
        stem, _, kind = last.partition(".")
        kind = kind.lower()
        ending = f".{kind.rpartition('.')[2]}"
        sample = self.samples.setdefault(folder + slash + stem, _Sample())
        if kind == "cls" and not self.options["label"]:
            sample.cls = self._text(name, data, size)
        elif kind == "json":
            sample.json = self._text(name, data, size)
        elif ending in ENDINGS and self.options["image"] in ("", kind):
            self.target.add(f"{self.folder}/{name}", data, self.file)
            sample.images[kind] = f"{self.folder}/{name}"
        else:
            sample.fields.append(kind)
            self._pass(FORMAT if ending in UNREAD else OTHER, name)

    def _text(self, name: str, data: IO[bytes], size: int) -> str:
        if size > MOST_LABEL:
            raise UserError(f"{self.file}: {name} has {size} bytes, too many for a label")
        try:
            found = data.read().decode("utf-8-sig").strip()
        except UnicodeDecodeError as problem:
            raise UserError(f"{self.file}: {name} is not text ({first_line(problem)})") from None
        if not found:
            raise UserError(f"{self.file}: {name} is empty; a label is needed")
        return found

    def _image(self, key: str, sample: _Sample) -> str:
        if len(sample.images) > 1:
            kinds = [*sample.images]
            raise UserError(
                f"{self.file}: {key} has {len(kinds)} images, {first_three(kinds)}: say image = one of these"
            )
        if not sample.images:
            wanted = self.options["image"] or "image"
            rest = f"; it has {first_three(sample.fields)}" if sample.fields else ""
            raise UserError(f"{self.file}: {key} has a label, but no {wanted}{rest}")
        return next(iter(sample.images.values()))

    def _label(self, key: str, sample: _Sample) -> str:
        if sample.cls:
            return sample.cls
        if not sample.json:
            raise UserError(f"{self.file}: {key} has no label: a {key}.cls or {key}.json is needed")
        try:
            found = json.loads(sample.json)
        except (ValueError, RecursionError) as problem:
            raise UserError(f"{self.file}: {key}.json is not JSON ({first_line(problem)})") from None
        given = self.options["label"]
        keys = [given] if given else [*GUESSES["label"], "cls"]
        value = next((found[name] for name in keys if name in found), None) if isinstance(found, dict) else found
        if isinstance(value, (list, dict)) or value is None or str(value).strip() == "":
            has = first_three([*found]) if isinstance(found, dict) else "another value"
            raise UserError(f"{self.file}: {key}.json has no {given or 'label or class'} of one value: it has {has}")
        return str(value).strip()
