"""How one study is made again: its command, its hash, and what it was made with."""

import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from cotuning_tune.base.secrets import masked
from cotuning_tune.base.tables import Table
from cotuning_tune.base.toml_text import format_value
from cotuning_tune.report.results import StudyResult
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.snapshot import DataRecord, TaskRecord


def train_command(run: RunDir, study: StudyResult) -> str:
    """The command that trains a study's chosen configuration with the first retraining seed; '' of none."""
    if study.selection is None:
        return ""
    words = ["cotuning-tune", "train", str(run.experiment_file), "--method", study.method, "--task", study.task]
    words += ["--rate", f"{study.rate!r}", "--seed", str(study.seeds[0]["seed"] if study.seeds else 0)]
    own = {"backbone": study.backbone} if study.backbone else {}
    for key, value in (own | study.selection["values"]).items():
        words += ["--set", f"{key}={value if isinstance(value, str) else format_value(value)}"]
    return shlex.join(words)


def reproduce_table(run: RunDir, studies: list[StudyResult]) -> Table:
    """A command a study, with the hash of its configuration."""
    rows = [
        [study.method, study.setting, (study.selection or {}).get("config", "-"), train_command(run, study) or "-"]
        for study in studies
    ]
    note = (
        "Each trains the chosen configuration with its first retraining seed and shows validation scores: those of"
        " retrain/seed*/metrics.jsonl on the same machine. Relative paths in experiment.toml count from the folder"
        " 'base' of env.json."
    )
    return Table("reproduce", "To make one study again", ["method", "study", "configuration", "command"], rows, note)


def environment_table(environment: Mapping[str, Any], data: DataRecord) -> Table:
    """Versions, hardware and command, from ``env.json``; images and key of each task's data, from ``data.json``."""
    gpus = environment.get("gpus", [])
    rows = [
        ["cotuning_tune", str(environment.get("cotuning_tune", "-"))],
        ["python", str(environment.get("python", "-"))],
        *([name, str(version)] for name, version in environment.get("packages", {}).items()),
        ["GPUs", ", ".join(f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)) or "none"],
        *([f"data of {task}", _shown(record)] for task, record in data["tasks"].items()),
        ["command", masked(shlex.join(_without_folders(environment.get("command", [])))) or "-"],
    ]
    return Table("environment", "Made with", ["what", "value"], rows)


def _shown(record: TaskRecord) -> str:
    """Classes, images of each split as published, and their keys."""
    splits = [f"{split} {count} ({record['keys'][split]})" for split, count in record["counts"].items() if count]
    return f"{record['classes']} classes; images (key): {', '.join(splits)}"


def _without_folders(command: list[str]) -> list[str]:
    """The command with the program's name alone."""
    return [PurePath(command[0]).name, *command[1:]] if command else []
