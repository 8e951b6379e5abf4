"""The tables every report opens with: accuracy, gain, gaps, chosen configurations, budgets."""

from itertools import pairwise
from statistics import fmean
from typing import Any

from cotuning_tune.base.tables import Table
from cotuning_tune.report.comparison import BASELINE, BETTER, Comparison
from cotuning_tune.report.results import CellResult, cells_of, mean_over, mean_std, methods_of, places_of


def _seed_counts(cells: list[CellResult]) -> str:
    return " or ".join(map(str, sorted({len(c.accuracies) for c in cells})))


def main_table(cells: list[CellResult], comparisons: list[Comparison], searches: int = 1) -> Table:
    """Test accuracy, mean +- std over the seeds, method x place, and the mean over places.

    Bold: the average (with one place: its figure) of each method that the paired test calls better.
    ``searches``: how many there shall be; the table is always that of the first.
    """
    places, methods = places_of(cells), methods_of(cells)
    rows = []
    for method in methods:
        mine, mean = cells_of(cells, method), mean_over(cells, method)
        row = [method, *(mean_std(mine[p].accuracies) if p in mine else "-" for p in places)]
        rows.append(row + ([f"{mean:.2f}" if mean is not None else "-"] if len(places) > 1 else []))
    better = {c.name for c in comparisons if c.verdict == BETTER}
    which = f" Of the first of {searches} searches, not of the best." if searches > 1 else ""
    bold = " Bold: better than tuned fine-tuning by the paired test over all cells." if better else ""
    return Table(
        "main",
        "Test accuracy",
        ["method", *places, *(["average"] if len(places) > 1 else [])],
        rows,
        f"Test top-1 accuracy in percent, mean ± sample standard deviation over n = {_seed_counts(cells)} retraining"
        f" seeds.{which}{bold}",
        frozenset((row, len(rows[row]) - 1) for row, method in enumerate(methods) if method in better),
    )


def _gain(own: float | None, base: float | None) -> str:
    if own is None or not base:
        return "-"
    return f"{own - base:+.2f} ({100 * (own - base) / base:+.1f} %)"


def gain_table(cells: list[CellResult]) -> Table | None:
    """Each method's gain over tuned fine-tuning, in points and in percent of it; None without the baseline."""
    base, places = cells_of(cells, BASELINE), places_of(cells)
    if not base:
        return None

    def mean_at(of: dict[str, CellResult], place: str) -> float | None:
        return fmean(of[place].accuracies) if place in of and of[place].accuracies else None

    rows = []
    for method in (m for m in methods_of(cells) if m != BASELINE):
        mine = cells_of(cells, method)
        row = [method, *(_gain(mean_at(mine, p), mean_at(base, p)) for p in places)]
        average = [_gain(mean_over(cells, method), mean_over(cells, BASELINE))] if len(places) > 1 else []
        rows.append(row + average)
    header = ["method", *places, *(["average"] if len(places) > 1 else [])]
    return (
        Table("gain", "Gain over tuned fine-tuning", header, rows, "In points, and in percent of it.") if rows else None
    )


def gap_table(cells: list[CellResult]) -> Table:
    """Validation against test accuracy of each method: how much the choice flatters itself."""
    rows = []
    for method in methods_of(cells):
        tested = [c for c in cells if c.method == method and c.selection and c.accuracies]
        chosen = [c.selection["val_accuracy"] for c in tested if c.selection]
        again = [s["val_accuracy"] for c in tested for s in c.seeds if s["state"] == "COMPLETE" and "val_accuracy" in s]
        test = [a for c in tested for a in c.accuracies]
        means = [fmean(part) if part else None for part in (chosen, again, test)]
        gaps = [b - a if a is not None and b is not None else None for a, b in pairwise(means)]
        figures = ["-" if v is None else f"{v:.2f}" for v in means]
        rows.append([method, *figures, *("-" if v is None else f"{v:+.2f}" for v in gaps)])
    header = ["method", "search val.", "retrained val.", "test", "retrained - search", "test - val."]
    note = (
        "Mean over cells and seeds (%). Retrained - search: what being chosen as the best of many was worth."
        " Test - val.: what the best of the epochs was worth, and how the test part differs."
    )
    return Table("gap", "Validation against test", header, rows, note)


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def configuration_table(cells: list[CellResult]) -> Table:
    """The chosen configuration of each cell; * marks a value within 5 % of an end of its range."""
    rows = []
    for cell in cells:
        if cell.selection is None:
            rows.append([cell.method, cell.place, "-", "-", "no trial succeeded"])
            continue
        chosen, edge = cell.selection, cell.selection["at_edge"]
        values = [f"{k} = {_shown(v)}{'*' if k in edge else ''}" for k, v in chosen["values"].items()]
        validation = f"{chosen['val_accuracy']:.2f}"
        rows.append([cell.method, cell.place, str(chosen["trial"]), validation, ", ".join(values) or "all pinned"])
    header = ["method", "cell", "trial", "val. acc.", "configuration"]
    note = "Chosen by the best validation accuracy (%), never by a test part. * at the edge of its range."
    return Table("configurations", "Best configurations", header, rows, note)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3f}"


def budget_table(cells: list[CellResult], device: str) -> Table:
    """Trials, epochs and hours of each method: the proof of equal terms."""
    rows = []
    for method in methods_of(cells):
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
