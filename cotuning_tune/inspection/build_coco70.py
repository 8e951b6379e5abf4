"""COCO-70 out of COCO 2017: crops of single objects of 70 classes, the same ones every time.

The paper (You et al., NeurIPS 2020) names 70 classes (COCO's 80 less the ten in ``DROPPED``), 1000 crops per class,
800 / 100 / 100 of them to train, validate and test. How it chose and cut them it does not say. Ours:

- A crop is an object's bounding box, clipped to its image. Crowds are left out, a box that is given twice for a
  class counts once, and a box whose shorter side is below ``smallest`` pixels does not count.
- ``padding`` adds that share of the box's sides on each side, clipped again. By default nothing is added.
- All crops of a source image stand in one split, whatever their classes: else a network could know test crops by
  their surroundings. The rarest class deals out its images first, in the order of a hash of (seed, image), each
  to the split that has the smallest share of what it needs; later classes keep what earlier ones have dealt.
- Of a class first one crop of each image is taken, then a second one, until it has enough.

So the crops follow from annotations, options and seed alone. They are not the crops of the paper's authors, and
results on them stand beside the published ones, not against them.
"""

import hashlib
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError, first_line, first_three
from cotuning_tune.base.files import leaves, read_json, write_bytes, write_json
from cotuning_tune.base.parallel import Advance, on_threads
from cotuning_tune.base.pixels import open_image

DROPPED = (
    "parking meter",
    "frisbee",
    "snowboard",
    "sports ball",
    "baseball glove",
    "mouse",
    "toaster",
    "scissors",
    "hair drier",
    "toothbrush",
)
CLASSES = 70
SPLITS = ("train", "dev", "test")
RECORD = "BUILD.json"
QUALITY = 95


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What decides the crops. ``smallest``: pixels; ``padding``: share of the box's sides."""

    per_class: int = 1000
    smallest: int = 32
    padding: float = 0.0
    seed: int = 0
    with_val: bool = False
    allow_fewer: bool = False

    def __post_init__(self) -> None:
        if self.per_class < 10:
            raise UserError(f"{self.per_class} crops per class: at least 10 are needed for 80 / 10 / 10 %")
        if not 0 <= self.padding <= 10:
            raise UserError(f"padding {self.padding:g} must lie between 0 and 10")


@dataclass(frozen=True)
class Source:
    """An image of COCO: its file below COCO's folder, sides in pixels."""

    file: str
    width: int
    height: int


@dataclass(frozen=True)
class Crop:
    """An object: box as left, top, right, bottom in whole pixels of its source image."""

    source: Source
    number: int
    box: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        left, top, right, bottom = self.box
        return right - left, bottom - top


Candidates = dict[str, list[Crop]]
Chosen = dict[str, dict[str, list[Crop]]]


@dataclass(frozen=True)
class Built:
    """A finished build: classes in order, crops by split, how many were there before, what is to be known."""

    class_names: list[str]
    counts: dict[str, int]
    kept: int
    notes: list[str]


def build_coco70(
    coco: Path,
    out: Path,
    options: BuildOptions,
    jobs: int | None = None,
    advance: Advance | None = None,
) -> Built:
    """Write the crops with train.txt, dev.txt, test.txt, classes.txt and BUILD.json into ``out``.

    Files are written by rename; after a kill the same call keeps the crops that are sound and makes the others.
    ``advance(done, total)`` reports how many source images are done. Raises UserError where COCO's files are
    missing or damaged, a class has too few crops, or ``out`` was built with other options.
    """
    folders = ("train2017", "val2017") if options.with_val else ("train2017",)
    candidates, digests = read_candidates(coco, folders, options)
    record = {"options": asdict(options), "annotations": digests}
    _check_record(out, record)
    chosen = choose(candidates, options)
    _check_counts(chosen, options)
    write_json(out / RECORD, {**record, "complete": False})
    files = {f"{split}/{_file_name(name, crop)}": crop for name, split, crop in _every(chosen)}
    kept = _cut_all(coco, out, files, jobs, advance)
    counts = {name: {split: len(crops) for split, crops in splits.items()} for name, splits in chosen.items()}
    _write_lists(out, chosen)
    write_json(out / RECORD, {**record, "complete": True, "counts": counts})
    totals = {split: sum(count[split] for count in counts.values()) for split in SPLITS}
    return Built(list(chosen), totals, kept, list(_fewer(chosen, options)))


def read_candidates(coco: Path, folders: Iterable[str], options: BuildOptions) -> tuple[Candidates, dict[str, str]]:
    """All crops of the 70 classes that count, by class in COCO's order; and the annotation files' SHA-256.

    Raises UserError where a file is missing or damaged, or has not COCO's 80 categories.
    """
    found: Candidates = {}
    digests = {}
    for folder in folders:
        path = coco / "annotations" / f"instances_{folder}.json"
        tables, digests[path.name] = _read_annotations(path)
        try:
            names = _class_names(path, tables["categories"])
            for name in names.values():
                found.setdefault(name, [])
            for name, crop in _crops(folder, names, tables, options):
                found[name].append(crop)
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise UserError(f"{path} is not a file of COCO's instances: {problem!r}") from None
    return found, digests


def _read_annotations(path: Path) -> tuple[dict[str, Any], str]:
    try:
        content = path.read_bytes()
        tables = json.loads(content, object_hook=_without_outline)
    except OSError as problem:
        raise UserError(f"{path} cannot be read: {problem.strerror}") from None
    except ValueError as problem:
        raise UserError(f"{path} is damaged: {problem}") from None
    return tables, hashlib.sha256(content).hexdigest()


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """An annotation without its polygons, which fill most of the file and would fill the memory."""
    entry.pop("segmentation", None)
    return entry


def _class_names(path: Path, categories: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Names of the 70 classes by category number, in COCO's order, words joined by ``_``."""
    ordered = sorted(categories, key=lambda category: int(category["id"]))
    there = {category["name"] for category in ordered}
    if absent := [name for name in DROPPED if name not in there]:
        raise UserError(f"{path} lacks the category '{absent[0]}': COCO 2017 has 80 categories")
    names = {c["id"]: c["name"].replace(" ", "_") for c in ordered if c["name"] not in DROPPED}
    if wrong := [name for name in names.values() if "/" in name or leaves(name)]:
        raise UserError(f"{path} has the category {wrong[0]!r}, which cannot name a file")
    if len(names) != CLASSES:
        raise UserError(f"{path} has {len(ordered)} categories, COCO 2017 has 80")
    return names


def _crops(
    folder: str, names: Mapping[int, str], tables: Mapping[str, Any], options: BuildOptions
) -> Iterator[tuple[str, Crop]]:
    if wrong := [i for i in tables["images"] if leaves(i["file_name"])]:
        raise UserError(f"{folder}: image {wrong[0]['id']} has the file_name {wrong[0]['file_name']!r} outside of it")
    sources = {i["id"]: Source(f"{folder}/{i['file_name']}", i["width"], i["height"]) for i in tables["images"]}
    seen = set()
    for entry in sorted(tables["annotations"], key=lambda entry: int(entry["id"])):
        name, source = names.get(entry["category_id"]), sources[entry["image_id"]]
        if name is None or entry.get("iscrowd"):
            continue
        plain = clipped_box(entry["bbox"], 0.0, source)
        crop = Crop(source, int(entry["id"]), clipped_box(entry["bbox"], options.padding, source))
        key = (name, source.file, plain)
        if min(plain[2] - plain[0], plain[3] - plain[1]) >= options.smallest and key not in seen:
            seen.add(key)
            yield name, crop


def clipped_box(bbox: Sequence[float], padding: float, source: Source) -> tuple[int, int, int, int]:
    """COCO's [left, top, width, height] with padding as whole pixels inside the image; rounded outwards."""
    left, top, width, height = bbox
    across, down = padding * width, padding * height
    return (
        max(0, math.floor(left - across)),
        max(0, math.floor(top - down)),
        min(source.width, math.ceil(left + width + across)),
        min(source.height, math.ceil(top + height + down)),
    )


def quotas(count: int) -> dict[str, int]:
    """How many of a class's crops go to each split: a tenth to dev, a tenth to test, the rest to train."""
    tenth = max(1, round(count / 10))
    return {"train": count - 2 * tenth, "dev": tenth, "test": tenth}


def choose(candidates: Candidates, options: BuildOptions) -> Chosen:
    """The crops of each class by split; no source image has crops in two splits. Rarest class first."""
    home: dict[str, str] = {}
    taken: Chosen = {}
    for name in sorted(candidates, key=lambda name: (len(candidates[name]), name)):
        wanted = quotas(min(options.per_class, len(candidates[name])))
        taken[name] = _deal(candidates[name], wanted, home, options.seed)
    return {name: taken[name] for name in candidates}


def _deal(crops: Sequence[Crop], wanted: Mapping[str, int], home: dict[str, str], seed: int) -> dict[str, list[Crop]]:
    """Take crops of a class until each split has enough; ``home``: the split of each source image so far."""
    per_image = Counter(crop.source.file for crop in crops)
    reach = Counter(dict.fromkeys(SPLITS, 0))  # crops in images of a split, whether taken or not
    for file, count in per_image.items():
        if file in home:
            reach[home[file]] += count
    taken: dict[str, list[Crop]] = {split: [] for split in SPLITS}
    for crop in _in_rounds(crops, seed):
        file = crop.source.file
        if file not in home:
            short = [split for split in SPLITS if len(taken[split]) < wanted[split]]
            if not short:
                break
            home[file] = min(short, key=lambda split: reach[split] / wanted[split])
            reach[home[file]] += per_image[file]
        split = home[file]
        if len(taken[split]) < wanted[split]:
            taken[split].append(crop)
    return taken


def _in_rounds(crops: Iterable[Crop], seed: int) -> list[Crop]:
    """One crop of each image, then a second one of each that has it, ...; each round in hash order."""
    by_image: dict[str, list[Crop]] = defaultdict(list)
    for crop in crops:
        by_image[crop.source.file].append(crop)
    rounds = []
    for file, group in by_image.items():
        group.sort(key=lambda crop: _hash(seed, file, crop.number))
        rounds += [(number, _hash(seed, file), crop) for number, crop in enumerate(group)]
    return [crop for _, _, crop in sorted(rounds, key=lambda entry: entry[:2])]


def _hash(*parts: Any) -> bytes:
    return hashlib.sha256("/".join(map(str, parts)).encode()).digest()


def _fewer(chosen: Chosen, options: BuildOptions) -> Iterator[str]:
    """The classes with fewer crops than asked for, with their counts."""
    for name, splits in chosen.items():
        count = sum(map(len, splits.values()))
        if count < options.per_class:
            yield f"{name} has {count} of {options.per_class} crops"


def _check_counts(chosen: Chosen, options: BuildOptions) -> None:
    fewer = list(_fewer(chosen, options))
    if fewer and not options.allow_fewer:
        raise UserError(
            f"too few crops in {len(fewer)} class(es): {', '.join(fewer)};"
            " lower --smallest or --per-class, or take what there is with --allow-fewer"
        )
    for name, splits in chosen.items():
        if lacking := [split for split in SPLITS if not splits[split]]:
            raise UserError(f"{name} has no crop for {', '.join(lacking)}: objects in 3 images are the least")


def _check_record(out: Path, record: Mapping[str, Any]) -> None:
    path = out / RECORD
    if not path.exists():
        return
    before = read_json(path)
    for what, value in record.items():
        if before.get(what) != value:
            raise UserError(f"{out} was built with other {what} ({path}): give another --out, or delete it")


def _every(chosen: Chosen) -> Iterator[tuple[str, str, Crop]]:
    for name, splits in chosen.items():
        for split in SPLITS:
            for crop in sorted(splits[split], key=lambda crop: (crop.source.file, crop.number)):
                yield name, split, crop


def _file_name(name: str, crop: Crop) -> str:
    return f"{name}_{Path(crop.source.file).stem}_{crop.number}.jpg"


def _write_lists(out: Path, chosen: Chosen) -> None:
    labels = {name: label for label, name in enumerate(chosen)}
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name, split, crop in _every(chosen):
        lines[split].append(f"{split}/{_file_name(name, crop)} {labels[name]}\n")
    for split in SPLITS:
        write_bytes(out / f"{split}.txt", "".join(lines[split]).encode())
    write_bytes(out / "classes.txt", "".join(f"{name}\n" for name in chosen).encode())


def _cut_all(coco: Path, out: Path, files: Mapping[str, Crop], jobs: int | None, advance: Advance | None) -> int:
    """Make every file that is not there, each source image read once; how many were there."""
    by_source: dict[str, dict[str, Crop]] = defaultdict(dict)
    for file, crop in files.items():
        by_source[crop.source.file][file] = crop
    groups = sorted(by_source.items())
    answers = list(on_threads(lambda group: _cut(coco / group[0], out, group[1]), groups, jobs, advance))
    broken = [answer for answer in answers if isinstance(answer, str)]
    if broken:
        raise UserError(
            f"{len(broken)} source image(s) cannot be used: {first_three(broken)};"
            " replace them and give the same command again"
        )
    return sum(answer for answer in answers if isinstance(answer, int))


def _cut(source: Path, out: Path, crops: Mapping[str, Crop]) -> int | str:
    """Cut the crops of one source image that are not there; how many were, or what is wrong with the image."""
    needed = {file: crop for file, crop in crops.items() if not _is_sound(out / file, crop.size)}
    if not needed:
        return len(crops)
    first = next(iter(needed.values())).source
    try:
        with open_image(source) as opened:
            if opened.size != (first.width, first.height):
                return f"{source} (its sides are not those of the annotations)"
            whole = opened.convert("RGB")
    except FileNotFoundError:
        return f"{source} (missing)"
    except Exception as problem:  # a reader raises what it likes
        return f"{source} ({first_line(problem).replace(str(source), source.name)})"
    for file, crop in needed.items():
        buffer = io.BytesIO()
        whole.crop(crop.box).save(buffer, "JPEG", quality=QUALITY)
        write_bytes(out / file, buffer.getvalue(), durable=False)
    return len(crops) - len(needed)


def _is_sound(path: Path, size: tuple[int, int]) -> bool:
    """Whether a crop of an earlier call is whole and of the right size."""
    try:
        with open_image(path) as image:
            image.load()
            return image.size == size
    except Exception:  # a reader raises what it likes
        return False
