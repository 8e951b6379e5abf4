"""Methods against each other on the same studies and seeds; the words follow from the numbers.

A pair is a task at a rate and a seed for which both methods have a tested model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from cotuning_tune.base.tables import Table
from cotuning_tune.report.results import StudyResult, mean_over, methods_of, settings_of, studies_of
from cotuning_tune.report.statistics import bootstrap_interval, holm, sign_flip_p, smallest_p

BASELINE = "fine_tune"
SIGNIFICANT = 0.05
TOLERANCE = 0.05
LEAST_FOR_INTERVAL = 6  # with fewer pairs a bootstrap promises more than it knows
BETTER, WORSE, NOTHING = "better", "worse", "no difference shown"
FEW, UNEQUAL = "no difference shown (too few pairs)", "not judged (budgets differ)"


@dataclass(frozen=True)
class Comparison:
    """One method minus another (points): differences of the pairs, and of the settings' means."""

    name: str
    differences: list[float]
    settings: int
    interval: tuple[float, float] | None
    p: float
    p_settings: float
    p_holm: float
    verdict: str

    @property
    def difference(self) -> float:
        return fmean(self.differences)


def budgets_differ(one: list[StudyResult], other: list[StudyResult]) -> str:
    """What differs by more than 5 %, '' where nothing does: finished trials, or their epochs.

    Hours do not count: a method that takes longer for the same epochs is slower, not favoured.
    """
    for what in ("finished", "finished_epochs"):
        a, b = (sum(getattr(study, what) for study in studies) for studies in (one, other))
        if abs(a - b) > TOLERANCE * max(a, b):
            return f"{a} against {b} {'trials' if what == 'finished' else 'epochs'}"
    return ""


def paired(one: Mapping[str, StudyResult], other: Mapping[str, StudyResult]) -> dict[str, list[float]]:
    """By setting, the differences (points) of the seeds that both have tested."""
    found: dict[str, list[float]] = {}
    for setting in (p for p in one if p in other):
        a, b = one[setting].by_seed, other[setting].by_seed
        if shared := [a[seed] - b[seed] for seed in a if seed in b]:
            found[setting] = shared
    return found


def verdict(mean: float, p: float, least: float, unequal: str) -> str:
    """The word for a difference: ``least`` is the smallest corrected p that so few pairs can reach."""
    if unequal:
        return UNEQUAL
    if p <= SIGNIFICANT:
        return BETTER if mean > 0 else WORSE
    return FEW if least > SIGNIFICANT else NOTHING


def compare_all(pairs: Mapping[str, tuple[Mapping[str, StudyResult], Mapping[str, StudyResult]]]) -> list[Comparison]:
    """Each named pair of methods compared, with Holm's correction over all of them; those without pairs left out."""
    found = {name: paired(*sides) for name, sides in pairs.items()}
    found = {name: by_setting for name, by_setting in found.items() if by_setting}
    flat = {name: [d for part in by_setting.values() for d in part] for name, by_setting in found.items()}
    ps = [sign_flip_p(differences) for differences in flat.values()]
    made = []
    for (name, differences), p, corrected in zip(flat.items(), ps, holm(ps), strict=True):
        one, other = ([side[setting] for setting in found[name]] for side in pairs[name])
        least = min(1.0, len(ps) * smallest_p(len(differences)))
        made.append(
            Comparison(
                name=name,
                differences=differences,
                settings=len(found[name]),
                interval=bootstrap_interval(differences) if len(differences) >= LEAST_FOR_INTERVAL else None,
                p=p,
                p_settings=sign_flip_p([fmean(part) for part in found[name].values()]),
                p_holm=corrected,
                verdict=verdict(fmean(differences), corrected, least, budgets_differ(one, other)),
            )
        )
    return made


def against_baseline(studies: list[StudyResult]) -> list[Comparison]:
    """Every method against tuned fine-tuning; none where the run has no fine-tuning."""
    others = [method for method in methods_of(studies) if method != BASELINE]
    return compare_all({method: (studies_of(studies, method), studies_of(studies, BASELINE)) for method in others})


def best_ranked(studies: list[StudyResult]) -> str | None:
    """The method with the highest mean test accuracy over all settings; None where none has them all."""
    means = {method: mean for method in methods_of(studies) if (mean := mean_over(studies, method)) is not None}
    return max(means, key=lambda method: means[method], default=None)


def against_best_ranked(studies: list[StudyResult]) -> list[Comparison]:
    """The best-ranked method of the main table against every other one."""
    first = best_ranked(studies)
    others = [method for method in methods_of(studies) if method != first]
    if first is None:
        return []
    return compare_all(
        {f"{first} - {method}": (studies_of(studies, first), studies_of(studies, method)) for method in others}
    )


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else f"{value:.1e}"


def comparison_rows(comparisons: list[Comparison]) -> list[list[str]]:
    """A row for each comparison, see ``HEADER``."""
    return [
        [
            c.name,
            str(len(c.differences)),
            f"{c.difference:+.2f}",
            f"{c.interval[0]:+.2f} to {c.interval[1]:+.2f}" if c.interval else "-",
            _p(c.p),
            _p(c.p_holm),
            _p(smallest_p(len(c.differences))),
            f"{_p(c.p_settings)} ({c.settings})",
            c.verdict,
        ]
        for c in comparisons
    ]


HEADER = ["pairs", "difference", "95 % interval", "p", "p (Holm)", "least p", "p of means (studies)", "verdict"]
NOTE = (
    "Difference in points over pairs of study and seed; two-sided sign-flip permutation test, Holm's correction over"
    " the rows, BCa bootstrap interval (from 6 pairs on). Least p: the smallest that so many pairs can reach. The"
    " seeds of a study share its one search, so p is optimistic: beside it stands p over the studies' means. A verdict"
    " needs p (Holm) of at most 0.05, and finished trials and epochs that differ by at most 5 %."
)


def pairs_remark(comparisons: list[Comparison]) -> list[str]:
    """The smallest p that the pairs can reach."""
    counts = sorted({len(c.differences) for c in comparisons})
    reach = ", ".join(f"{n} pairs {_p(smallest_p(n))}" for n in counts)
    return (
        [f"Smallest p that the pairs of study and seed can reach, before Holm's correction: {reach}."] if counts else []
    )


def baseline_table(comparisons: list[Comparison]) -> Table | None:
    """Every method against tuned fine-tuning; None of none."""
    if not comparisons:
        return None
    rows = comparison_rows(comparisons)
    return Table("statistics", "Against tuned fine-tuning", ["method", *HEADER], rows, NOTE)


def best_ranked_table(comparisons: list[Comparison]) -> Table | None:
    """The best-ranked method against the others; None of none."""
    if not comparisons:
        return None
    note = "The best-ranked method was picked by these same test accuracies, which flatters it. Else as above."
    return Table(
        "first", "The best-ranked method against the others", ["pair", *HEADER], comparison_rows(comparisons), note
    )


def _listed(comparisons: list[Comparison], word: str) -> str:
    return ", ".join(f"{c.name} {c.difference:+.2f}" for c in comparisons if c.verdict == word)


def verdict_remarks(studies: list[StudyResult], comparisons: list[Comparison]) -> list[str]:
    """The words in a line; what the pairs cannot show; which budgets forbid a word."""
    if BASELINE not in methods_of(studies):
        return [f"WARNING: the run has no {BASELINE}: without a tuned baseline no gain can be stated."]
    if not comparisons:
        return []
    words = [f"{w}: {listed}" for w in (BETTER, WORSE, NOTHING, FEW, UNEQUAL) if (listed := _listed(comparisons, w))]
    remarks = [f"Against tuned fine-tuning, in points: {'; '.join(words)}."]
    base = list(studies_of(studies, BASELINE).values())
    for c in (c for c in comparisons if c.verdict == UNEQUAL):
        differs = budgets_differ(list(studies_of(studies, c.name).values()), base)
        remarks.append(f"WARNING: {c.name} is not judged: {differs} of {BASELINE}, more than 5 % apart.")
    if len(settings_of(studies)) == 1:
        remarks.append("One study says nothing about other tasks, however many seeds it has.")
    return remarks
