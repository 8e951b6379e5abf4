"""Made-up searches whose best values are known: alarms of the diagnostics where all is well, and planted faults.

Every method has a hill over learning rate, weight decay (which means nothing) and its own weight, with bumps of its
own; a trial's validation accuracy is counted on few images. All methods see the same points.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.calibration_runs import study
from benchmarks.calibration_surfaces import Surface, trial_rows
from cotuning_tune.report.diagnostics import Space, examine, unlike_remarks
from cotuning_tune.report.results import StudyResult
from tests.report.synthetic import METHODS

CURVE = np.array([37.0, 0.0, 24.0])  # points lost at one range's width from the best value
DECADES = np.array([3.0, 4.0, 4.0])  # of the ranges of learning rate, weight decay, weight
LOW = np.array([-4.0, -6.0, -5.0])
EDGE = 0.05
BUMPS = 0.6  # standard deviation in points
SEED = 0.5
TEST_IMAGES = 1000


@dataclass(frozen=True)
class Searched:
    """A run's search. ``fault``: 'edge' (best learning rate beyond its range), 'diverging' (high ones fail) or none.

    ``stray``: share of the trials that fail wherever they lie.
    """

    data_sets: int = 1
    trials: int = 32
    images: int = 200
    methods: int = 5
    fault: str = ""
    stray: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        return METHODS[: self.methods]


def _keys(method: str) -> list[str]:
    shared = ["optim/lr", "optim/weight_decay"]
    return shared if method == METHODS[0] else [*shared, f"{method}/weight"]


def space_of(world: Searched) -> Space:
    """The ranges, all logarithmic."""
    searched: dict[str, dict[str, Any]] = {}
    for method in world.names:
        for key, low, decades in zip(_keys(method), LOW, DECADES, strict=False):
            owner = method if key.endswith("/weight") else "train"
            searched[key] = {"low": 10.0**low, "high": 10.0 ** (low + decades), "log": True, "of": owner}
    return Space(searched, "[experiment]\n")


def _bumps(rng: np.random.Generator, x: Any) -> Any:
    """A smooth random function at points [T, 3] of the unit cube: [T]."""
    waves, phase = rng.normal(size=(40, 3)) / 0.25, rng.uniform(0, 2 * np.pi, 40)
    return np.cos(x @ waves.T + phase) @ rng.normal(size=40) * BUMPS * (2 / 40) ** 0.5


def _study(world: Searched, task: str, method: str, best: Any, x: Any, rng: np.random.Generator) -> StudyResult:
    """One study over the points ``x`` [T, 3]: the best validation accuracy is chosen and retrained with three seeds."""
    keys = _keys(method)
    curve = CURVE * (np.arange(3) < len(keys))
    true = np.clip(70 - ((x - best) ** 2 @ curve) + _bumps(rng, x), 2, 98)
    reached = np.clip(true + SEED * rng.normal(size=len(x)), 0, 100) / 100
    seen = 100 * rng.binomial(world.images, reached) / world.images
    fails = (rng.random(len(x)) < 0.8) & (x[:, 0] > 0.7) & (world.fault == "diverging")
    fails |= rng.random(len(x)) < world.stray
    rows = [
        {
            "number": n,
            "state": "FAIL" if fails[n] else "COMPLETE",
            "value": None if fails[n] else float(seen[n]),
            "score": None if fails[n] else float(seen[n]),
            "values": {key: float(10 ** (LOW[i] + DECADES[i] * x[n, i])) for i, key in enumerate(keys)},
            "epochs": 10,
            "seconds": 1.0,
            "reason": "",
        }
        for n in range(len(x))
    ]
    top = int(np.where(fails, -1, seen).argmax())
    edge = [key for i, key in enumerate(keys) if not EDGE <= x[top, i] <= 1 - EDGE]
    selection = {"trial": top, "val_score": float(seen[top]), "values": rows[top]["values"], "at_edge": edge}
    tested = true[top] + SEED * rng.normal(size=3)
    seeds = [{"seed": s, "state": "COMPLETE", "test_score": float(a), "seconds": 1.0} for s, a in enumerate(tested)]
    return StudyResult(task, 1.0, method, len(x), rows, selection, seeds)


def search(world: Searched, rng: np.random.Generator) -> list[StudyResult]:
    """The studies of a run; its methods and data sets have nearly the same best values."""
    studies = []
    centre = rng.uniform(0.3, 0.7, 3)
    if world.fault == "edge":
        centre[0] = 1.2
    for d in range(world.data_sets):
        x = rng.random((world.trials, 3))
        for method in world.names:
            studies.append(_study(world, f"set{d}", method, centre + 0.05 * rng.normal(size=3), x, rng))
    return studies


@dataclass(frozen=True)
class AlarmPart:
    """What the diagnostics say of searches of one world: any finding is a false alarm, unless a fault was planted."""

    name: str
    title: str
    world: Searched
    section: str = "Search-space diagnostics"
    weight: float = 0.15

    def once(self, rng: np.random.Generator) -> Mapping[str, float]:
        """One report."""
        advice = examine(space_of(self.world), search(self.world, rng))
        if not self.world.fault:
            ends = [one for one in advice if "still rises" in one.finding]
            return {
                "alarms": float(bool(advice)),
                "alarms_edge": float(bool(ends)),
                "alarms_cause": float(len(advice) > len(ends)),
            }
        told = {
            "edge": "optim/lr: accuracy still rises at its high end",
            "diverging": "trials fail where optim/lr is at least",
        }[self.world.fault]
        return {"power": float(any(one.finding.startswith(told) for one in advice))}


def _retrained(surface: Surface, trials: int, settings: int, leak: float) -> list[StudyResult]:
    """Studies of which the retrained seeds have validation accuracies; a split is harder or easier for all methods."""
    rng, studies = surface.rng, []
    for d in range(settings):
        x, split, (val, test) = surface.points(trials), surface.split(), rng.normal(size=2)
        true = surface.true(x)
        seen = surface.seen(x, split) + leak + surface.error * val
        tested = 100 * (0.21 / TEST_IMAGES) ** 0.5 * test
        for m, method in enumerate(METHODS[: surface.methods]):
            top = int(seen[m].argmax())
            made = study(f"set{d}", 1.0, method, trial_rows(seen[m]), true[m, top] + SEED * rng.normal(size=3) + tested)
            own = SEED * rng.normal(size=3)  # a retraining has the luck of its own seed, and the split's again
            told = [
                {**seed, "val_score": float(seen[m, top] + luck), "test_count": TEST_IMAGES}
                for seed, luck in zip(made.seeds, own, strict=True)
            ]
            studies.append(replace(made, seeds=told, val_count=surface.images))
    return studies


@dataclass(frozen=True)
class UnlikePart:
    """The warning that validation is unlike test; ``leak``: points by which validation looks too good."""

    name: str
    title: str
    settings: int
    trials: int
    images: int = 200
    leak: float = 0.0
    section: str = "Validation unlike test"
    weight: float = 0.2

    def once(self, rng: np.random.Generator) -> Mapping[str, float]:
        """One report."""
        studies = _retrained(Surface(rng, self.images), self.trials, self.settings, self.leak)
        return {"power" if self.leak else "alarms": float(bool(unlike_remarks(studies)))}


SHAPES = {"1dataset_8trials": (1, 8), "1dataset_32trials": (1, 32), "4datasets_8trials": (4, 8)}
SHAPES["4datasets_32trials"] = (4, 32)


def _shape(data_sets: int, trials: int) -> str:
    return f"{data_sets} data set{'s' if data_sets > 1 else ''}, {trials} trials"


def alarm_parts() -> list[AlarmPart | UnlikePart]:
    """Searches in which nothing is wrong, and searches with a fault."""
    made: list[AlarmPart | UnlikePart] = []
    for name, words, fault, stray in (
        ("healthy", "nothing wrong", "", 0.0),
        ("stray", "one trial in ten fails, anywhere", "", 0.1),
        ("edge", "best learning rate beyond its range", "edge", 0.0),
        ("diverging", "high learning rates fail", "diverging", 0.0),
    ):
        for shape, (data_sets, trials) in SHAPES.items():
            world, title = Searched(data_sets, trials, fault=fault, stray=stray), _shape(data_sets, trials)
            weight = 0.3 if data_sets * trials < 128 else 0.1
            made.append(AlarmPart(f"{name}_{shape}", f"{title}, {words}", world, weight=weight))
    for leak in (0.0, 10.0, 20.0):
        for shape, (data_sets, trials) in SHAPES.items():
            words = f"validation {leak:.0f} points too good" if leak else "nothing wrong"
            name = f"unlike{leak:.0f}_{shape}" if leak else f"alike_{shape}"
            made.append(UnlikePart(name, f"{_shape(data_sets, trials)}, {words}", data_sets, trials, leak=leak))
    return made
