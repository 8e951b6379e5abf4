"""The tables every report opens with: scores, gaps, chosen configurations, budgets."""

import math
from itertools import pairwise
from statistics import fmean
from typing import Any

from cotuning_tune.base.tables import Table
from cotuning_tune.report.comparison import BETTER, Comparisons
from cotuning_tune.report.results import (
    StudyResult,
    each_metric,
    examples_of,
    mean_over,
    mean_std,
    methods_of,
    metric_of_all,
    settings_of,
    studies_of,
)
from cotuning_tune.scores import ACCURACY


def _seed_counts(studies: list[StudyResult]) -> str:
    return " or ".join(map(str, sorted({len(c.scores) for c in studies})))


def tested_by(studies: list[StudyResult]) -> str:
    """What a table of test results shows."""
    metric = metric_of_all(studies)
    less = "" if metric.greater_is_better else ", less is better"
    return f"Test {metric.long}{' in percent' if metric.percent else ''}{each_metric(studies)}{less}"


def main_table(studies: list[StudyResult], comparisons: Comparisons, searches: int = 1, pooled: int = 1) -> Table:
    """Test scores, mean +- std over the seeds, method x setting, and the mean over settings.

    Bold: the average (with one setting: its figure) of each method that is called better.
    ``searches``: how many there shall be; the table is that of the first, or of the ``pooled`` small ones.
    """
    settings, methods, metric = settings_of(studies), methods_of(studies), metric_of_all(studies)
    rows = []
    for method in methods:
        mine, mean = studies_of(studies, method), mean_over(studies, method)
        row = [method, *(mean_std(mine[p].scores, mine[p].metric) if p in mine else "-" for p in settings)]
        rows.append(row + ([metric.text(mean) if mean is not None else "-"] if len(settings) > 1 else []))
    better = {effect.method for effect in comparisons.named(BETTER)}
    which = f" Of the first of {searches} searches, not of the best." if searches > 1 and pooled == 1 else ""
    over = f"{pooled} searches, each retrained once" if pooled > 1 else f"n = {_seed_counts(studies)} retraining seeds"
    bold = f" Bold: better than tuned fine-tuning {comparisons.scope}." if better else ""
    return Table(
        "main",
        f"Test {metric.shown}",
        ["method", *settings, *(["average"] if len(settings) > 1 else [])],
        rows,
        f"{tested_by(studies)}, mean ± sample standard deviation over {over}.{which}{bold}",
        frozenset((row, len(rows[row]) - 1) for row, method in enumerate(methods) if method in better),
    )


def gap_table(studies: list[StudyResult]) -> Table:
    """Validation against test score of each method: how much the choice flatters itself."""
    rows, metric = [], metric_of_all(studies)
    for method in methods_of(studies):
        tested = [c for c in studies if c.method == method and c.selection and c.scores]
        chosen = [c.selection["val_score"] for c in tested if c.selection]
        again = [
            s["val_score"]
            for c in tested
            for s in c.seeds
            if s["state"] == "COMPLETE" and s.get("val_score") is not None
        ]
        test = [a for c in tested for a in c.scores]
        means = [fmean(part) if part else None for part in (chosen, again, test)]
        gaps = [b - a if a is not None and b is not None else None for a, b in pairwise(means)]
        figures = ["-" if v is None else metric.text(v) for v in means]
        rows.append([method, *figures, *("-" if v is None else f"{v:+.{metric.digits}f}" for v in gaps)])
    header = ["method", "search val.", "retrained val.", "test", "retrained - search", "test - val."]
    note = (
        f"Mean {metric.label} over studies and seeds. Retrained - search: what being chosen as the best of many was"
        " worth. Test - val.: how the test split differs."
    )
    return Table("gap", "Validation against test", header, rows, note)


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _precision(study: StudyResult) -> tuple[str, str]:
    """The standard error of the chosen trial's validation score (points), and how many trials lie within one.

    Of an accuracy alone: of other metrics the number of examples does not tell it.
    """
    chosen = next((t for t in study.trials if study.selection and t["number"] == study.selection["trial"]), None)
    if not study.val_count or study.metric != ACCURACY or chosen is None or chosen.get("score") is None:
        return "-", "-"
    share = min(max(chosen["score"] / 100, 1 / study.val_count), 1 - 1 / study.val_count)
    error = 100 * math.sqrt(share * (1 - share) / study.val_count)
    best = max(t["score"] for t in study.complete or [chosen])
    return f"{error:.1f}", f"{sum(t['score'] >= best - error for t in study.complete)} of {len(study.complete)}"


def configuration_table(studies: list[StudyResult], search: int = 1) -> Table:
    """The chosen configuration of each study, and how sharply validation could choose it; ``search``: of which one."""
    rows = []
    for study in studies:
        if study.selection is None:
            rows.append([study.method, study.setting, "-", "-", "-", "-", "no trial succeeded"])
            continue
        chosen = study.selection
        fixed = next((t.get("fixed", "") for t in study.trials if t["number"] == chosen["trial"]), "")
        trial = f"{chosen['trial']} ({fixed})" if fixed else str(chosen["trial"])
        values = [f"{key} = {_shown(value)}" for key, value in chosen["values"].items()]
        row = [study.method, study.setting, trial, study.metric.text(chosen["val_score"]), *_precision(study)]
        rows.append([*row, ", ".join(values) or "all pinned"])
    rules = dict.fromkeys(study.selection["rule"] for study in studies if study.selection)
    counts = sorted({study.val_count for study in studies} - {0})
    images = ""
    if counts:
        ends = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
        images = f" {ends} validation {examples_of(studies)}."
    where = f" in search {search}" if search > 1 else ""
    note = (
        f"Chosen{where} by: {'; '.join(rules)}.{images} ±: standard error; within: trials less than one below the best."
    )
    header = ["method", "study", "trial", f"val. {metric_of_all(studies).shown}", "±", "within", "configuration"]
    return Table("configurations", "Best configurations", header, rows, note)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3f}"


NEARLY_OFF = 0.05  # of the cross-entropy: a method's terms below that hardly change the training


def _nearly_off(studies: list[StudyResult]) -> str:
    """How many of the drawn trials were fine-tuning with a touch of the method; a dash where it adds nothing."""
    drawn = [t["share"] for study in studies for t in study.complete if t.get("share") is not None and not t["fixed"]]
    if not any(drawn):
        return "-"
    return f"{100 * sum(abs(share) < NEARLY_OFF for share in drawn) / len(drawn):.0f} %"


def budget_table(studies: list[StudyResult], device: str) -> Table:
    """Trials, epochs and hours of each method: the proof of equal terms."""
    rows = []
    for method in methods_of(studies):
        mine = [study for study in studies if study.method == method]
        counts = [sum(c.count(state) for c in mine) for state in ("COMPLETE", "PRUNED", "FAIL")]
        fixed = sum(bool(t.get("fixed")) for study in mine for t in study.trials)
        rows.append(
            [
                method,
                str(sum(study.budget for study in mine)),
                *map(str, [*counts, fixed]),
                _nearly_off(mine),
                str(sum(len(study.confirmations) for study in mine)),
                str(sum(study.search_epochs for study in mine)),
                _hours(sum(study.search_seconds for study in mine)),
                str(sum(len(study.scores) for study in mine)),
                _hours(sum(study.retrain_seconds for study in mine)),
            ]
        )
    header = ["method", "trials", "complete", "pruned", "failed", "fixed", "nearly off", "confirmed", "epochs"]
    header += [f"search {device}-h", "seeds", f"retrain {device}-h"]
    note = (
        "Fixed: the published defaults, and the method off or at its weakest. Nearly off: drawn trials whose terms"
        f" change the loss by less than {100 * NEARLY_OFF:.0f} % of the cross-entropy."
    )
    return Table("budget", "Budgets", header, rows, note)
