"""The published counts: what a rate takes of the class sizes, and the real sets where they lie on this machine.

The checks of real sets run where the variable COTUNING_TUNE_DATA names a folder that holds a set, in a folder
named after it (``cub200``) or in its owners' own (``CUB_200_2011``).
"""

import os
from collections import Counter
from pathlib import Path

import pytest

from cotuning_tune import data
from cotuning_tune.base.errors import UserError
from cotuning_tune.data import SPLITS, FileDataSet, Files
from cotuning_tune.data._task import sample
from cotuning_tune.hyper import build
from tests.data.miniatures import MINIATURES, PUBLISHED

REAL = "COTUNING_TUNE_DATA"
RATES = (0.15, 0.3, 0.5, 1.0)
PER_RATE = {
    "cub200": (1000, 1800, 3000, 5994),
    "stanford_cars": (1310, 2531, 4123, 8144),
    "fgvc_aircraft": (1067, 2067, 3367, 6667),
    "coco70": (8400, 16800, 28000, 56000),
}
SIZES = {
    "cub200": {30: 194, 29: 6},
    "fgvc_aircraft": {67: 67, 66: 33},
    "coco70": {800: 70},
}


def taken(labels: list[int]) -> tuple[int, ...]:
    """How many images each rate takes of a training split with these labels."""
    listing = Files(Path(), [f"{n}.jpg" for n in range(len(labels))], labels)
    return tuple(len(sample(listing, rate, 0)) for rate in RATES)


@pytest.mark.parametrize("kind", SIZES)
def test_rates_take_the_published_counts(kind: str) -> None:
    """From classes of the published sizes the rates take the counts of the paper's table."""
    sizes = [size for size, classes in SIZES[kind].items() for _ in range(classes)]
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    assert (len(sizes), len(labels)) == tuple(data.data_set(kind).counts[key] for key in ("classes", "train"))
    assert taken(labels) == PER_RATE[kind]


def real(kind: str) -> data.DataSet:
    """The real set; the test is passed over where it is not there."""
    folder = os.environ.get(REAL)
    if not folder:
        pytest.skip(f"NOT CHECKED on the real {kind}: set {REAL} to a folder that holds it")
    own = Path(folder) / kind
    found = data.data_set(kind)
    try:
        return found(build(found.Config, {"root": str(own if own.is_dir() else folder)}), 256)
    except UserError as problem:
        if own.is_dir():
            raise
        pytest.skip(f"NOT CHECKED on the real {kind}: {problem}")


@pytest.mark.parametrize("kind", PUBLISHED)
def test_real_counts(kind: str) -> None:
    """The real set has the published numbers of classes and images, and its rates take the published counts."""
    found = real(kind)
    counts = {"classes": len(found.class_names)}
    splits = {}
    for split in SPLITS:
        files = found.files(split) if isinstance(found, FileDataSet) else getattr(found, split)()
        if files:
            splits[split] = Counter(files.labels)
            counts[split] = len(files.names)
    if "images" in found.counts:
        counts = {"classes": counts["classes"], "images": counts["train"] + counts["test"]}
    assert counts == dict(found.counts)
    assert all(set(labels) == set(range(counts["classes"])) for labels in splits.values())
    if kind in PER_RATE:
        assert taken(list(splits["train"].elements())) == PER_RATE[kind]


@pytest.mark.parametrize("kind", sorted(MINIATURES))
def test_the_check_of_real_sets_can_fail(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small copy in place of the real set does not pass: the check looks into the folder."""
    if kind not in PUBLISHED:
        assert not data.data_set(kind).counts
        return
    MINIATURES[kind](tmp_path / kind, 0)
    monkeypatch.setenv(REAL, str(tmp_path))
    with pytest.raises(AssertionError, match="classes"):
        test_real_counts(kind)
