"""Made-up searches of one data set: luck is not put in but comes out of surfaces, points and validation images.

Every method has a surface over learning rate, weight decay and its own weight: a hill with bumps of its own, a rough
one, or one with a cliff above the best learning rate. A trial's validation accuracy errs by the seed and by the
validation images, half of the latter a smooth error that belongs to the split. Methods share their Sobol points.
Shapes: M methods, T trials.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import qmc

from benchmarks.calibration_claims import measures
from benchmarks.calibration_runs import World, study
from cotuning_tune.report.claims import LEVEL
from cotuning_tune.report.comparison import compare_methods
from cotuning_tune.report.models import seed_claim
from cotuning_tune.report.results import StudyResult
from cotuning_tune.runs.choice import choose, to_confirm
from cotuning_tune.scores import ACCURACY
from tests.report.synthetic import METHODS

CURVE = np.array([37.0, 6.0, 24.0])  # points lost at one range's width from the best value
SEED, TOP, CLIFF = 0.5, 70.0, 0.15
LOSS_OWN = 1.0  # points: what the validation loss likes besides accuracy
KINDS = {"hill": (0.6, 0.25), "rough": (1.5, 0.12), "cliff": (0.6, 0.25)}  # height and width of the bumps
Field = Callable[[Any], Any]


def field(rng: np.random.Generator, count: int, height: float, width: float) -> Field:
    """``count`` smooth random functions over the unit cube: points [count, T, 3] to values [count, T]."""
    waves, phase = rng.normal(size=(count, 3, 40)) / width, rng.uniform(0, 2 * np.pi, (count, 1, 40))
    parts = rng.normal(size=(count, 40, 1)) * height * (2 / 40) ** 0.5
    return lambda x: (np.cos(x @ waves + phase) @ parts)[..., 0]


class Surface:
    """The methods of one data set. ``same``: all have one surface, so that every verdict is false.

    Else each has bumps and a best point of its own, equal in law, and the last is ``effect`` points better.
    """

    def __init__(
        self, rng: np.random.Generator, images: int, kind: str = "hill", effect: float = 0.0, *, same: bool = False
    ) -> None:
        self.rng, self.kind, self.effect, self.methods = rng, kind, effect, len(METHODS[:5])
        self.images, self.error = images, 100 * (0.21 / images) ** 0.5
        self.best = rng.uniform(0.3, 0.7, 3) + (0 if same else 0.05) * rng.normal(size=(self.methods, 1, 3))
        self.bumps = field(rng, 1 if same else self.methods, *KINDS[kind])

    def true(self, x: Any) -> Any:
        """Expected test accuracies (%) [M, T] at points [M, T, 3]."""
        away = x - self.best
        hill = TOP - away**2 @ CURVE
        if self.kind == "cliff":
            hill = np.where(away[..., 0] > CLIFF, 25.0, hill)
        hill = hill + self.bumps(x)
        hill[-1] += self.effect
        return hill

    def points(self, trials: int) -> Any:
        """What a search tries, the same for all methods: [M, T, 3]."""
        drawn = qmc.Sobol(3, scramble=True, rng=self.rng).random(trials)
        return np.broadcast_to(drawn, (self.methods, trials, 3))

    def split(self) -> Field:
        """The smooth error of a validation split."""
        return field(self.rng, self.methods, 1.0, 0.25)

    def seen(self, x: Any, split: Field) -> Any:
        """Validation accuracies (%) [M, T] of trainings at points [M, T, 3] on a split."""
        true = self.true(x)
        own = self.rng.normal(size=true.shape)
        return true + SEED * self.rng.normal(size=true.shape) + self.error * 0.5**0.5 * (split(x) + own)

    def loss(self, x: Any, seen: Any) -> Any:
        """Validation losses [M, T], in points: they err partly as the accuracies do, and have a taste of their own."""
        true = self.true(x)
        noise = (SEED**2 + self.error**2) ** 0.5 * self.rng.normal(size=true.shape)
        taste = LOSS_OWN * field(self.rng, self.methods, 1.0, 0.25)(x)
        return -(true + SEED * self.rng.normal(size=true.shape) + 0.75 * 0.7 * (seen - true + noise) + taste)


def trial_rows(accuracies: Sequence[float], losses: Sequence[float] | None = None) -> list[Any]:
    """Trials of full length as ``study.json`` has them."""
    return [
        {
            "number": n,
            "state": "COMPLETE",
            "value": float(accuracy),
            "score": float(accuracy),
            "loss": float(losses[n]) if losses is not None else None,
            "values": {},
            "epochs": 10,
            "seconds": 1.0,
            "reason": "",
        }
        for n, accuracy in enumerate(accuracies)
    ]


@dataclass(frozen=True)
class RegretPart:
    """How far the chosen configuration lies below the best one tried, by the rule that chooses."""

    name: str
    title: str
    kind: str
    images: int
    trials: int
    section: str = "What choosing costs"
    weight: float = 0.15

    def once(self, rng: np.random.Generator) -> Mapping[str, float]:
        """The mean over the studies of one run."""
        surface = Surface(rng, self.images, self.kind)
        x, split, other = surface.points(self.trials), surface.split(), surface.split()
        true, seen = surface.true(x), surface.seen(x, split)
        loss, again = surface.loss(x, seen), surface.seen(x, other)
        thrice = (seen + again + surface.seen(x, surface.split())) / 3
        lost: dict[str, list[float]] = {}
        for m in range(surface.methods):
            rows = trial_rows(seen[m], loss[m])
            confirmed: Any = [{"confirms": n, "score": float(again[m, n])} for n in to_confirm(rows, ACCURACY)]
            for rule in ("max", "loss", "confirm"):
                chosen = choose(rows, confirmed, rule, ACCURACY)
                lost.setdefault(rule, []).append(true[m].max() - true[m, chosen["number"]] if chosen else np.nan)
            best = choose(trial_rows(thrice[m]), [], "max", ACCURACY)
            lost.setdefault("3splits", []).append(true[m].max() - true[m, best["number"]] if best else np.nan)
        return {f"regret_{rule}": float(fmean(values)) for rule, values in lost.items()}


@dataclass(frozen=True)
class AimPart:
    """Whole runs over one data set: ``searches`` of ``trials`` each on a split of its own, the best trial retrained.

    ``misread``: how often claim 2 of one search would be false, taken for a word about methods.
    """

    name: str
    title: str
    images: int
    searches: int
    trials: int
    seeds: int
    effect: float = 0.0
    section: str = "One data set: small searches against one search"
    weight: float = 0.2
    bounded: bool = True
    exact: bool = False

    def once(self, rng: np.random.Generator) -> Mapping[str, float]:
        """One report."""
        surface = Surface(rng, self.images, effect=self.effect, same=not self.effect)
        searches = [self._search(surface) for _ in range(self.searches)]
        record = measures(compare_methods(searches), World(1, searches=self.searches, effect=self.effect))
        if self.searches == 1:
            words = seed_claim({one.method: one.scores for one in searches[0]})
            misread = float(any(p <= LEVEL for p in words.values()))
            return {"false_verdict": record["false_verdict"], **({} if self.effect else {"misread": misread})}
        wanted = ["power", "best_in_set", "set_size"] if self.effect else ["false_verdict", "best_in_set", "coverage"]
        return {measure: record[measure] for measure in wanted}

    def _search(self, surface: Surface) -> list[StudyResult]:
        """Its studies, of which the test accuracies have the luck of the seed."""
        x = surface.points(self.trials)
        true, seen = surface.true(x), surface.seen(x, surface.split())
        studies = []
        for m, method in enumerate(METHODS[: surface.methods]):
            rows = trial_rows(seen[m])
            chosen = choose(rows, [], "max", ACCURACY)
            number = chosen["number"] if chosen else 0
            tested = true[m, number] + SEED * surface.rng.normal(size=self.seeds)
            studies.append(study("set0", 1.0, method, rows, tested))
        return studies


def _aims() -> list[AimPart]:
    parts = []
    for images in (200, 1000):
        for name, words, searches, trials, seeds in (
            ("8searches_4trials", "8 searches of 4 trials, 1 seed", 8, 4, 1),
            ("4searches_8trials", "4 searches of 8 trials, 1 seed", 4, 8, 1),
            ("1search_32trials", "1 search of 32 trials, 3 seeds", 1, 32, 3),
            ("8searches_32trials", "8 searches of 32 trials, 3 seeds", 8, 32, 3),
        ):
            for points in (0, 2, 3) if searches > 1 else (0,):
                told = f"one method {points} points better" if points else "equal methods"
                title = f"{words}; {images} validation images, {told}"
                full = f"aim_{name}_{images}images" + (f"_plus{points}" if points else "")
                weight = (0.2 if points else 0.4) / (4 if searches * trials > 32 else 1)
                parts.append(AimPart(full, title, images, searches, trials, seeds, float(points), weight=weight))
    return parts


def surface_parts() -> list[RegretPart | AimPart]:
    """Every row about searches of one data set."""
    regrets = [
        RegretPart(
            f"{kind}_{images}images_{trials}trials",
            f"{kind}, {images} validation images, {trials} trials",
            kind,
            images,
            trials,
        )
        for kind in KINDS
        for images in (50, 200, 1000)
        for trials in (8, 32)
    ]
    return [*_aims(), *regrets]
