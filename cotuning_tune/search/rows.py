"""A trial of a study as other files have it: what is kept of its end, and its row in ``study.json``."""

import math
from typing import cast

from optuna.trial import FrozenTrial, TrialState

from cotuning_tune.runs.records import CONFIRMS, Confirmation, TrialResult, TrialRow, Values, present

KINDS = ("fixed", "off", CONFIRMS)  # what a trial is, beside its values
RESULT = "result"  # what came of a trial: score, loss, share, seconds, reason
LOSSES = "losses"  # how often the infrastructure lost it, and where


def result_of(trial: FrozenTrial) -> Values:
    """What came of a trial: ``score``, ``loss``, ``share``, ``seconds``, ``reason``, as far as they are known."""
    return present(dict(trial.user_attrs.get(RESULT, {})))


def facts_of(result: TrialResult) -> Values:
    """What a study keeps of a trial's end, of its ``result.json``."""
    if result["state"] == "FAIL":
        return {name: result[name] for name in ("seconds", "reason", "epochs")}
    known = {"score": result["value"], **{name: result.get(name) for name in ("loss", "share", "seconds", "epochs")}}
    return {name: fact for name, fact in known.items() if fact is not None}


def score_of(trial: FrozenTrial) -> float:
    """The validation score of the epoch that a trial kept, whether it ended or was stopped; NaN of none."""
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return trial.value
    return cast(float, result_of(trial).get("score", math.nan))


def values_of(trial: FrozenTrial) -> Values:
    """The values of a trial's parameters; those that switch a method off may lie outside of their ranges."""
    return {**trial.params, **trial.user_attrs.get("off", {})}


def row_of(trial: FrozenTrial) -> TrialRow:
    """A trial as ``study.json`` has it."""
    attrs, score = trial.user_attrs, score_of(trial)
    result = attrs.get(RESULT, {})
    return {
        "number": trial.number,
        "state": trial.state.name,
        "value": trial.value,
        "score": score if math.isfinite(score) else None,
        "loss": result.get("loss"),
        "share": result.get("share"),
        "fixed": attrs.get("fixed", ""),
        "values": values_of(trial),
        "epochs": result.get("epochs", len(trial.intermediate_values)),
        "seconds": result.get("seconds", 0.0),
        "reason": result.get("reason", ""),
        "reissued": attrs.get(LOSSES, {}).get("count", 0),
    }


def confirmation_of(trial: FrozenTrial) -> Confirmation:
    """A confirming trial as ``study.json`` has it."""
    row = row_of(trial)
    return {
        "confirms": trial.user_attrs[CONFIRMS],
        "state": row["state"],
        "score": row["score"] if row["state"] == "COMPLETE" else None,
        "epochs": row["epochs"],
        "seconds": row["seconds"],
        "reason": row["reason"],
    }
