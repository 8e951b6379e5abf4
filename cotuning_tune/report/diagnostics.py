"""Search-space diagnostics: what the trials say of the ranges that they were drawn from; silent where all is well.

They look at validation scores and failures, never at test results. Apart from them, a warning where validation
and test disagree: it proposes no change of the space.
"""

import math
from statistics import NormalDist, fmean

from cotuning_tune.report.advice import Advice, Space
from cotuning_tune.report.causes import causes
from cotuning_tune.report.edges import edges
from cotuning_tune.report.results import StudyResult, settings_of
from cotuning_tune.scores import ACCURACY

UNLIKE_LEVEL = 0.01
UNLIKE_LEAST = 3.0  # points: a smaller gap stands in the table of gaps
NORMAL = NormalDist()
CAUSES = (
    "Usual causes: photos of one visit, camera or patient in both training and validation (split by it);"
    " near-duplicates (`cotuning-tune data verify` finds equal files)."
)


def examine(space: Space, studies: list[StudyResult]) -> list[Advice]:
    """All that the search says of its space."""
    found = edges(space, studies)
    return found + causes(space, studies, {advice.wider for advice in found})


def diagnostics_remarks(advice: list[Advice]) -> list[str]:
    """A line for each finding."""
    return [f"{a.finding} ({a.evidence}){f'; {a.change}' if a.change else ''}." for a in advice]


def explained_gap(accuracy: float, val_count: int, test_count: int, looks: int, level: float) -> float:
    """Points by which validation may exceed test at this accuracy (%): the best of ``looks`` chances, and sampling.

    As if every trial, and every epoch of one, were an independent chance whose luck retraining keeps: more than it is.
    """
    spread = 100 * math.sqrt(accuracy / 100 * (1 - accuracy / 100))
    val, test = spread / math.sqrt(val_count), spread / math.sqrt(test_count)
    expected = NORMAL.inv_cdf((looks - 0.375) / (looks + 0.25))
    highest = NORMAL.inv_cdf((1 - level) ** (1 / looks))
    return expected * val + math.hypot((highest - expected) * val, NORMAL.inv_cdf(1 - level) * test)


def _unlike(studies: list[StudyResult], level: float) -> tuple[float, float, float] | None:
    """Of one setting: mean validation and test accuracy (%) of the retrained models, and the gap to be expected.

    None where it is not exceeded, or cannot be known (of other metrics). The methods share both splits: their mean is
    as sure as one.
    """
    known = [study for study in studies if study.val_count and study.metric == ACCURACY]
    models = [s for c in known for s in c.seeds if s.get("test_count") and s.get("val_score") is not None]
    if not models:
        return None
    val, test = fmean(s["val_score"] for s in models), fmean(s["test_score"] for s in models)
    val_count, test_count = min(c.val_count for c in known), min(s["test_count"] for s in models)
    looks = max(len(c.trials) * max((trial.get("epochs", 1) for trial in c.trials), default=1) for c in known)
    mean = (val * val_count + test * test_count) / (val_count + test_count)
    explained = max(UNLIKE_LEAST, explained_gap(mean, val_count, test_count, max(looks, 1), level))
    return (val, test, explained) if val - test > explained else None


def unlike_remarks(studies: list[StudyResult]) -> list[str]:
    """A warning for each setting whose validation split is unlike its test split; one in a hundred reports errs.

    The last one tells the usual causes.
    """
    settings, remarks = settings_of(studies), []
    for setting in settings:
        found = _unlike([study for study in studies if study.setting == setting], UNLIKE_LEVEL / len(settings))
        if found:
            remarks.append(
                f"WARNING: validation is unlike test on {setting}: the retrained models reach {found[0]:.1f} % on"
                f" validation, {found[1]:.1f} % on test; choosing and sampling explain at most {found[2]:.1f} points."
            )
    return [*remarks[:-1], *(f"{remark} {CAUSES}" for remark in remarks[-1:])]
