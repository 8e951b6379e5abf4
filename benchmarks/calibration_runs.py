"""Made-up results of whole runs whose truth is known: methods that do not differ, or of which the last is better.

A result is the data set's level + the method's effect + luck of the validation split + luck of the search + luck of
the seed. Random generators come from outside: a report repeats itself.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cotuning_tune.report.results import StudyResult
from tests.report.synthetic import METHODS

TRIALS, EPOCHS = 8, 9
RUNGS = (1, 3, EPOCHS)  # epochs after which a trial may be stopped early, and all of them


@dataclass(frozen=True)
class World:
    """What a run consists of, and how its results come about; standard deviations in points.

    ``luck``: of a search. ``seed``: of a retraining. ``own``: a method's effect on one data set, the same at all rates.
    ``split``: of the validation split that all searches of a data set share. ``noisy``: a method's number, and the
    factor of its luck. ``uneven``: the luck is a third on half of the data sets. ``effect``: of the last method.
    """

    data_sets: int = 4
    rates: int = 1
    seeds: int = 3
    searches: int = 1
    methods: int = 5
    luck: float = 0.7
    seed: float = 0.5
    own: float = 0.0
    split: float = 0.0
    noisy: tuple[int, float] = (0, 1.0)
    skewed: bool = False
    uneven: bool = False
    stopped: bool = False
    effect: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """The methods; the first is the baseline."""
        return METHODS[: self.methods]

    @property
    def truth(self) -> dict[str, float]:
        """Points above the baseline, by method."""
        return {method: self.effect * (method == self.names[-1]) for method in self.names}


def accuracies(world: World, rng: np.random.Generator) -> Any:
    """Test accuracies (%), [data sets, rates, searches, methods, seeds]."""
    D, R, K, M, S = world.data_sets, world.rates, world.searches, world.methods, world.seeds
    scale = np.ones((D, 1, 1, M, 1))
    scale[:, :, :, world.noisy[0]] = world.noisy[1]
    if world.uneven:
        scale[: D // 2] /= 3
    search = rng.normal(size=(D, R, K, M, 1))
    if world.skewed:  # mostly a little above, sometimes far below
        search = 1 - rng.exponential(size=search.shape)
    luck = scale * (world.luck * search + world.seed * rng.normal(size=(D, R, K, M, S)))
    shared = world.own * rng.normal(size=(D, 1, 1, M, 1)) + world.split * rng.normal(size=(D, R, 1, M, 1))
    level = 60 + 5 * rng.normal(size=(D, 1, 1, 1, 1)) + 4 * np.arange(R)[:, None, None, None]
    return level + np.array(list(world.truth.values()))[:, None] + shared + luck


def _trials(world: World, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The trials of a study; with early stopping two of three end at each rung, by luck alone."""
    ends = [EPOCHS] * TRIALS
    if world.stopped:
        ends = [RUNGS[min(2, int(rung) - 1)] for rung in rng.geometric(1 / 3, TRIALS)]
    return [
        {"number": n, "state": "COMPLETE" if end == EPOCHS else "PRUNED", "epochs": end, "seconds": 1.0, "values": {}}
        for n, end in enumerate(ends)
    ]


def _seeds(values: Any) -> list[dict[str, Any]]:
    return [
        {"seed": seed, "state": "COMPLETE", "test_score": float(value), "seconds": 1.0}
        for seed, value in enumerate(values)
    ]


def study(task: str, rate: float, method: str, rows: list[Any], tested: Any) -> StudyResult:
    """One study: its trials, and the test accuracies of its seeds."""
    selection = {"val_score": 60.0, "values": {}, "at_edge": [], "trial": 0}
    return StudyResult(task, rate, method, len(rows), rows, selection, _seeds(tested))


def make_run(world: World, rng: np.random.Generator) -> list[list[StudyResult]]:
    """The studies of each search, as the report reads them from files."""
    y = accuracies(world, rng)
    rows = _trials(World(), rng)
    return [
        [
            study(
                f"set{d}",
                (r + 1) / world.rates,
                method,
                _trials(world, rng) if world.stopped else rows,
                y[d, r, k, m],
            )
            for d in range(world.data_sets)
            for r in range(world.rates)
            for m, method in enumerate(world.names)
        ]
        for k in range(world.searches)
    ]


def as_data_sets(searches: list[list[StudyResult]], *, seeds: bool) -> list[list[StudyResult]]:
    """What reports did before: every setting, or seed of one, is a unit of its own. A calibration must catch it."""

    def split(one: StudyResult) -> list[StudyResult]:
        groups = [[seed] for seed in one.seeds] if seeds else [one.seeds]
        return [replace(one, task=f"{one.setting} {n}", rate=1.0, seeds=group) for n, group in enumerate(groups)]

    return [[unit for one in studies for unit in split(one)] for studies in searches]
