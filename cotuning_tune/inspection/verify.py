"""Opens every image of a data set, compares all of them, and names what is wrong.

Reads the files of the test split too, for their bytes: a test image that also stands in the training split
makes the final accuracy a lie. Only hashes are kept, and nothing is handed on to a search.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import first_line, printable
from cotuning_tune.base.parallel import Advance, on_threads
from cotuning_tune.base.pixels import PLAIN, Decoding, open_image, problem_of, upright
from cotuning_tune.base.tables import Table
from cotuning_tune.data import DataSet, TaskConfig
from cotuning_tune.data._duplicates import Place, in_two_splits, same_content
from cotuning_tune.data._splitting import grouped, hold_out, single
from cotuning_tune.inspection.near import BITS, can_compare, look, near_duplicates
from cotuning_tune.inspection.splits import DataSplit, differences, read_splits

SMALLEST = 32


@dataclass(frozen=True)
class Kind:
    """A kind of finding; ``error``: the data set must not be used like that."""

    title: str
    error: bool


KINDS = {
    "counts": Kind("not as published", True),
    "empty": Kind("class without an image", True),
    "validation": Kind("no image for validation", True),
    "missing": Kind("missing", True),
    "corrupt": Kind("corrupt", True),
    "leak": Kind("same bytes in two splits", True),
    "label": Kind("same bytes, two classes", False),
    "twice": Kind("same bytes twice", False),
    "near": Kind("nearly the same image in two splits", False),
    "tiny": Kind("tiny", False),
}


@dataclass(frozen=True)
class Finding:
    """Something wrong with one image, or with the set as a whole (``split`` is empty then)."""

    kind: str
    split: str
    name: str
    detail: str = ""

    @property
    def line(self) -> str:
        return printable(f"{self.name}: {self.detail}" if self.detail else self.name)


@dataclass(frozen=True)
class Checked:
    """What became of one image: a digest of its bytes, its perceptual hash where that can be had, sides in pixels; or
    the problem and its kind."""

    digest: str = ""
    look: bytes = b""
    size: tuple[int, int] = (0, 0)
    kind: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Verification:
    """All that was found, and the counts it rests on; ``files``: its images are files."""

    classes: int
    published: dict[str, int]
    images: dict[str, int]
    findings: list[Finding]
    files: bool = True

    def of(self, kind: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind == kind]

    def count(self, *, errors: bool) -> int:
        """How many findings are errors, or warnings."""
        return sum(KINDS[finding.kind].error == errors for finding in self.findings)

    def table(self) -> Table:
        """A row for the classes and for each split: found, published (of a published set), and each kind's findings."""
        kinds = [kind for kind in KINDS if self.of(kind) and kind != "counts"]
        rows = []
        whole = {"images": sum(self.images.values())} if "images" in self.published else {}
        for what, found in {"classes": self.classes, **whole, **self.images}.items():
            counted = [str(sum(f.split == what for f in self.of(kind))) for kind in kinds]
            shown = counted if what in self.images else [""] * len(kinds)
            published = [str(self.published.get(what, "-"))] if self.published else []
            rows.append([what, str(found), *published, *shown])
        head = ["split", "found", *(["published"] if self.published else [])]
        return Table("verify", "", [*head, *(KINDS[kind].title for kind in kinds)], rows)

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        findings = [{"error": KINDS[finding.kind].error, **asdict(finding)} for finding in self.findings]
        return asdict(self) | {"findings": findings}


def verify(
    data: DataSet, smallest: int = SMALLEST, jobs: int | None = None, advance: Advance | None = None
) -> Verification:
    """Count, decode and compare every image of a data set.

    ``smallest``: shorter sides below it, in pixels, are called tiny. ``jobs``: threads, by default one per core;
    ``advance(done, total)`` reports how far it is. Raises UserError where the folder does not hold this data set.
    """
    splits = read_splits(data)
    findings = [Finding("counts", "", line) for line in differences(data, splits)]
    findings += _empty_classes(data.class_names, splits)
    digests: dict[str, list[str]] = {split.name: [] for split in splits}
    looks: dict[str, list[bytes]] = {split.name: [] for split in splits}
    places = [(split, position) for split in splits for position in range(len(split))]
    for (split, position), checked in zip(places, on_threads(_check, places, jobs, advance), strict=True):
        name = split.names[position]
        digests[split.name].append(checked.digest)
        looks[split.name].append(checked.look)
        if checked.problem:
            findings.append(Finding(checked.kind, split.name, name, checked.problem))
        elif split.root is not None and min(checked.size) < smallest:
            findings.append(Finding("tiny", split.name, name, "{} x {} pixels".format(*checked.size)))
    findings += [*_no_validation(splits, digests), *_repeated(splits, digests, looks, data.class_names)]
    images = {split.name: len(split) for split in splits}
    files = all(split.root is not None for split in splits)
    return Verification(len(data.class_names), dict(data.counts), images, findings, files)


def _empty_classes(class_names: Sequence[str], splits: Sequence[DataSplit]) -> Iterator[Finding]:
    """The classes that training or testing lacks; a validation split may lack some."""
    for split in splits:
        if split.name != "val":
            there = split.per_class
            missing = (name for label, name in enumerate(class_names) if not there[label])
            yield from (Finding("empty", split.name, name, f"no {split.name} image") for name in missing)


def _no_validation(splits: Sequence[DataSplit], digests: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Where no rate leaves an image to choose a configuration by: nothing can be trained then."""
    by_name = {split.name: split for split in splits}
    if "val" in by_name:
        if not len(by_name["val"]):
            yield Finding("validation", "val", "val", "the split is empty: fill it, or remove it to have one split off")
        return
    train = by_name["train"]
    groups = grouped(train.names, train.groups, digests["train"])
    if not hold_out(train, range(len(train)), TaskConfig.val_fraction, TaskConfig.split_seed, groups)[1]:
        yield Finding("validation", "train", "train", f"{single(train.labels)}: give more images")


def _check(place: tuple[DataSplit, int]) -> Checked:
    split, position = place
    if split.images is None:
        return check_file(split.path(position), split.decoding)
    return Checked(_digest(split.images.take([position]).numpy().tobytes()))


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def check_file(path: Path, how: Decoding = PLAIN) -> Checked:
    """Read and fully decode an image file, as training would."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Checked(kind="missing", problem="no such file")
    except OSError as problem:
        return Checked(kind="corrupt", problem=problem.strerror or first_line(problem))
    try:
        with open_image(io.BytesIO(content), how) as image:
            turned = upright(image, how)
            return Checked(_digest(content), look(turned) if can_compare() else b"", image.size)
    except Exception as problem:  # a decoder raises what it likes: struct.error, IndexError, SyntaxError, ...
        return Checked(kind="corrupt", problem=problem_of(problem, content))


def _repeated(
    splits: Sequence[DataSplit],
    digests: Mapping[str, Sequence[str]],
    looks: Mapping[str, Sequence[bytes]],
    class_names: Sequence[str],
) -> Iterator[Finding]:
    """Images that stand there again, byte by byte or nearly so; of the latter those in two splits alone."""
    named = {split.name: split for split in splits}
    for first, *again in same_content(digests):
        yield from (_same_bytes(first, place, named, class_names) for place in again)
    for near in near_duplicates(looks, in_two_splits(digests)):
        where = f"{named[near.other].names[near.other_position]} of {near.other}"
        detail = f"nearly {where}: {near.distance} of {BITS} bits differ"
        yield Finding("near", near.split, named[near.split].names[near.position], detail)


def _same_bytes(first: Place, again: Place, splits: Mapping[str, DataSplit], class_names: Sequence[str]) -> Finding:
    """What it means that an image stands there again: worst in another split, bad in another class."""
    (split_1, at_1), (split_2, at_2) = first, again
    label_1, label_2 = int(splits[split_1].labels[at_1]), int(splits[split_2].labels[at_2])
    kind = "leak" if split_1 != split_2 else "label" if label_1 != label_2 else "twice"
    classes = f", class {class_names[label_2]} here and {class_names[label_1]} there" if label_1 != label_2 else ""
    where = f"{splits[split_1].names[at_1]} of {split_1}"
    return Finding(kind, split_2, splits[split_2].names[at_2], f"the same bytes as {where}{classes}")
