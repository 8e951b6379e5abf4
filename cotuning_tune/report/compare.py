"""Several runs in one table: scores, budgets, statistics where data sets are the same, and what differs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.tables import Table
from cotuning_tune.report.comparison import compare_pairs, shared_settings
from cotuning_tune.report.overview import budget_table, tested_by
from cotuning_tune.report.results import (
    StudyResult,
    device_of,
    mean_std,
    methods_of,
    metric_of_all,
    read_studies,
    read_tables,
    settings_of,
    studies_of,
)
from cotuning_tune.report.write import Report, write_files
from cotuning_tune.runs.folder import RunDir

# What two runs must have in common for their figures to say something about methods alone, with its default.
SHARED = {
    "backbone": "",
    "backbones": [],
    "weights": "",
    "trials": 32,
    "seeds": [0, 1, 2],
    "sampler": "tpe",
    "pruner": "none",
    "test_crops": "centre",
    "aim": "model",
    "selection": "confirm",
    "val_splits": 1,
    "retrain_on": "train",
    "metric": "",
}


@dataclass(frozen=True)
class RunResult:
    """A run by the name it is shown under, with its experiment file's tables, its budget file and its studies."""

    label: str
    tables: dict[str, Any]
    trials: int
    device: str
    studies: list[StudyResult]

    def setting(self, key: str) -> Any:
        if key == "trials":
            return self.trials
        return self.tables["experiment"].get(key, SHARED[key])


def read_runs(runs: list[RunDir]) -> list[RunResult]:
    """The runs by name, by path where two have the same name. Raises UserError for fewer than two different ones."""
    if len({str(run.path) for run in runs}) < max(2, len(runs)):
        raise UserError("compare needs at least two different runs, each named once")
    names = [run.name for run in runs]
    found = []
    for run in runs:
        asked, studies = read_tables(run), read_studies(run)
        label = run.name if names.count(run.name) == 1 else str(run.path)
        trials = max(study.budget for study in studies)
        found.append(RunResult(label, asked, trials, device_of(run), studies))
    return found


def compare_table(runs: list[RunResult]) -> Table:
    """Test score, mean +- std over the seeds: methods x (run: setting)."""
    columns = [(run, setting) for run in runs for setting in settings_of(run.studies)]
    methods = methods_of([study for run in runs for study in run.studies])
    rows = []
    for method in methods:
        found = [studies_of(run.studies, method).get(setting) for run, setting in columns]
        rows.append([method, *(mean_std(study.scores, study.metric) if study else "-" for study in found)])
    header = ["method", *(f"{run.label}: {setting}" for run, setting in columns)]
    every = [study for run in runs for study in run.studies]
    note = f"{tested_by(every)}, mean ± sample standard deviation over the retraining seeds."
    return Table("compare", f"Test {metric_of_all(every).shown} of the runs", header, rows, note)


def budgets_table(runs: list[RunResult]) -> Table:
    """Every run's budget table, one below the other."""
    tables = [budget_table(run.studies, "device") for run in runs]
    rows = [[run.label, *row] for run, table in zip(runs, tables, strict=True) for row in table.rows]
    devices = ", ".join(f"{run.label}: {run.device}" for run in runs)
    return Table("compare_budget", "Budgets of the runs", ["run", *tables[0].header], rows, f"Devices: {devices}.")


def statistics_table(runs: list[RunResult]) -> Table | None:
    """Every later run against the first one, method by method, where both have the same studies."""
    first, pairs = runs[0], {}
    for run in runs[1:]:
        for method in methods_of(run.studies):
            name = f"{method}: {run.label} - {first.label}"
            sides = studies_of(run.studies, method), studies_of(first.studies, method)
            pairs[name] = shared_settings(*sides)
    return compare_pairs(pairs)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables of an experiment file as dotted keys; ranges stay whole."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        nested = isinstance(value, Mapping) and "low" not in value
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def differences(runs: list[RunResult]) -> list[str]:
    """A warning for each setting in which the runs differ."""
    settings = [{key: run.setting(key) for key in SHARED} for run in runs]
    for run, setting in zip(runs, settings, strict=True):
        setting |= _flat({name: run.tables.get(name, {}) for name in ("task", "data", "train", "backbones", "methods")})
    keys = dict.fromkeys(key for setting in settings for key in setting)
    warnings = []
    for key in keys:
        values = [setting.get(key, "default") for setting in settings]
        if any(value != values[0] for value in values):
            shown = ", ".join(f"{run.label}: {value or '-'}" for run, value in zip(runs, values, strict=True))
            warnings.append(f"WARNING: the runs differ in {key} ({shown}): the table mixes it with all else.")
    return warnings


def write_comparison(folder: Path, report: Report) -> None:
    """``compare.md``, ``index.html``, and a CSV and a LaTeX file per table. Raises OSError."""
    write_files(folder, "compare.md", report)


def comparison_report(runs: list[RunResult]) -> Report:
    """The tables of several runs, and a warning for whatever they do not share."""
    statistics = statistics_table(runs)
    tables = [compare_table(runs), *([statistics] if statistics else []), budgets_table(runs)]
    remarks = differences(runs)
    if not statistics:
        remarks.append("No statistics: the runs share no method with results on the same study.")
    remarks.append(f"Runs: {', '.join(run.label for run in runs)}.")
    return Report(" and ".join(run.label for run in runs), tables, remarks)
