"""What the folder of a training holds, as a tracker is told it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cotuning_tune.base.files import read_json
from cotuning_tune.runs.folder import RunDir, StudyDir, TrialDir
from cotuning_tune.runs.identity import read_identity
from cotuning_tune.runs.records import CONFIRMS, Epoch, read_facts, read_rows
from cotuning_tune.scores import Metric, metric_of
from cotuning_tune.tensorboard.events import best_so_far, scalars_of, tested_scalars
from cotuning_tune.trackers._base import Ending, TrackedRun, Training

NAMED = ("task", "rate", "method", "backbone")  # of a training's spec
CLOCK = "time/epoch_seconds"  # an epoch that is trained again after a kill has the same numbers but for this one


@dataclass(frozen=True)
class Found:
    """A training, its epochs so far, and how it ended (None: it has not)."""

    training: Training
    rows: list[Epoch]
    metric: Metric
    ending: Ending | None

    def scalars(self) -> list[dict[str, float]]:
        """The numbers of each epoch by name, called as in TensorBoard."""
        every = zip(self.rows, best_so_far(self.rows, self.metric), strict=True)
        named = [scalars_of(row, best, self.metric) for row, best in every]
        return [{name: value for name, value in found.items() if name != CLOCK} for found in named]


def tracked(run: RunDir, folder: Path) -> TrackedRun:
    """A run as trackers know it; ``folder``: where their files go."""
    identity = read_identity(run)
    key, group = (identity["id"], identity["studies"]) if identity else (str(run.path), run.name)
    return TrackedRun(key, run.name, group, folder)


def read_training(run: RunDir, folder: TrialDir) -> Found | None:
    """What a folder below ``run`` holds; None where there is nothing to tell (yet).

    A seed is told once it has been tested: one that failed by no fault of its method is taken up again.
    """
    if not folder.config.exists():
        return None
    study = StudyDir(folder.path.parent.parent)
    search, config = RunDir(study.path.parent.parent), read_json(folder.config)
    result = read_facts(folder.result) if folder.result.exists() else None
    prefix = f"{study.name}/" if search.path == run.path else f"{search.name}/{study.name}/"
    identity = tracked(search, search.path).key
    if "trial" in config:
        spec, number = config["specs"][0], f"{config['trial']:04d}"
        stage = "confirm" if CONFIRMS in config.get("attrs", {}) else "search"
        training = _training(f"{identity}/{study.name}/{number}", prefix + number, "", stage, spec, config["values"])
    else:
        spec, short = config["spec"], config["config"][:8]
        chosen = read_facts(study.selection) if study.selection.exists() else {}
        if result is None or result.get("again") or chosen.get("config") != config["config"]:
            return None
        name = f"{prefix}seed{config['seed']}-{short}"
        values = {**chosen["values"], "seed": config["seed"]}
        key = f"{identity}/{study.name}/{config['config']}/{config['seed']}"
        training = _training(key, name, f"{prefix}retrain-{short}", "retrain", spec, values)
    rows, metric = read_rows(folder.metrics), metric_of(spec.get("metric", ""))
    return Found(training, rows, metric, _ending(result, rows, metric) if result else None)


def _training(key: str, name: str, group: str, stage: str, spec: Mapping[str, Any], values: Any) -> Training:
    place = {name: spec[name] for name in NAMED if name in spec}
    return Training(uuid.uuid5(uuid.NAMESPACE_OID, key).hex, name, group, stage, {**place, "stage": stage, **values})


def _ending(result: Mapping[str, Any], rows: list[Epoch], metric: Metric) -> Ending:
    tested = tested_scalars(result, metric.name) if "test_score" in result else {}
    known = {"value": result.get("value", result.get("val_score")), "seconds": result["seconds"], **tested}
    values = cast(dict[str, float], {name: value for name, value in known.items() if value is not None})
    return Ending(result["state"], values, result["reason"], len(rows), rows[-1].get("time", 0.0) if rows else 0.0)
