"""What the search's own luck is worth: expected best of k trials, and who would be first in another search.

Sources: Dodge et al., EMNLP 2019; Tang et al., ACL 2020 (the unbiased form). Both need trials that were drawn
independently of each other: random or quasi-Monte Carlo ones, without the two fixed first points.
"""

import math
import random
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from cotuning_tune.base.tables import Table
from cotuning_tune.report.results import StudyResult, methods_of, settings_of, studies_of

SEARCHES = 1000
FIXED = 2  # trial 0: the published defaults, trial 1: the method's neutral value
INDEPENDENT = ("random", "qmc")


def expected_best(accuracies: Sequence[float]) -> list[float]:
    """For k = 1, 2, ... n the mean, over all choices of k of the n accuracies, of the best (Tang 2020)."""
    ranked, n = sorted(accuracies), len(accuracies)
    return [
        math.fsum(a * math.comb(i, k - 1) for i, a in enumerate(ranked) if i >= k - 1) / math.comb(n, k)
        for k in range(1, n + 1)
    ]


def refusal(experiment: Mapping[str, Any]) -> str:
    """Why the trials of a run are no independent draws; '' where they are. ``experiment``: its table."""
    sampler = experiment.get("sampler", "tpe")
    if sampler in INDEPENDENT:
        return ""
    return f"the trials of sampler '{sampler}' depend on each other (possible for: {', '.join(INDEPENDENT)})"


def _split(study: StudyResult) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A study's first trials, which are fixed, and those that the sampler drew.

    A method that has nothing to switch off has one fixed trial only.
    """
    own = any(key.startswith(f"{study.method}/") for trial in study.trials for key in trial["values"])
    fixed = FIXED if own else 1
    return study.trials[:fixed], study.trials[fixed:]


def _values(trials: list[dict[str, Any]]) -> list[float]:
    """Accuracies of the trials of full length."""
    return [trial["value"] for trial in trials if trial["state"] == "COMPLETE"]


def expected_best_table(experiment: Mapping[str, Any], studies: list[StudyResult]) -> Table | None:
    """Expected best validation accuracy (%) against the number of trials, mean over the settings.

    None where the trials were stopped early or not drawn independently.
    """
    if refusal(experiment) or any(study.count("PRUNED") for study in studies):
        return None
    curves = {}
    for method in methods_of(studies):
        every = [expected_best(_values(_split(study)[1])) for study in studies_of(studies, method).values()]
        curves[method] = [fmean(column) for column in zip(*every, strict=False)]
    longest = max(map(len, curves.values()))
    if longest < 2:
        return None
    rows = [
        [str(k + 1), *(f"{curve[k]:.3f}" if k < len(curve) else "-" for curve in curves.values())]
        for k in range(longest)
    ]
    note = (
        "Mean best validation accuracy (%) of k drawn trials of full length (Dodge et al. 2019, unbiased form of Tang"
        " et al. 2020), mean over the studies; the fixed first trials are left out."
    )
    return Table("expected_best", "Expected best validation accuracy", ["trials", *curves], rows, note)


def _again(study: StudyResult, rng: random.Random) -> list[float]:
    """The best validation accuracy of each of ``SEARCHES`` new searches of the study.

    As many trials as were drawn, drawn from them with replacement; the fixed ones stay. The rank of the best
    of n draws is drawn at once: it is ceil(n u^(1/n)) for uniform u. A trial stopped early has no accuracy.
    """
    fixed, drawn = _split(study)
    stopped = sum(trial["state"] == "PRUNED" for trial in drawn)
    least = max(_values(fixed), default=-math.inf)
    ranked = [-math.inf] * stopped + sorted(_values(drawn))
    n = len(ranked)
    if not n:
        return [least] * SEARCHES
    return [max(least, ranked[math.ceil(n * (1 - rng.random()) ** (1 / n)) - 1]) for _ in range(SEARCHES)]


def share_of_first(studies: list[StudyResult], seed: int = 0) -> dict[str, float]:
    """By method, in how many of the new searches its mean best validation accuracy is the highest.

    Methods that miss a setting take no part; equal ones share.
    """
    rng, settings = random.Random(seed), settings_of(studies)
    sums: dict[str, list[float]] = {}
    for method in methods_of(studies):
        mine = studies_of(studies, method)
        if len(mine) == len(settings) and all(study.complete for study in mine.values()):
            sums[method] = list(map(math.fsum, zip(*(_again(study, rng) for study in mine.values()), strict=True)))
    wins = dict.fromkeys(sums, 0.0)
    for search in range(SEARCHES if sums else 0):
        best = max(values[search] for values in sums.values())
        first = [method for method, values in sums.items() if values[search] == best]
        for method in first:
            wins[method] += 1 / len(first)
    return {method: count / SEARCHES for method, count in wins.items()}


def stability_table(studies: list[StudyResult], shares: Mapping[str, float]) -> Table | None:
    """How often each method would be first by validation accuracy; None of fewer than two."""
    if len(shares) < 2:
        return None
    rows = []
    for method, share in shares.items():
        chosen = [c.selection["val_accuracy"] for c in studies_of(studies, method).values() if c.selection]
        rows.append([method, f"{fmean(chosen):.2f}" if chosen else "-", f"{100 * share:.1f} %"])
    note = (
        f"Share of {SEARCHES} new searches of the same size, made by drawing from each study's trials anew, in which"
        " the method has the highest mean of best validation accuracies. Assumes that trials are independent draws and"
        " that validation ranks as test does, for only the chosen configurations were tested; a best trial that was not"
        " found cannot turn up. Searches repeated with other seeds (run --repeat-search K) are the better answer."
    )
    return Table("stability", "If we searched again", ["method", "best val. acc.", "first"], rows, note)


def stability_remarks(why: str, shares: Mapping[str, float], first: str | None, *, repeated: bool = False) -> list[str]:
    """What another search would say of the best-ranked method of the main table, or ``why`` that cannot be inferred.

    ``repeated``: whether there are real searches to tell it.
    """
    if why and repeated:
        return []
    if why:
        return [
            f"What another search would give cannot be inferred from this one: {why}. Search again, with"
            " other search seeds: cotuning-tune run --repeat-search K."
        ]
    if first is None or first not in shares or len(shares) < 2:
        return []
    leader = max(shares, key=lambda method: shares[method])
    told = (
        f"If we searched again, {first} would be first by validation accuracy in {100 * shares[first]:.0f} % of cases"
    )
    return [f"{told}{'' if leader == first else f', {leader} in {100 * shares[leader]:.0f} %'}."]
