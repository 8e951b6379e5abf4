"""What K searches that were really made say: how much search and seed each move a result.

The first search is the run itself, and all other tables are its own; the further ones lie in ``repeats/``. Where
a run has several studies, every figure is of a method's mean over the studies; the parts of the variance are those of a
result on one study. They come from a nested analysis of variance, searches and seeds within searches, by the method of
moments for groups of unequal size (Searle, Casella, McCulloch, Variance Components, 1992, section 3.6).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json
from cotuning_tune.base.tables import Table
from cotuning_tune.report.audit import HeadOf, StudyAudit, audit_remarks, audit_studies, audit_table
from cotuning_tune.report.comparison import budgets_differ
from cotuning_tune.report.results import (
    StudyResult,
    mean_over,
    methods_of,
    metric_of_all,
    read_studies,
    read_tables,
    settings_of,
    studies_of,
)
from cotuning_tune.runs import ledger
from cotuning_tune.runs.folder import RunDir

SEARCH_SEED = 100  # where the experiment file names none
WARNING = "WARNING: "


@dataclass(frozen=True)
class Search:
    """One of the K searches; number 1 is the run itself."""

    number: int
    run: RunDir
    studies: list[StudyResult]

    @cached_property
    def tables(self) -> dict[str, Any]:
        """Its experiment file."""
        return read_tables(self.run)

    @property
    def small(self) -> bool:
        """One of many that share the trials out, to compare methods."""
        return bool(self.tables["experiment"].get("aim") == "methods")

    @cached_property
    def audits(self) -> list[StudyAudit]:
        """Whether the files of its studies fit together."""
        return audit_studies(self.run, self.studies)

    @property
    def seed(self) -> int:
        """The search seed."""
        return int(self.tables["experiment"].get("search_seed", SEARCH_SEED))

    @cached_property
    def test_evaluations(self) -> int:
        """How often a model was evaluated on a test split."""
        return sum(
            entry.get("event") == "test_evaluation" for entry in ledger.read(self.run.ledger) if isinstance(entry, dict)
        )

    @property
    def models(self) -> int:
        return sum(len(study.scores) for study in self.studies)

    @cached_property
    def ended(self) -> bool:
        """Every study is summed up, and every seed of each selection has a result."""
        asked = self.tables["experiment"]
        count = len(asked["tasks"]) * len(asked.get("rates", [1.0])) * len(asked["methods"])
        seeds = set(asked.get("seeds", [0, 1, 2])[: 1 if self.small else None])
        retrained = [c.selection is None or seeds <= {s["seed"] for s in c.seeds} for c in self.studies]
        return len(self.studies) == count and all(retrained)


def read_searches(run: RunDir, studies: list[StudyResult]) -> list[Search]:
    """The run itself and those of its repeats that have something to report; empty without repeats."""
    found = [Search(1, run, studies)]
    for number, repeat in enumerate(run.repeats(), 2):
        try:
            found.append(Search(number, repeat, read_studies(repeat)))
        except (UserError, FileNotFoundError):
            continue
    return found if run.searches > 1 else []


def comparable(searches: list[Search]) -> list[Search]:
    """The searches that have ended; none where that is fewer than two, or the first one has not."""
    ended = [search for search in searches if search.ended]
    return ended if len(ended) > 1 and ended[0].number == 1 else []


def _asked(search: Search) -> tuple[dict[str, Any], str]:
    """A search's experiment and space, without what repeats differ in: search seed, validation split, its one seed."""
    tables = search.tables
    experiment = {**tables["experiment"], "search_seed": None}
    if search.small:
        experiment["seeds"] = len(experiment.get("seeds", [0])[:1])
    task = {**tables.get("task", {}), "val_seed": None}
    return {**tables, "experiment": experiment, "task": task}, search.run.space_file.read_text(encoding="utf-8")


def same_experiment(one: Search, other: Search) -> bool:
    """Whether two searches differ by search seed and validation split alone."""
    return _asked(one) == _asked(other)


def independent(searches: list[Search]) -> list[Search]:
    """The units among the searches that have ended: of one experiment, each with a search seed of its own.

    Beside the search of a run that looks for a model there may be small ones that compare methods: then those.
    """
    ended, by_seed = comparable(searches), dict[int, Search]()
    first = next((search for search in ended if search.small), ended[0] if ended else None)
    for search in ended:
        if first and same_experiment(first, search):
            by_seed.setdefault(search.seed, search)
    return list(by_seed.values()) if len(by_seed) > 1 else []


def pooled(searches: list[Search]) -> list[StudyResult]:
    """The studies of small searches as one: a seed of each, all their trials, the choice that validation puts first."""
    found = []
    for first in searches[0].studies:
        mine = [s for search in searches for s in search.studies if s.name == first.name]
        seeds = [{**seed, "seed": number} for number, s in enumerate(mine, 1) for seed in s.seeds[:1]]
        chosen, oriented = [s.selection for s in mine if s.selection], first.metric.oriented
        found.append(
            replace(
                first,
                budget=sum(s.budget for s in mine),
                trials=[trial for s in mine for trial in s.trials],
                confirmations=[trial for s in mine for trial in s.confirmations],
                selection=max(chosen, key=lambda c: oriented(c["val_score"]), default=None),
                seeds=seeds,
                folder=None,
            )
        )
    return found


def seed_means(studies: list[StudyResult], method: str) -> list[float]:
    """A method's mean over the studies of each seed that every study has."""
    every = [study.by_seed for study in studies_of(studies, method).values()]
    shared = [seed for seed in every[0] if all(seed in one for one in every)] if every else []
    return [fmean(one[seed] for one in every) for seed in shared]


@dataclass(frozen=True)
class Spread:
    """Variances (points squared) of one seed's result: due to the search, due to the seed."""

    search: float
    seed: float

    @property
    def share(self) -> float | None:
        """Of the search in their sum; None where nothing varies."""
        total = self.search + self.seed
        return self.search / total if total > 0 else None


Draws = Sequence[Sequence[float]]  # of a method on a study: the results of each search's seeds


def moments(strata: Iterable[Draws]) -> Spread | None:
    """The variances of a result by nested analysis of variance: searches, seeds within searches.

    ``strata``: a method on a study each, which has a mean of its own and shares both variances with the others. With
    sums of squares over all strata, ``n`` the seeds of a search and ``N`` of a stratum:

        E[within] = freedom within * seed,  E[between] = freedom between * seed + sum(N - sum(n^2) / N) * search

    (Searle, Casella, McCulloch, *Variance Components*, 1992, section 3.6). Without bias, so that ``search`` may be
    negative. None where there are no two searches of a stratum, or no two seeds of a search.
    """
    within = between = weight = 0.0
    freedom_within = freedom_between = 0
    for groups in filter(None, ([group for group in stratum if group] for stratum in strata)):
        total = sum(map(len, groups))
        mean = math.fsum(x for group in groups for x in group) / total
        within += math.fsum((x - fmean(group)) ** 2 for group in groups for x in group)
        between += math.fsum(len(group) * (fmean(group) - mean) ** 2 for group in groups)
        weight += total - sum(len(group) ** 2 for group in groups) / total
        freedom_within += total - len(groups)
        freedom_between += len(groups) - 1
    if not freedom_between or not freedom_within:
        return None
    seed = within / freedom_within
    return Spread((between - freedom_between * seed) / weight, seed)


def decompose(strata: Iterable[Draws]) -> Spread | None:
    """``moments``; a negative variance is 0."""
    found = moments(strata)
    return found and Spread(max(0.0, found.search), found.seed)


def _strata(searches: list[Search], method: str) -> list[Draws]:
    """The results of a method, by study, search and seed."""
    every = [studies_of(search.studies, method) for search in searches]
    return [[mine[p].scores for mine in every if p in mine] for p in settings_of(searches[0].studies)]


def _spreads(searches: list[Search]) -> dict[str, Spread | None]:
    return {method: decompose(_strata(searches, method)) for method in methods_of(searches[0].studies)}


def _row(method: str, searches: list[Search]) -> list[str]:
    spread = decompose([[seed_means(search.studies, method) for search in searches]])
    means = [mean_over(search.studies, method) for search in searches]
    known = [mean for mean in means if mean is not None]
    shown = metric_of_all(searches[0].studies).text
    over_searches = shown(stdev(known)) if len(known) > 1 else "-"
    over_seeds = shown(math.sqrt(spread.seed)) if spread else "-"
    return [method, *("-" if mean is None else shown(mean) for mean in means), over_searches, over_seeds]


def searches_table(searches: list[Search]) -> Table:
    """Each method's mean test score in each search, and both spreads."""
    rows = [_row(method, searches) for method in methods_of(searches[0].studies)]
    header = ["method", *(f"search {search.number}" for search in searches), "± searches", "± seeds"]
    note = (
        f"Mean test {metric_of_all(searches[0].studies).label} over the studies, each search's own choices retrained."
        " ± searches: sample standard deviation of these means. ± seeds: that of one seed's mean over the studies"
        " within a search, pooled."
    )
    return Table("repeats", f"The results of {len(searches)} searches", header, rows, note)


def spread_table(searches: list[Search]) -> Table | None:
    """The variance of each method's result by search and by seed; None where it cannot be told."""
    form = ".3f" if metric_of_all(searches[0].studies).percent else ".6f"
    rows = [
        [method, f"{s.search:{form}}", f"{s.seed:{form}}", "-" if s.share is None else f"{100 * s.share:.0f} %"]
        for method, s in _spreads(searches).items()
        if s
    ]
    note = (
        f"Variances in {metric_of_all(searches[0].studies).points} squared of one seed's result on one study, by nested"
        " analysis of variance (searches, seeds within searches) pooled over the studies; takes a seed to do"
        f" something else to each search's choice. 0: the {len(searches)} searches differ no more than their seeds"
        f" explain. {len(searches) - 1} degree(s) of freedom between searches per study: rough."
    )
    header = ["method", "due to search", "due to seed", "share of search"]
    return Table("repeats_variance", "Search or seed", header, rows, note) if rows else None


def terms_table(searches: list[Search], device: str) -> Table:
    """What each search was given: the proof that they are repeats of each other."""
    rows = []
    for search in searches:
        studies = search.studies
        failed, epochs = sum(c.count("FAIL") for c in studies), sum(c.search_epochs for c in studies)
        hours = f"{sum(c.search_seconds for c in studies) / 3600:.3f}"
        finished = sum(c.finished for c in studies)
        rows.append([str(search.number), *map(str, (search.seed, finished, failed, epochs)), hours])
        rows[-1] += [str(search.models), str(search.test_evaluations)]
    header = ["search", "search seed", "trials", "failed", "epochs", f"{device}-h", "tested models", "test evaluations"]
    return Table("repeats_terms", "The searches", header, rows)


def repeats_audit_table(searches: list[Search]) -> Table | None:
    """The audit of each repeat, one below the other; None without repeats."""
    tables = [(search, audit_table(search.audits)) for search in searches[1:]]
    if not tables:
        return None
    rows = [[str(search.number), *row] for search, table in tables for row in table.rows]
    header, note = ["search", *tables[0][1].header], tables[0][1].note
    return Table("repeats_audit", "Audit of the repeats", header, rows, note)


def searches_tables(searches: list[Search], device: str) -> list[Table | None]:
    """All tables about the repeats; those of results only where two searches or more have ended."""
    ended = independent(searches)
    found = [searches_table(ended), spread_table(ended)] if ended else []
    return [*found, *([terms_table(searches, device)] if searches else []), repeats_audit_table(searches)]


def of_search(search: Search, remark: str) -> str:
    """A remark about one search's studies, as one of the whole run; a warning stays one."""
    mark = WARNING if remark.startswith(WARNING) else ""
    return f"{mark}search {search.number}: {remark.removeprefix(WARNING)}"


def _variance_remark(searches: list[Search]) -> list[str]:
    """Pooled over all methods and studies before a negative variance becomes 0, lest noise count for a search."""
    methods = methods_of(searches[0].studies)
    spread = decompose(stratum for method in methods for stratum in _strata(searches, method))
    if spread is None or spread.share is None:
        return []
    return [
        f"Over all methods about {100 * spread.share:.0f} % of the variance of a result is due to the search, the rest"
        " to the seed."
    ]


def _test_evaluations_remark(searches: list[Search]) -> str:
    evaluations, models = sum(s.test_evaluations for s in searches), sum(s.models for s in searches)
    return (
        f"Over {len(searches)} searches there were {evaluations} test evaluations for {models} retrained models: each"
        " search made them after its own choice by validation."
    )


def _differences(searches: list[Search]) -> list[str]:
    """Warnings where repeats are none: another experiment, another space, the same seed, other budgets."""
    first, warnings = searches[0], []
    seeds = [search.seed for search in searches]
    if len(set(seeds)) < len(seeds):
        warnings.append(f"{WARNING}searches have the same search seed ({', '.join(map(str, seeds))}): no repeats.")
    for search in searches[1:]:
        if search.small != first.small:
            continue
        if not same_experiment(first, search):
            warnings.append(f"{WARNING}search {search.number} is of another experiment than search 1: no repeat.")
        if not (search.ended and first.ended):
            continue
        for method in methods_of(first.studies):
            one, other = (list(studies_of(s.studies, method).values()) for s in (search, first))
            if differs := budgets_differ(one, other):
                warnings.append(f"UNEQUAL TERMS: search {search.number} and search 1 of {method}: {differs}.")
    return warnings


def _circumstances(run: RunDir, searches: list[Search]) -> list[str]:
    """What a reader of the repeats must know: those missing, asked for late, or told the same older trials."""
    remarks = []
    ended = {search.number for search in searches if search.ended}
    if missing := [str(number) for number in range(1, run.searches + 1) if number not in ended]:
        remarks.append(f"Search {', '.join(missing)} of {run.searches} has not ended: cotuning-tune resume continues.")
    if read_json(run.repeats_file)["after_tests"]:
        remarks.append("The repeats were asked for after search 1 had made test evaluations.")
    if read_json(run.environment).get("from"):
        remarks.append(
            "All searches started with the same older run's trials: they are less independent than they look."
        )
    return remarks


def searches_remarks(run: RunDir, searches: list[Search], head_of: HeadOf | None = None) -> list[str]:
    """What the K searches say together, and whether their files fit; for a repeat, whose it is."""
    if owner := run.first_search:
        return [f"This is a repeat of a search: its figures belong into the report of {owner.name}, not in its place."]
    if not searches:
        return []
    ended = independent(searches)
    told = _variance_remark(ended) if ended else []
    audits = [of_search(s, r) for s in searches[1:] for r in audit_remarks(s.run, s.studies, s.audits, head_of)]
    problems = [remark for remark in audits if remark.startswith(WARNING)]
    fits = [] if problems or len(searches) < 2 else ["Audit of the repeats: their files fit together too."]
    return [
        *told,
        _test_evaluations_remark(searches),
        *_circumstances(run, searches),
        *_differences(searches),
        *problems,
        *fits,
    ]
