"""The report of a run: its tables and remarks from the files alone; Markdown, CSV and LaTeX."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json, write_bytes
from cotuning_tune.base.tables import Table
from cotuning_tune.report.advice import read_space
from cotuning_tune.report.answer import Answer, answer_of, open_question
from cotuning_tune.report.audit import HeadOf, audit_remarks, audit_studies, audit_table
from cotuning_tune.report.caveats import backbone_remarks, data_remarks, direct_remarks, overlap_remarks
from cotuning_tune.report.comparison import (
    Comparisons,
    baseline_table,
    bests_table,
    compare_methods,
    comparison_remarks,
)
from cotuning_tune.report.diagnostics import diagnostics_remarks, examine, unlike_remarks
from cotuning_tune.report.figures import Figure, build_figures
from cotuning_tune.report.figures.draw import write_figures
from cotuning_tune.report.models import models_tables
from cotuning_tune.report.overview import budget_table, configuration_table, gap_table, main_table
from cotuning_tune.report.page import DETAILS, page_html
from cotuning_tune.report.published import published_remarks, published_table
from cotuning_tune.report.repeats import (
    Search,
    independent,
    of_search,
    pooled,
    read_searches,
    searches_remarks,
    searches_tables,
)
from cotuning_tune.report.reproduce import environment_table, reproduce_table
from cotuning_tune.report.results import StudyResult, device_of, methods_of, read_studies, read_tables
from cotuning_tune.runs.budget import Budget, growth
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.snapshot import read_record

IN_TERMINAL = ("main", "statistics", "configurations", "budget", "repeats")
ROWS_IN_TERMINAL = 12
REMARKS_IN_TERMINAL = 12
WARNINGS = ("WARNING", "UNEQUAL")


@dataclass(frozen=True)
class Report:
    """The answer of a run, its tables and the remarks that belong to them, the most important first; its figures.

    Of several runs there are no answer, no studies and no figures.
    """

    title: str
    tables: list[Table]
    remarks: list[str]
    answer: Answer = field(default_factory=lambda: Answer([], {}))
    studies: list[StudyResult] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def markdown(self) -> str:
        parts = [f"# {self.title}", *(["\n".join(f"- {x}" for x in self.answer.lines)] if self.answer.lines else [])]
        for table in (table for table in self.tables if table.name not in DETAILS):
            parts += [f"## {table.title}", table.markdown()] + ([table.note] if table.note else [])
        parts += ["## Remarks", "\n".join(f"- {remark}" for remark in self.remarks)]
        if details := [table.title for table in self.tables if table.name in DETAILS]:
            parts.append(f"In index.html, and as CSV and LaTeX, also: {', '.join(details)}.")
        return "\n\n".join(parts) + "\n"

    def to_json(self) -> dict[str, object]:
        """Title, answer, tables and remarks, as JSON can hold them."""
        tables = [
            {key: getattr(table, key) for key in ("name", "title", "header", "rows", "note")} for table in self.tables
        ]
        answer = {"lines": self.answer.lines, **self.answer.content}
        return {"title": self.title, "answer": answer, "tables": tables, "remarks": self.remarks}

    def terminal(self) -> str:
        """What a terminal shows: a few short tables; every warning, and of the other remarks the first ones."""
        shown = [t for t in self.tables if t.name in IN_TERMINAL and len(t.rows) <= ROWS_IN_TERMINAL]
        parts = ["\n".join(self.answer.lines)] if self.answer.lines else []
        parts += ["\n".join([t.title, t.markdown(), *([t.note] if t.note else [])]) for t in shown]
        warnings = [remark for remark in self.remarks if remark.startswith(WARNINGS)]
        others = [remark for remark in self.remarks if remark not in warnings]
        kept = [*warnings, *others[: max(0, REMARKS_IN_TERMINAL - len(warnings))]]
        remarks = [f"- {remark}" for remark in self.remarks if remark in kept]
        if len(kept) < len(self.remarks):
            remarks.append(f"- {len(self.remarks) - len(kept)} more remarks in the report")
        left = [table.name for table in self.tables if table not in shown]
        remarks += [f"- also in the report: {', '.join(left)}"] if left else []
        return "\n\n".join([*parts, "\n".join(remarks)])


def _failed_trials(studies: list[StudyResult]) -> list[str]:
    """Failed trials by method and reason, over all searches."""
    failed: dict[tuple[str, str], list[str]] = {}
    for study in studies:
        for trial in (t for t in study.trials if t["state"] == "FAIL"):
            failed.setdefault((study.method, trial["reason"]), []).append(study.shown)
    remarks = []
    for (method, reason), where in failed.items():
        settings = Counter(where)
        name = where[0] if len(settings) == 1 else f"{method} in {len(settings)} studies"
        remarks.append(f"{name}: {len(where)} trial(s) failed: {reason}")
    return remarks


def _lost(studies: list[StudyResult]) -> list[str]:
    """Studies without a choice, or with one among stopped trials; failed seeds."""
    remarks = []
    for study in studies:
        if study.selection is None:
            remarks.append(f"WARNING: {study.shown}: no trial succeeded, there is nothing to retrain.")
        if study.selection and study.selection.get("state", "COMPLETE") != "COMPLETE":
            remarks.append(f"{study.shown}: no trial ran to its end; the chosen one was stopped early.")
        lost = [seed for seed in study.seeds if seed["state"] != "COMPLETE"]
        remarks += [f"WARNING: {study.shown}: seed {seed['seed']} failed: {seed['reason']}" for seed in lost]
    return remarks


def _equality_remark(studies: list[StudyResult], rule: str) -> str:
    """Whether all studies had the same number of trials, as long as one another; ``rule``: the early stopping's."""
    trials, longest = {study.finished for study in studies}, {study.longest for study in studies if study.complete}
    if len(trials) > 1 or len(longest) > 1:
        return (
            f"UNEQUAL TERMS: studies had {min(trials)} to {max(trials)} trials of"
            f" {min(longest, default=0)} to {max(longest, default=0)} epochs; do not compare the methods."
        )
    counts = {m: sum(s.count("PRUNED") for s in studies if s.method == m) for m in methods_of(studies)}
    stopped = ", ".join(f"{method} {count}" for method, count in counts.items() if count)
    named = f" ({rule})" if rule else ""
    early = f"; by the same rule{named} some were stopped early ({stopped})" if stopped else ""
    return f"Equal terms: every study had {trials.pop()} trials of {max(longest, default=0)} epochs{early}."


def _growth_remark(run: RunDir) -> list[str]:
    """When the run was extended: what was chosen before may have been seen on the test split."""
    told = []
    for of, what in (("trials", "trials per study; every study grew alike"), ("hours", "hours of search")):
        if grown := [step for step in growth(run) if step.get("of", "trials") == of]:
            steps = " -> ".join(f"{number:g}" for number in (grown[0]["from"], *(step["to"] for step in grown)))
            told.append(f"The run was extended: {steps} {what}.")
    return told


def _hours_remark(run: RunDir, hours: float) -> list[str]:
    """That the search's hours gave the number of trials."""
    size = Budget(run, 0, hours)
    had = f"The {size.hours:g} hours of the search gave every study {size.over} trial(s)"
    return [f"{had}: a round that has begun is finished."] if size.over else []


def _no_methods(run: RunDir, comparisons: Comparisons) -> str:
    """Why the methods cannot lead a report, and what to do."""
    if not comparisons.why:
        return f"{run.path} has one method: there is nothing to compare"
    how = f"{open_question(run, comparisons) or 'cotuning-tune resume ' + str(run.path)}, or more data sets"
    return f"{comparisons.why} To compare them: {how}"


def build_report(run: RunDir, aim: str = "", head_of: HeadOf | None = None) -> Report:
    """The report of a run whose search has ended; reads files only.

    ``aim``: which answer leads, 'model' or 'methods' ('': as the run was asked); ``head_of``: how far a search's test
    ledger went, as its studies know it. Raises UserError for 'methods' where the run does not tell methods apart.
    """
    asked, studies = read_tables(run), read_studies(run)
    environment, data = read_json(run.environment), read_record(run)
    audits = audit_studies(run, studies)
    advice, searches = examine(read_space(run), studies), read_searches(run, studies)
    units, lead = independent(searches), aim or asked["experiment"].get("aim", "model")
    comparisons = compare_methods([search.studies for search in units] or [studies])
    if aim == "methods" and comparisons.claim is None:
        raise UserError(_no_methods(run, comparisons))
    device, answer = device_of(run), answer_of(run, studies, searches, comparisons, lead)
    answer.lines[:0] = unlike_remarks(studies)
    taken = next((s for s in searches if answer.path == str(s.run.path)), Search(1, run, studies))
    shown, many = (pooled(units), len(units)) if units and units[0].small else (studies, 1)
    remarks = [
        *comparison_remarks(studies, comparisons),
        _equality_remark(shown, asked["experiment"].get("pruner", "")),
        *searches_remarks(run, searches, head_of),
        *audit_remarks(run, studies, audits, head_of),
        *_hours_remark(run, asked["experiment"].get("hours", 0.0)),
        *_growth_remark(run),
        *published_remarks(asked, studies),
        *data_remarks(data),
        *overlap_remarks(asked["experiment"], environment),
        *backbone_remarks(asked["experiment"], environment),
        *direct_remarks(studies),
        *diagnostics_remarks(advice),
        *_failed_trials([study for one in [studies, *(s.studies for s in searches[1:])] for study in one]),
        *_lost(studies),
        *(of_search(search, remark) for search in searches[1:] for remark in _lost(search.studies)),
    ]
    remarks.sort(key=lambda remark: not remark.startswith(WARNINGS))
    tables = [
        bests_table(comparisons),
        main_table(shown, comparisons, run.searches, many),
        *models_tables(taken.studies, taken.number),
        baseline_table(comparisons),
        configuration_table(taken.studies, taken.number),
        budget_table(shown, device),
        gap_table(shown),
        published_table(asked, studies),
        *searches_tables(searches, device),
        audit_table(audits),
        reproduce_table(taken.run, taken.studies),
        environment_table(environment, data),
    ]
    return Report(run.name, [t for t in tables if t is not None], remarks, answer, studies, build_figures(run, studies))


def write_files(folder: Path, name: str, report: Report) -> None:
    """The report as Markdown under ``name``, as ``index.html``, CSV and LaTeX per table. Raises OSError."""
    page = page_html(report.title, report.answer, report.tables, report.remarks, report.figures, report.studies)
    write_bytes(folder / "index.html", page.encode())
    write_bytes(folder / name, report.markdown().encode(), durable=False)
    for table in report.tables:
        write_bytes(folder / f"{table.name}.csv", table.csv().encode(), durable=False)
        write_bytes(folder / f"{table.name}.tex", table.latex().encode(), durable=False)


def write_report(run: RunDir, *, figures: bool = False, aim: str = "", head_of: HeadOf | None = None) -> Report:
    """Build the report and write it to the run's ``report/``: Markdown, CSV and LaTeX per table, and one page.

    ``figures``: as files of their own too; ``aim`` and ``head_of``: as ``build_report``.
    """
    report = build_report(run, aim, head_of)
    keep_report(run, report, figures=figures)
    return report


def keep_report(run: RunDir, report: Report, *, figures: bool = False) -> None:
    """Write a built report to the run's ``report/``. Raises OSError."""
    write_files(run.report, "report.md", report)
    if figures:
        write_figures(run.report, report.figures, methods_of(report.studies))
