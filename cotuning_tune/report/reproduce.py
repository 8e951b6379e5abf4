"""How one cell is made again: its command, its hash, and what it was made with."""

import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from cotuning_tune.base.tables import Table
from cotuning_tune.base.toml_text import format_value
from cotuning_tune.report.results import CellResult
from cotuning_tune.run.folder import RunDir


def train_command(run: RunDir, cell: CellResult) -> str:
    """The command that trains a cell's chosen configuration with the first retraining seed; '' of none."""
    if cell.selection is None:
        return ""
    words = ["cotuning-tune", "train", str(run.experiment_file), "--method", cell.method, "--task", cell.task]
    words += ["--rate", f"{cell.rate!r}", "--seed", str(cell.seeds[0]["seed"] if cell.seeds else 0)]
    for key, value in cell.selection["values"].items():
        words += ["--set", f"{key}={value if isinstance(value, str) else format_value(value)}"]
    return shlex.join(words)


def reproduce_table(run: RunDir, cells: list[CellResult]) -> Table:
    """A command a cell, with the hash of its configuration."""
    rows = [
        [cell.method, cell.place, (cell.selection or {}).get("config", "-"), train_command(run, cell) or "-"]
        for cell in cells
    ]
    note = (
        "Each trains the chosen configuration with its first retraining seed and shows validation accuracies: those of"
        " retrain/seed*/metrics.jsonl on the same machine. Relative paths in experiment.toml count from the folder"
        " 'base' of env.json."
    )
    return Table("reproduce", "To make one cell again", ["method", "cell", "configuration", "command"], rows, note)


def environment_table(environment: Mapping[str, Any]) -> Table:
    """Versions, hardware and command, from ``env.json``."""
    gpus = environment.get("gpus", [])
    rows = [
        ["cotuning_tune", str(environment.get("cotuning_tune", "-"))],
        ["python", str(environment.get("python", "-"))],
        *([name, str(version)] for name, version in environment.get("packages", {}).items()),
        ["GPUs", ", ".join(f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)) or "none"],
        ["command", shlex.join(_without_folders(environment.get("command", []))) or "-"],
    ]
    return Table("environment", "Made with", ["what", "value"], rows)


def _without_folders(command: list[str]) -> list[str]:
    """The command with the program's name alone."""
    return [PurePath(command[0]).name, *command[1:]] if command else []
