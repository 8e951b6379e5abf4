"""Made-up searches whose best values are known: alarms of the diagnostics where all is well, and planted faults.

Every method has a hill over learning rate, weight decay (which means nothing) and its own weight, with bumps of its
own; a trial's validation accuracy is counted on few images. All methods see the same points.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cotuning_tune.report.diagnostics import Space, examine
from cotuning_tune.report.results import StudyResult
from tests.report.synthetic import METHODS

CURVE = np.array([37.0, 0.0, 24.0])  # points lost at one range's width from the best value
DECADES = np.array([3.0, 4.0, 4.0])  # of the ranges of learning rate, weight decay, weight
LOW = np.array([-4.0, -6.0, -5.0])
EDGE = 0.05
BUMPS = 0.6  # standard deviation in points
SEED = 0.5


@dataclass(frozen=True)
class Searched:
    """A run's search. ``fault``: 'edge' (best learning rate beyond its range), 'diverging' (high ones fail) or none."""

    data_sets: int = 1
    trials: int = 32
    images: int = 200
    methods: int = 5
    fault: str = ""

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
    rows = [
        {
            "number": n,
            "state": "FAIL" if fails[n] else "COMPLETE",
            "value": None if fails[n] else float(seen[n]),
            "accuracy": None if fails[n] else float(seen[n]),
            "values": {key: float(10 ** (LOW[i] + DECADES[i] * x[n, i])) for i, key in enumerate(keys)},
            "epochs": 10,
            "seconds": 1.0,
            "reason": "",
        }
        for n in range(len(x))
    ]
    top = int(np.where(fails, -1, seen).argmax())
    edge = [key for i, key in enumerate(keys) if not EDGE <= x[top, i] <= 1 - EDGE]
    selection = {"trial": top, "val_accuracy": float(seen[top]), "values": rows[top]["values"], "at_edge": edge}
    tested = true[top] + SEED * rng.normal(size=3)
    seeds = [{"seed": s, "state": "COMPLETE", "test_accuracy": float(a), "seconds": 1.0} for s, a in enumerate(tested)]
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
    weight: float = 0.5

    def once(self, rng: np.random.Generator) -> Mapping[str, float]:
        """One report."""
        findings = [advice.finding for advice in examine(space_of(self.world), search(self.world, rng))]
        if not self.world.fault:
            return {"alarms": float(bool(findings))}
        word = {"edge": "optim/lr", "diverging": "trials fail where optim/lr is at least"}[self.world.fault]
        return {"found": float(any(word in finding for finding in findings))}


def alarm_parts() -> list[AlarmPart]:
    """Searches in which nothing is wrong, and searches with a fault."""
    shapes = {"1dataset_8trials": (1, 8), "1dataset_32trials": (1, 32), "4datasets_32trials": (4, 32)}
    made = []
    for fault, words in (
        ("", "nothing wrong"),
        ("edge", "best learning rate beyond its range"),
        ("diverging", "high learning rates fail"),
    ):
        for name, (data_sets, trials) in shapes.items():
            title = f"{data_sets} data set{'s' if data_sets > 1 else ''}, {trials} trials, {words}"
            world = Searched(data_sets, trials, fault=fault)
            made.append(AlarmPart(f"{fault or 'healthy'}_{name}", title, world))
    return made
