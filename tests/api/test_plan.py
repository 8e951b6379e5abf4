"""The plan of an experiment from Python says what the command says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import cotuning_tune as ct
from tests.plan.conftest import experiment_text

Call = Callable[..., tuple[int, list[str], list[str]]]


def test_as_the_command(call: Call, tmp_path: Path) -> None:
    """The same figures as JSON; totals, frame and text are of these."""
    path = tmp_path / "made.toml"
    path.write_text(experiment_text())
    plan = ct.Experiment.from_file(path).plan(images_per_second=100, concurrent_trials=1)
    _, out, _ = call("plan", path, "--images-per-second=100", "--concurrent-trials=1", "--json")
    found = plan.to_json()
    assert json.loads("\n".join(out)) == json.loads(json.dumps(found))
    totals, rows = found["totals"], plan.studies()
    assert (plan.trials, plan.retrainings) == (totals["trials"], totals["retrainings"])
    assert plan.hours == totals["wall_s"] / 3600
    assert plan.trial_hours == pytest.approx(rows.hours.sum())
    assert plan.trial_hours == (totals["search_s"] + totals["retrain_s"]) / 3600
    assert rows.study.tolist() == [study["name"] for study in found["studies"]]
    assert plan.lines[0] == f"studies: {totals['studies']} (tasks 1 x rates 1 x methods {len(rows)})"
    assert set(found["notes"]) < set(plan.lines)
    assert repr(plan).startswith(f"Plan('made', {plan.trials} trials + {plan.retrainings} retrainings, ")


def test_without_a_speed(tmp_path: Path) -> None:
    """Counts and sizes only: no hours, no memory; impossible numbers are one line."""
    asked = ct.Experiment.from_toml(experiment_text(), "made", tmp_path)
    plan = asked.plan(probe=False)
    assert (plan.hours, plan.trial_hours, plan.memory_bytes) == (None, None, None)
    assert plan.studies().hours.isna().all()
    assert plan.model_bytes > 0
    with pytest.raises(ct.UserError, match="0: at least 1 is needed"):
        asked.plan(concurrent_trials=0, probe=False)
