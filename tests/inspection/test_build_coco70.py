"""COCO-70 out of a miniature COCO: all 80 categories, every object a patch of its category's colour."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cotuning_tune.inspection.build_coco70 import (
    DROPPED,
    SPLITS,
    BuildOptions,
    Crop,
    Source,
    choose,
    clipped_box,
    read_candidates,
)

Call = Callable[..., tuple[int, list[str], list[str]]]
IMAGES, OBJECTS, SIDE, ROOM = 192, 5, 12, 16
NAMES = [*(f"thing {number}" for number in range(70)), *DROPPED]
ANNOTATIONS = "annotations/instances_train2017.json"
TEN = ("--per-class", 10, "--smallest", 8)


def colour_of(category: int) -> tuple[int, int, int]:
    """A colour of its own for each category, far from black and from the others'."""
    return 60 + 45 * (category % 5), 60 + 45 * (category // 5 % 4), 60 + 45 * (category // 20)


def make_image(path: Path, number: int) -> list[dict[str, Any]]:
    """An image of five objects side by side on black, and their annotations; 12 images have each category."""
    pixels = np.zeros((20, OBJECTS * ROOM + 4, 3), dtype=np.uint8)
    made = []
    for place in range(OBJECTS):
        category = (OBJECTS * number + place) % 80
        left = 2 + place * ROOM
        pixels[4 : 4 + SIDE, left : left + SIDE] = colour_of(category)
        made.append({"category_id": 1 + category, "bbox": [left, 4, SIDE, SIDE], "iscrowd": 0})
    Image.fromarray(pixels).save(path, quality=95)
    return [
        {"id": 1000 + OBJECTS * number + n, "image_id": number, "segmentation": [[0.5]]} | e for n, e in enumerate(made)
    ]


@pytest.fixture(scope="module")
def shared_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature COCO that no test changes."""
    root = tmp_path_factory.mktemp("coco")
    (root / "annotations").mkdir()
    (root / "train2017").mkdir()
    annotations, images = [], []
    for number in range(IMAGES):
        name = f"{number:012d}.jpg"
        annotations += make_image(root / "train2017" / name, number)
        images.append({"id": number, "file_name": name, "width": OBJECTS * ROOM + 4, "height": 20})
    categories = [{"id": 1 + number, "name": name} for number, name in enumerate(NAMES)]
    tables = {"images": images, "annotations": annotations, "categories": categories}
    (root / ANNOTATIONS).write_text(json.dumps(tables))
    return root


@pytest.fixture
def coco(shared_coco: Path, tmp_path: Path) -> Path:
    """The same COCO with an annotation file and a folder of images of its own: links, as images go."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / ANNOTATIONS).write_text((shared_coco / ANNOTATIONS).read_text())
    (root / "train2017").mkdir()
    for path in (shared_coco / "train2017").iterdir():
        (root / "train2017" / path.name).symlink_to(path)
    return root


def edit(coco: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tables = json.loads((coco / ANNOTATIONS).read_text())
    change(tables)
    (coco / ANNOTATIONS).write_text(json.dumps(tables))


def build(call: Call, coco: Path, out: Path, *more: object) -> list[str]:
    code, lines, err = call("data", "build-coco70", "--coco", coco, "--out", out, *(more or TEN))
    assert (code, err) == (0, [])
    return lines


def refused(call: Call, coco: Path, out: Path, *more: object) -> str:
    """The one line with which the command is refused."""
    code, _, err = call("data", "build-coco70", "--coco", coco, "--out", out, *(more or TEN))
    assert (code, len(err)) == (2, 1), err
    return err[0]


def rows_of(out: Path, split: str) -> list[tuple[str, int]]:
    lines = (out / f"{split}.txt").read_text().splitlines()
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def content(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_layout(call: Call, shared_coco: Path, tmp_path: Path) -> None:
    """70 classes in COCO's order, 80 / 10 / 10 % of each, in the owners' layout; the record is complete."""
    lines = build(call, shared_coco, tmp_path)
    assert lines[-1] == f"{tmp_path}: 70 classes, 560 train, 70 dev, 70 test crops, 0 of them were there before"
    assert (tmp_path / "classes.txt").read_text().splitlines() == [f"thing_{n}" for n in range(70)]
    for split, count in (("train", 8), ("dev", 1), ("test", 1)):
        rows = rows_of(tmp_path, split)
        assert Counter(label for _, label in rows) == dict.fromkeys(range(70), count)
        assert sorted(name for name, _ in rows) == sorted(f"{split}/{p.name}" for p in (tmp_path / split).iterdir())
    record = json.loads((tmp_path / "BUILD.json").read_text())
    assert record["complete"] is True
    assert record["options"]["per_class"] == 10
    assert record["counts"]["thing_3"] == {"train": 8, "dev": 1, "test": 1}


def test_crops_show_their_class(call: Call, shared_coco: Path, tmp_path: Path) -> None:
    """Every crop is the patch of its own category: the colour is right, and so is the size."""
    build(call, shared_coco, tmp_path)
    for name, label in (row for split in SPLITS for row in rows_of(tmp_path, split)):
        with Image.open(tmp_path / name) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        assert pixels.shape == (SIDE, SIDE, 3)
        assert np.abs(pixels[4:-4, 4:-4].mean((0, 1)) - colour_of(label)).max() < 20


def test_no_source_image_in_two_splits(call: Call, shared_coco: Path, tmp_path: Path) -> None:
    """All crops of a source image stand in one split."""
    build(call, shared_coco, tmp_path)
    splits = defaultdict(set)
    for split in SPLITS:
        for name, _ in rows_of(tmp_path, split):
            splits[name.split("_")[-2]].add(split)
    assert len(splits) > 100
    assert {len(found) for found in splits.values()} == {1}


def test_order_and_threads_do_not_matter(call: Call, coco: Path, tmp_path: Path) -> None:
    """Annotations in another order give the same files, on one thread or three; another seed gives others."""

    def shuffle(tables: dict[str, Any]) -> None:
        for rows in tables.values():
            random.Random(1).shuffle(rows)

    build(call, coco, tmp_path / "a", *TEN, "--jobs", 1)
    edit(coco, shuffle)
    build(call, coco, tmp_path / "b", *TEN, "--jobs", 3)
    build(call, coco, tmp_path / "c", *TEN, "--seed", 1)
    first, second, third = (content(tmp_path / name) for name in "abc")
    for found in (first, second, third):
        del found["BUILD.json"]
    assert first == second
    assert set(first) != set(third)


def test_resume(call: Call, shared_coco: Path, tmp_path: Path) -> None:
    """The same call again keeps sound crops untouched and makes what is missing, cut off or of a wrong size."""
    build(call, shared_coco, tmp_path)
    before = content(tmp_path)
    spoilt = [tmp_path / rows_of(tmp_path, "train")[n][0] for n in (0, 100, 200)]
    spoilt[0].unlink()
    spoilt[1].write_bytes(spoilt[1].read_bytes()[:-100])
    Image.new("RGB", (5, 5)).save(spoilt[2])
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.jpg") if p not in spoilt}
    assert build(call, shared_coco, tmp_path)[-1].endswith("697 of them were there before")
    assert content(tmp_path) == before
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


def test_other_options_need_another_folder(call: Call, coco: Path, tmp_path: Path) -> None:
    """A folder that was built with other options or annotations is left alone."""
    build(call, coco, tmp_path / "out")
    before = content(tmp_path / "out")
    assert "built with other options" in refused(call, coco, tmp_path / "out", *TEN, "--padding", 0.1)
    edit(coco, lambda tables: tables["annotations"].pop())
    assert "built with other annotations" in refused(call, coco, tmp_path / "out")
    assert content(tmp_path / "out") == before


def test_too_few(call: Call, coco: Path, tmp_path: Path) -> None:
    """Classes with too few crops are named with their counts; nothing is written unless fewer are allowed."""

    def thin(tables: dict[str, Any]) -> None:
        rows = [row for row in tables["annotations"] if row["category_id"] == 8]
        for row in rows[:6]:
            tables["annotations"].remove(row)

    edit(coco, thin)
    said = refused(call, coco, tmp_path / "out")
    assert "too few crops in 1 class(es): thing_7 has 6 of 10 crops;" in said
    assert "--allow-fewer" in said
    assert not (tmp_path / "out").exists()
    lines = build(call, coco, tmp_path / "out", *TEN, "--allow-fewer")
    assert "note: thing_7 has 6 of 10 crops" in lines
    assert [sum(label == 7 for _, label in rows_of(tmp_path / "out", split)) for split in SPLITS] == [4, 1, 1]


def spoil_tables(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda coco: edit(coco, lambda tables: (change(tables), None)[1])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda coco: (coco / ANNOTATIONS).unlink(), ["instances_train2017.json cannot be read"]),
        (lambda coco: (coco / ANNOTATIONS).write_text('{"images": ['), ["instances_train2017.json is damaged"]),
        (spoil_tables(lambda tables: tables.pop("images")), ["not a file of COCO's instances"]),
        (spoil_tables(lambda tables: tables["annotations"][0].pop("bbox")), ["not a file of COCO's instances"]),
        (spoil_tables(lambda tables: tables["images"].pop()), ["not a file of COCO's instances"]),
        (spoil_tables(lambda tables: tables["categories"].pop()), ["lacks the category 'toothbrush'", "80"]),
        (spoil_tables(lambda tables: tables["categories"].pop(0)), ["79 categories", "80"]),
        (spoil_tables(lambda tables: tables["annotations"].clear()), ["thing_0 has 0 of 12 crops"]),
        (lambda coco: [p.unlink() for p in (coco / "train2017").iterdir()], ["source image(s)", "(missing)", "more"]),
        (lambda coco: replace_image(coco, b"broken"), ["1 source image(s)", "000000000000.jpg (cannot identify"]),
        (lambda coco: replace_image(coco, None), ["1 source image(s)", "its sides are not those"]),
    ],
)
def test_mistakes(call: Call, coco: Path, tmp_path: Path, spoil: Callable[[Path], None], words: list[str]) -> None:
    """A missing, damaged or strange file is one line that names it, and exit code 2."""
    spoil(coco)
    said = refused(call, coco, tmp_path / "out", "--per-class", 12, "--smallest", 8)
    assert [word for word in words if word not in said] == []


def replace_image(coco: Path, content: bytes | None) -> None:
    """Bytes of another kind, or an image of other sides, in the place of the first source image."""
    path = coco / "train2017" / "000000000000.jpg"
    path.unlink()
    if content is None:
        Image.new("RGB", (7, 7)).save(path)
    else:
        path.write_bytes(content)


@pytest.mark.parametrize(("option", "value"), [("--per-class", 9), ("--padding", -0.1)])
def test_options_out_of_range(call: Call, shared_coco: Path, tmp_path: Path, option: str, value: float) -> None:
    """Too few crops to split and a negative padding are refused."""
    assert str(value) in refused(call, shared_coco, tmp_path / "out", option, value)


def test_a_broken_source_does_not_lose_the_others(call: Call, coco: Path, tmp_path: Path) -> None:
    """All other crops are made before a broken source image is named, and kept once it has been replaced."""
    whole = (coco / "train2017" / "000000000000.jpg").read_bytes()
    asked = ("--per-class", 12, "--smallest", 8)
    replace_image(coco, b"broken")
    refused(call, coco, tmp_path / "out", *asked)
    assert json.loads((tmp_path / "out" / "BUILD.json").read_text())["complete"] is False
    replace_image(coco, whole)
    assert build(call, coco, tmp_path / "out", *asked)[-1].endswith("835 of them were there before")


def test_what_does_not_count(coco: Path) -> None:
    """Crowds, boxes below the smallest side, boxes outside the image and boxes given twice are left out."""

    def spoil(tables: dict[str, Any]) -> None:
        mine = [row for row in tables["annotations"] if row["category_id"] == 1]
        mine[0]["iscrowd"] = 1
        mine[1]["bbox"] = [10, 4, 30, 7]
        mine[2]["bbox"] = [80, 4, 30, 12]  # 4 of its 30 pixels lie in the image
        tables["annotations"].append(mine[3] | {"id": 1})

    edit(coco, spoil)
    found, _ = read_candidates(coco, ["train2017"], BuildOptions(smallest=8))
    assert len(found) == 70
    assert len(found["thing_0"]) == 12 - 3
    assert len(found["thing_1"]) == 12


def test_val2017(call: Call, coco: Path, tmp_path: Path) -> None:
    """With --with-val crops are taken from val2017 too, and an image of the same name there is another one."""
    (coco / "annotations/instances_val2017.json").write_text((coco / ANNOTATIONS).read_text())
    (coco / "val2017").symlink_to(coco / "train2017")
    twenty = ("--per-class", 20, "--smallest", 8)
    assert "thing_0 has 12 of 20 crops" in refused(call, coco, tmp_path / "out", *twenty)
    build(call, coco, tmp_path / "out", *twenty, "--with-val")
    assert len(rows_of(tmp_path / "out", "train")) == 70 * 16


@pytest.mark.parametrize(
    ("bbox", "padding", "box"),
    [
        ([10, 20, 30, 40], 0, (10, 20, 40, 60)),
        ([10.4, 20.6, 30, 40], 0, (10, 20, 41, 61)),
        ([10, 20, 30, 40], 0.5, (0, 0, 55, 80)),
        ([90, 70, 30, 40], 0, (90, 70, 100, 80)),
        ([0, 0, 100, 80], 2, (0, 0, 100, 80)),
    ],
)
def test_clipped_box(bbox: list[float], padding: float, box: tuple[int, ...]) -> None:
    """A box is rounded outwards, padded by a share of its own sides, and never leaves its image of 100 x 80."""
    assert clipped_box(bbox, padding, Source("x.jpg", 100, 80)) == box


def scattered(counts: dict[str, int], images: int, seed: int) -> dict[str, list[Crop]]:
    """Objects thrown over images at random, several in one and several of one class in one."""
    draw = random.Random(seed)
    number = iter(range(10**9))
    return {
        name: [Crop(Source(f"{draw.randrange(images)}.jpg", 9, 9), next(number), (0, 0, 9, 9)) for _ in range(count)]
        for name, count in counts.items()
    }


@pytest.mark.parametrize("seed", range(3))
def test_scarce_classes_are_filled(seed: int) -> None:
    """Classes that have 3 to 10 % more objects than asked for are filled, and no image stands in two splits."""
    counts = {f"rare {n}": 1030 + 10 * n for n in range(8)} | {f"common {n}": 3000 + 500 * n for n in range(12)}
    chosen = choose(scattered(counts, 20_000, seed), BuildOptions(seed=seed))
    assert list(chosen) == list(counts)
    home: dict[str, str] = {}
    for splits in chosen.values():
        assert {split: len(crops) for split, crops in splits.items()} == {"train": 800, "dev": 100, "test": 100}
        assert len({crop.number for crops in splits.values() for crop in crops}) == 1000
        for split, crops in splits.items():
            assert {home.setdefault(crop.source.file, split) for crop in crops} == {split}


def test_many_images_before_many_crops_of_one() -> None:
    """A class with enough images gets one crop of each, not many of a few."""
    crops = [Crop(Source(f"{image}.jpg", 9, 9), 9 * image + n, (0, 0, 9, 9)) for image in range(40) for n in range(9)]
    (splits,) = choose({"people": crops}, BuildOptions(per_class=40)).values()
    assert len({crop.source.file for crops in splits.values() for crop in crops}) == 40
