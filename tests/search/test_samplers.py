"""Draws follow from seed, study and trial number; with QMC every method is tried at the same points."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from cotuning_tune.search.samplers import make_sampler, place, sobol_point

SPACE = {
    "optim/lr": FloatDistribution(1e-4, 1e-1, log=True),
    "batch_norm": CategoricalDistribution(("train", "frozen")),
}
METHOD = {**SPACE, "bss/weight": FloatDistribution(0.0, 1.0)}
KINDS = ["tpe", "random", "qmc", "gp"]


def draw(kind: str, study: str, number: int, space: dict[str, optuna.distributions.BaseDistribution]) -> dict:
    """What a fresh process would draw for a trial of an empty study."""
    drawn = optuna.create_study(direction="maximize")
    drawn.sampler = make_sampler(kind, 7, study, number, list(space))
    return drawn.ask(space).params


@pytest.mark.parametrize("kind", KINDS)
def test_a_resume_draws_the_same(kind: str) -> None:
    """The same seed, study and number give the same draw, another number another one."""
    assert draw(kind, "a", 3, METHOD) == draw(kind, "a", 3, METHOD)
    assert draw(kind, "a", 3, METHOD) != draw(kind, "a", 4, METHOD)


def test_qmc_points_are_common_to_all_methods() -> None:
    """Trial n has the same training parameters in every study, whatever else a method searches."""
    for number in (2, 3, 100):
        plain, method = draw("qmc", "a", number, SPACE), draw("qmc", "b", number, METHOD)
        assert {key: method[key] for key in plain} == plain


def test_random_studies_differ() -> None:
    """Random draws of different studies are independent."""
    assert draw("random", "a", 3, SPACE) != draw("random", "b", 3, SPACE)


def test_sobol_points_fill_the_space_evenly() -> None:
    """Of 16 points every sixteenth of each of the first coordinates holds exactly one."""
    points = np.stack([sobol_point(0, number) for number in range(16)])
    for coordinate in range(4):
        assert sorted((points[:, coordinate] * 16).astype(int)) == list(range(16))
    assert (sobol_point(0, 3) == sobol_point(0, 3)).all()
    assert (sobol_point(0, 3) != sobol_point(1, 3)).any()


def test_a_longer_sequence_begins_alike() -> None:
    """Point 3 is the same whether 64 or 256 points have been made."""
    before = sobol_point(5, 3).copy()
    sobol_point(5, 200)
    assert (sobol_point(5, 3) == before).all()


@pytest.mark.parametrize(
    ("share", "distribution", "value"),
    [
        (0.5, FloatDistribution(1e-4, 1e-2, log=True), 1e-3),
        (0.25, FloatDistribution(0.0, 4.0), 1.0),
        (0.0, IntDistribution(1, 3), 1),
        (0.999, IntDistribution(1, 3), 3),
        (0.5, IntDistribution(1, 3), 2),
        (0.999, CategoricalDistribution(("a", "b")), "b"),
    ],
)
def test_place(share: float, distribution: optuna.distributions.BaseDistribution, value: object) -> None:
    """A share of a range is a value by hand, in the logarithm where the range is logarithmic."""
    assert place(share, distribution) == pytest.approx(value) if isinstance(value, float) else value
