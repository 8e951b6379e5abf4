"""The report of a run: main table, best configurations, budgets, the test ledger; Markdown and CSV."""

import tomllib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from cotuning_tune import ledger
from cotuning_tune.files import read_json, write_bytes
from cotuning_tune.report.page import write_page
from cotuning_tune.report.published import published_remarks, published_table
from cotuning_tune.report.results import CellResult, mean_std, read_results
from cotuning_tune.run_dir import RunDir
from cotuning_tune.tables import Table


@dataclass(frozen=True)
class Report:
    """The tables of a run and the remarks that belong to them."""

    title: str
    tables: list[Table]
    remarks: list[str]

    def markdown(self) -> str:
        parts = [f"# {self.title}"]
        for table in self.tables:
            parts += [f"## {table.title}", table.markdown()] + ([table.note] if table.note else [])
        parts += ["## Remarks", "\n".join(f"- {remark}" for remark in self.remarks)]
        return "\n\n".join(parts) + "\n"


def _columns(cells: list[CellResult]) -> list[tuple[str, float]]:
    return list(dict.fromkeys((cell.task, cell.rate) for cell in cells))


def _methods(cells: list[CellResult]) -> list[str]:
    return list(dict.fromkeys(cell.method for cell in cells))


def main_table(cells: list[CellResult]) -> Table:
    """Test accuracy, mean +- std over the seeds, method x (task at rate), and the mean over cells."""
    by = {(c.method, c.task, c.rate): c for c in cells}
    columns = _columns(cells)
    header = ["method", *(f"{task} {100 * rate:g} %" for task, rate in columns)]
    rows = []
    for method in _methods(cells):
        found = [by.get((method, *column)) for column in columns]
        row = [method, *(mean_std(cell.accuracies) if cell else "-" for cell in found)]
        if len(columns) > 1:
            means = [sum(c.accuracies) / len(c.accuracies) for c in found if c and c.accuracies]
            row.append(f"{sum(means) / len(means):.2f}" if len(means) == len(columns) else "-")
        rows.append(row)
    if len(columns) > 1:
        header.append("average")
    counts = sorted({len(c.accuracies) for c in cells})
    n = " or ".join(map(str, counts))
    note = f"Test top-1 accuracy in percent, mean ± sample standard deviation over n = {n} retraining seeds."
    return Table("main", "Test accuracy", header, rows, note)


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def configuration_table(cells: list[CellResult]) -> Table:
    """The chosen configuration of each cell; * marks a value within 5 % of an end of its range."""
    rows = []
    for cell in cells:
        where = f"{cell.task} {100 * cell.rate:g} %"
        if cell.selection is None:
            rows.append([cell.method, where, "-", "-", "no trial succeeded"])
            continue
        chosen, edge = cell.selection, cell.selection["at_edge"]
        values = [f"{k} = {_shown(v)}{'*' if k in edge else ''}" for k, v in chosen["values"].items()]
        validation = f"{chosen['val_accuracy']:.2f}"
        rows.append([cell.method, where, str(chosen["trial"]), validation, ", ".join(values) or "all pinned"])
    header = ["method", "cell", "trial", "val. acc.", "configuration"]
    note = "Chosen by the best validation accuracy (%), never by a test part. * at the edge of its range."
    return Table("configurations", "Best configurations", header, rows, note)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3f}"


def budget_table(cells: list[CellResult], device: str) -> Table:
    """Trials, epochs and hours of each method: the proof of equal terms."""
    rows = []
    for method in _methods(cells):
        mine = [cell for cell in cells if cell.method == method]
        counts = [sum(c.count(state) for c in mine) for state in ("COMPLETE", "PRUNED", "FAIL")]
        rows.append(
            [
                method,
                str(sum(cell.asked for cell in mine)),
                *map(str, counts),
                str(sum(cell.search_epochs for cell in mine)),
                _hours(sum(cell.search_seconds for cell in mine)),
                str(sum(len(cell.accuracies) for cell in mine)),
                _hours(sum(cell.retrain_seconds for cell in mine)),
            ]
        )
    header = ["method", "trials asked", "complete", "stopped", "failed", "epochs", f"search {device}-h"]
    header += ["seeds", f"retrain {device}-h"]
    return Table("budget", "Budgets", header, rows)


def _failures(cells: list[CellResult]) -> list[str]:
    remarks = []
    for cell in cells:
        reasons = Counter(trial["reason"] for trial in cell.trials if trial["state"] == "FAIL")
        name = f"{cell.method} on {cell.task} at {100 * cell.rate:g} %"
        remarks += [f"{name}: {count} trial(s) failed: {reason}" for reason, count in reasons.items()]
        if cell.given_up:
            remarks.append(f"{name} was given up after too many failed trials: its budget is not filled.")
        if cell.selection and cell.selection["state"] != "COMPLETE":
            remarks.append(f"{name}: no trial ran to its end; the chosen one was stopped early.")
        lost = [seed for seed in cell.seeds if seed["state"] != "COMPLETE"]
        remarks += [f"{name}: seed {seed['seed']} failed: {seed['reason']}" for seed in lost]
    return remarks


def _equality_remark(cells: list[CellResult]) -> str:
    """Whether all cells finished the same number of trials and epochs."""
    trials = {cell.count("COMPLETE") + cell.count("PRUNED") for cell in cells}
    epochs = {sum(t["epochs"] for t in cell.trials if t["state"] != "FAIL") for cell in cells}
    if len(trials) == len(epochs) == 1:
        return f"Equal terms: every cell finished {trials.pop()} trials and {epochs.pop()} epochs."
    return (
        f"UNEQUAL TERMS: cells finished {min(trials)} to {max(trials)} trials and {min(epochs)} to"
        f" {max(epochs)} epochs; do not compare the methods."
    )


def _growth_remark(run: RunDir) -> list[str]:
    """When the run was extended: what was chosen before may have been seen on the test part."""
    grown = read_json(run.budget)["grown"] if run.budget.exists() else []
    steps = " -> ".join([str(grown[0]["from"]), *(str(step["to"]) for step in grown)]) if grown else ""
    return [f"The run was extended: {steps} trials a cell; every cell grew alike."] if grown else []


def _ledger_remark(run: RunDir, cells: list[CellResult]) -> list[str]:
    opened = Counter(entry.get("cell") for entry in ledger.read(run.ledger) if entry.get("event") == "open")
    needed = sum(len(cell.accuracies) for cell in cells)
    remarks = [f"Test parts were opened {opened.total()} times for {needed} retrained models ({run.ledger.name})."]
    if broken := ledger.broken_lines(run.ledger):
        remarks.append(f"WARNING: the test ledger's chain is broken at line {broken[0]}: damaged or edited.")
    return remarks


def build_report(run: RunDir) -> Report:
    """The report of a run whose search has ended; reads files only."""
    asked = tomllib.loads(run.experiment_file.read_text(encoding="utf-8"))
    experiment = asked["experiment"]
    cells = read_results(run, list(experiment["methods"]))
    device = "GPU" if read_json(run.environment)["gpus"] else "slot"
    n = min((len(cell.accuracies) for cell in cells), default=0)
    remarks = [
        _equality_remark(cells),
        f"Backbone: {experiment['backbone']}, every training from its pre-trained weights.",
        f"{n} seeds in one cell prove nothing alone: read the differences as what this run shows, no more.",
        *_growth_remark(run),
        *_ledger_remark(run, cells),
        *published_remarks(asked, cells),
        *_failures(cells),
    ]
    tables = [main_table(cells), configuration_table(cells), budget_table(cells, device)]
    if published := published_table(asked, cells):
        tables.append(published)
    return Report(run.name, tables, remarks)


def write_report(run: RunDir) -> Report:
    """Build the report and write ``report/report.md``, a CSV file a table, and all of it as one page."""
    report = build_report(run)
    write_bytes(run.report / "report.md", report.markdown().encode())
    for table in report.tables:
        write_bytes(run.report / f"{table.name}.csv", table.csv().encode())
    write_page(run, report.title, report.tables, report.remarks)
    return report
