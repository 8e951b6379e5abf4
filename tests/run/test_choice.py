"""Which trial is chosen: the rules over the rows of a study, without any study."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotuning_tune.run.choice import RULES, STOPPED_RULE, TOP, choose, confirmed, judged, rule_text, to_confirm
from cotuning_tune.run.records import Confirmation, TrialRow

ACCURACY = st.sampled_from([10.0, 50.0, 60.0, 70.0])


def row(number: int, accuracy: float | None, state: str = "COMPLETE", loss: float | None = None) -> TrialRow:
    found: Any = {"number": number, "state": state, "accuracy": accuracy, "loss": loss}
    return found


def again(confirms: int, accuracy: float | None) -> Confirmation:
    found: Any = {"confirms": confirms, "state": "COMPLETE" if accuracy else "FAIL", "accuracy": accuracy}
    return found


@st.composite
def studies(draw: st.DrawFn) -> tuple[list[TrialRow], list[Confirmation]]:
    """Trials of all ends, and confirmations of some: also of trials that are no longer among the best."""
    states = st.sampled_from(["COMPLETE", "PRUNED", "FAIL", "RUNNING"])
    rows = [
        row(number, None if state in ("FAIL", "RUNNING") else draw(ACCURACY), state, draw(st.none() | ACCURACY))
        for number, state in enumerate(draw(st.lists(states, max_size=8)))
    ]
    done = [one["number"] for one in rows if one["state"] == "COMPLETE"]
    wanted = draw(st.lists(st.sampled_from(done), unique=True)) if done else []
    return rows, [again(number, draw(st.none() | ACCURACY)) for number in wanted]


def test_the_mean_of_both_splits_decides() -> None:
    """The best of the search loses to one that is better on the mean; what was not confirmed is not chosen."""
    rows = [row(0, 80.0), row(1, 70.0), row(2, 60.0), row(3, 50.0)]
    found = [again(0, 50.0), again(1, 72.0), again(2, 75.0)]
    chosen = choose(rows, found, "confirm")
    assert chosen == rows[1]
    assert judged(rows[1], found, rows, "confirm") == 71.0
    assert (choose(rows, found, "max"), judged(rows[0], found, rows, "max")) == (rows[0], 80.0)


def test_a_failed_confirmation_drops_its_trial() -> None:
    """The others' means decide; where all have failed the search alone does."""
    rows = [row(0, 80.0), row(1, 70.0), row(2, 60.0)]
    assert choose(rows, [again(0, None), again(1, 10.0), again(2, 30.0)], "confirm") == rows[2]
    assert choose(rows, [again(0, None), again(1, None), again(2, None)], "confirm") == rows[0]


def test_the_lowest_loss() -> None:
    """The rule 'loss' takes the lowest validation loss, the earliest of equals; one without a loss comes last."""
    rows = [row(0, 80.0, loss=1.0), row(1, 70.0, loss=0.5), row(2, 10.0, loss=0.5), row(3, 90.0, loss=None)]
    assert choose(rows, [], "loss") == rows[1]
    assert choose([row(0, 80.0), row(1, 90.0)], [], "loss") == row(0, 80.0)


@pytest.mark.parametrize("rule", RULES)
def test_trials_of_full_length_come_first(rule: str) -> None:
    """A trial that was stopped early is chosen only where none ran to its end; of failures alone none is."""
    stopped = [row(0, 90.0, "PRUNED", 0.1), row(1, 95.0, "PRUNED", 0.1), row(2, 95.0, "PRUNED", 0.1)]
    assert choose(stopped, [], rule) == stopped[1]
    assert rule_text(stopped[1], rule) == STOPPED_RULE
    full = row(3, 30.0, loss=9.0)
    assert choose([*stopped, full], [], rule) == full
    assert rule_text(full, rule) == RULES[rule]
    assert choose([row(0, None, "FAIL")], [], rule) is None


@given(studies())
def test_the_best_are_confirmed(study: tuple[list[TrialRow], list[Confirmation]]) -> None:
    """At most three, all of full length, none of the others more accurate; of equals the earlier ones."""
    rows, _ = study
    wanted, done = to_confirm(rows), [one for one in rows if one["state"] == "COMPLETE"]
    keys = {one["number"]: (-(one["accuracy"] or 0.0), one["number"]) for one in done}
    assert len(wanted) == min(TOP, len(done))
    assert wanted == sorted(keys, key=keys.__getitem__)[: len(wanted)]


@given(studies())
def test_the_chosen_has_the_highest_mean(study: tuple[list[TrialRow], list[Confirmation]]) -> None:
    """Of those confirmed no other has a higher mean, nor an equal one and a lower number."""
    rows, found = study
    chosen, pairs = choose(rows, found, "confirm"), confirmed(rows, found)
    assert set(pairs) <= set(to_confirm(rows))
    if not pairs:
        assert chosen == choose(rows, found, "max")
        return
    assert chosen is not None
    assert chosen["number"] in pairs
    mine = judged(chosen, found, rows, "confirm")
    for number, pair in pairs.items():
        mean = math.fsum(pair) / 2
        assert mean < mine or (mean == mine and number >= chosen["number"])
