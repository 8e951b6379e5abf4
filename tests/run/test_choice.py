"""Which trial is chosen: the rules over the rows of a study, without any study."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotuning_tune.runs.choice import RULES, TOP, choose, confirmed, judged, rule_of, rule_text, to_confirm
from cotuning_tune.runs.records import Confirmation, TrialRow
from cotuning_tune.scores import ACCURACY, METRICS

SCORES = st.sampled_from([10.0, 50.0, 60.0, 70.0])
NLL = METRICS["nll"]


def row(number: int, accuracy: float | None, state: str = "COMPLETE", loss: float | None = None) -> TrialRow:
    found: Any = {"number": number, "state": state, "score": accuracy, "loss": loss}
    return found


def again(confirms: int, accuracy: float | None) -> Confirmation:
    found: Any = {"confirms": confirms, "state": "COMPLETE" if accuracy else "FAIL", "score": accuracy}
    return found


@st.composite
def studies(draw: st.DrawFn) -> tuple[list[TrialRow], list[Confirmation]]:
    """Trials of all ends, and confirmations of some: also of trials that are no longer among the best."""
    states = st.sampled_from(["COMPLETE", "PRUNED", "FAIL", "RUNNING"])
    rows = [
        row(number, None if state in ("FAIL", "RUNNING") else draw(SCORES), state, draw(st.none() | SCORES))
        for number, state in enumerate(draw(st.lists(states, max_size=8)))
    ]
    done = [one["number"] for one in rows if one["state"] == "COMPLETE"]
    wanted = draw(st.lists(st.sampled_from(done), unique=True)) if done else []
    return rows, [again(number, draw(st.none() | SCORES)) for number in wanted]


def test_the_mean_of_both_splits_decides() -> None:
    """The best of the search loses to one that is better on the mean; what was not confirmed is not chosen."""
    rows = [row(0, 80.0), row(1, 70.0), row(2, 60.0), row(3, 50.0)]
    found = [again(0, 50.0), again(1, 72.0), again(2, 75.0)]
    chosen = choose(rows, found, "confirm", ACCURACY)
    assert chosen == rows[1]
    assert judged(rows[1], found, rows, "confirm", ACCURACY) == 71.0
    assert (choose(rows, found, "max", ACCURACY), judged(rows[0], found, rows, "max", ACCURACY)) == (rows[0], 80.0)


def test_a_failed_confirmation_drops_its_trial() -> None:
    """The others' means decide; where all have failed the search alone does."""
    rows = [row(0, 80.0), row(1, 70.0), row(2, 60.0)]
    assert choose(rows, [again(0, None), again(1, 10.0), again(2, 30.0)], "confirm", ACCURACY) == rows[2]
    assert choose(rows, [again(0, None), again(1, None), again(2, None)], "confirm", ACCURACY) == rows[0]


def test_the_lowest_loss() -> None:
    """The rule 'loss' takes the lowest validation loss, the earliest of equals; one without a loss comes last."""
    rows = [row(0, 80.0, loss=1.0), row(1, 70.0, loss=0.5), row(2, 10.0, loss=0.5), row(3, 90.0, loss=None)]
    assert choose(rows, [], "loss", ACCURACY) == rows[1]
    assert choose([row(0, 80.0), row(1, 90.0)], [], "loss", ACCURACY) == row(0, 80.0)


@pytest.mark.parametrize("rule", RULES)
def test_trials_of_full_length_come_first(rule: str) -> None:
    """A trial that was stopped early is chosen only where none ran to its end; of failures alone none is."""
    stopped = [row(0, 90.0, "PRUNED", 0.1), row(1, 95.0, "PRUNED", 0.1), row(2, 95.0, "PRUNED", 0.1)]
    assert choose(stopped, [], rule, ACCURACY) == stopped[1]
    assert rule_text(stopped[1], rule, ACCURACY).startswith("no trial ran to its end: best validation accuracy")
    full = row(3, 30.0, loss=9.0)
    assert choose([*stopped, full], [], rule, ACCURACY) == full
    assert rule_of(rule_text(full, rule, ACCURACY), ACCURACY) == rule
    assert choose([row(0, None, "FAIL")], [], rule, ACCURACY) is None


@given(studies())
def test_the_best_are_confirmed(study: tuple[list[TrialRow], list[Confirmation]]) -> None:
    """At most three, all of full length, none of the others more accurate; of equals the earlier ones."""
    rows, _ = study
    wanted, done = to_confirm(rows, ACCURACY), [one for one in rows if one["state"] == "COMPLETE"]
    keys = {one["number"]: (-(one["score"] or 0.0), one["number"]) for one in done}
    assert len(wanted) == min(TOP, len(done))
    assert wanted == sorted(keys, key=keys.__getitem__)[: len(wanted)]


@given(studies())
def test_the_chosen_has_the_highest_mean(study: tuple[list[TrialRow], list[Confirmation]]) -> None:
    """Of those confirmed no other has a higher mean, nor an equal one and a lower number."""
    rows, found = study
    chosen, pairs = choose(rows, found, "confirm", ACCURACY), confirmed(rows, found, ACCURACY)
    assert set(pairs) <= set(to_confirm(rows, ACCURACY))
    if not pairs:
        assert chosen == choose(rows, found, "max", ACCURACY)
        return
    assert chosen is not None
    assert chosen["number"] in pairs
    mine = judged(chosen, found, rows, "confirm", ACCURACY)
    for number, pair in pairs.items():
        mean = math.fsum(pair) / 2
        assert mean < mine or (mean == mine and number >= chosen["number"])


def test_less_is_better() -> None:
    """Every rule turns round with the metric's direction, and says so."""
    rows = [row(0, 0.9), row(1, 0.5), row(2, 0.5), row(3, 0.7), row(4, None, "FAIL")]
    assert choose(rows, [], "max", NLL) == rows[1]
    assert to_confirm(rows, NLL) == [1, 2, 3]
    found = [again(1, 0.9), again(2, 0.8), again(3, 0.4)]
    chosen = choose(rows, found, "confirm", NLL)
    assert (chosen, judged(rows[3], found, rows, "confirm", NLL)) == (rows[3], pytest.approx(0.55))
    assert "the lowest mean NLL" in rule_text(rows[3], "confirm", NLL)
    stopped = [row(0, 0.4, "PRUNED"), row(1, 0.2, "PRUNED")]
    assert choose(stopped, [], "max", NLL) == stopped[1]
