"""Samplers whose draws follow from the run's seed, the study and the trial's number: a resume repeats none."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from cotuning_tune.base.seeding import derive_seed
from cotuning_tune.runs.records import Values

RANDOM_FIRST = 6
QMC_DIMENSIONS = 32


@lru_cache(maxsize=8)
def _sobol(seed: int, count: int) -> NDArray[np.float64]:
    """The first ``count`` (a power of 2) points of one scrambled Sobol sequence, [count, dimensions]."""
    from scipy.stats import qmc

    return np.asarray(qmc.Sobol(QMC_DIMENSIONS, scramble=True, rng=np.random.default_rng(seed)).random(count))


def sobol_point(seed: int, number: int) -> NDArray[np.float64]:
    """Point ``number`` of the sequence, [dimensions] in [0, 1)."""
    count = 2 ** max(6, math.ceil(math.log2(number + 1)))
    return np.asarray(_sobol(seed, count)[number])


def place(share: float, distribution: BaseDistribution) -> object:
    """The value that lies at ``share`` (0 to 1) of a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[min(int(share * len(distribution.choices)), len(distribution.choices) - 1)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    whole = isinstance(distribution, IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if whole:
        low, high = low - 0.5, high + 0.5
    if distribution.log:
        low = max(low, 0.5) if whole else low
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    value = min(max(value, distribution.low), distribution.high)
    return min(max(round(value), int(distribution.low)), int(distribution.high)) if whole else value


class CommonPoints(BaseSampler):
    """Quasi-Monte Carlo: trial n of every study takes point n of one Sobol sequence (Sobol 1967, Owen scrambled).

    A parameter's coordinate goes with its name: ``order`` lists those of the training first, also such as the method
    does not have. So every method is tried at the same learning rates. The fairest sampler for comparing methods.
    """

    def __init__(self, seed: int, number: int, order: list[str]) -> None:
        self.point, self.order = sobol_point(seed, number), order

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Values:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> object:
        return place(float(self.point[self.order.index(param_name)]), param_distribution)


def make_sampler(kind: str, seed: int, study: str, number: int, order: list[str]) -> BaseSampler:
    """The sampler for one trial. TPE and GP look at the study's trials too, the others at nothing else."""
    own = derive_seed(seed, study, number) % 2**32
    if kind == "qmc":
        return CommonPoints(derive_seed(seed, "qmc") % 2**32, number, order)
    if kind == "random":
        return RandomSampler(seed=own)
    if kind == "gp":
        return GPSampler(seed=own, n_startup_trials=RANDOM_FIRST, deterministic_objective=False)
    return TPESampler(seed=own, n_startup_trials=RANDOM_FIRST, multivariate=True, constant_liar=True)
