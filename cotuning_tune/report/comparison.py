"""Methods against each other: which results are one unit, and the words that the claims allow.

With two data sets or more a unit is a data set (mean over its rates, backbones, seeds and searches). With one it is a
whole search. With one data set searched once there is no word about methods.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from statistics import fmean

from cotuning_tune.base.tables import Table
from cotuning_tune.report.claims import LEAST_UNITS, LEVEL, Claim, Effect, analyse, own_level, paired_effects
from cotuning_tune.report.results import StudyResult, methods_of, metric_of_all, studies_of
from cotuning_tune.report.statistics import sign_flip_p
from cotuning_tune.scores import ACCURACY, Metric

BASELINE = "fine_tune"
TOLERANCE = 0.05
LEAST_FOR_FLIPS = 8  # with fewer units a sign-flip p is never small enough
BETTER, WORSE, NOTHING = "better", "worse", "no difference shown"
UNEQUAL = "not judged (budgets differ)"
UNDECIDED = (
    "Which method is better is open: one data set searched once is one unit, however many seeds and rates it has."
)


@dataclass(frozen=True)
class Comparisons:
    """What a run may say of its methods. ``claim``: None where it may say nothing; then ``why`` says why.

    The claim is about oriented values (``Metric.oriented``): the greater is the better.

    Of a single method there is nothing to say: then ``why`` is empty too.

    ``scope``: the units in words. ``left_out``: units that some method lacks. ``unequal``: by method, the budget
    that forbids a word. ``lacking``: methods without any whole unit.
    """

    claim: Claim | None
    metric: Metric = ACCURACY
    scope: str = ""
    why: str = ""
    left_out: list[str] = field(default_factory=list)
    unequal: dict[str, str] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)

    def named(self, word: str) -> list[Effect]:
        """The effects of one verdict."""
        return [effect for effect in self.claim.effects if verdict(effect) == word] if self.claim else []


def budgets_differ(one: list[StudyResult], other: list[StudyResult]) -> str:
    """What differs by more than 5 %, '' where nothing does: trials, or the epochs that a trial is given.

    Trials that were stopped early or failed by their own fault count as any other: that is how the method was asked
    to be judged. Hours do not count: a method that takes longer for the same epochs is slower, not favoured.
    """
    trials = [sum(study.finished for study in studies) for studies in (one, other)]
    epochs = [max((study.longest for study in studies), default=0) for studies in (one, other)]
    for name, (a, b) in (("trials", trials), ("epochs a trial", epochs)):
        if a and b and abs(a - b) > TOLERANCE * max(a, b):
            return f"{a} against {b} {name}"
    return ""


def verdict(effect: Effect) -> str:
    """The word for an effect."""
    if effect.p > LEVEL:
        return NOTHING
    return BETTER if effect.difference > 0 else WORSE


def _mean(studies: Sequence[StudyResult]) -> float | None:
    """Mean of the studies' means over their seeds, oriented; None where one has no result, or there are none."""
    if not studies or not all(study.scores for study in studies):
        return None
    return fmean(study.metric.oriented(fmean(study.scores)) for study in studies)


def _units(searches: Sequence[list[StudyResult]]) -> dict[str, list[StudyResult]]:
    """The studies of each unit: data sets over all searches, or whole searches of one data set."""
    tasks: dict[str, list[StudyResult]] = {}
    for study in (study for studies in searches for study in studies):
        tasks.setdefault(study.task, []).append(study)
    if len(tasks) > 1:
        return tasks
    return {f"search {number}": studies for number, studies in enumerate(searches, 1)}


def unit_table(units: Mapping[str, list[StudyResult]]) -> dict[str, dict[str, float]]:
    """Method: unit: mean. A method lacks a unit where a study of it that others have is missing or has no result."""
    table: dict[str, dict[str, float]] = {}
    for unit, studies in units.items():
        by_method = {m: [study for study in studies if study.method == m] for m in methods_of(studies)}
        had = {method: Counter(study.setting for study in mine) for method, mine in by_method.items()}
        full = reduce(or_, had.values(), Counter[str]())
        for method, mine in by_method.items():
            row, mean = table.setdefault(method, {}), _mean(mine)
            if mean is not None and had[method] == full:
                row[unit] = mean
    return table


def compare_methods(searches: Sequence[list[StudyResult]]) -> Comparisons:
    """What the searches of a run, the run's own studies first, say of its methods."""
    every = [study for studies in searches for study in studies]
    units, methods, metric = _units(searches), methods_of(every), metric_of_all(every)
    if len(methods) < 2:
        return Comparisons(None)
    reference = BASELINE if BASELINE in methods else methods[0]
    mine = {method: [study for study in every if study.method == method] for method in methods}
    unequal = {m: differs for m in methods if (differs := budgets_differ(mine[m], mine[reference]))}
    if len(units) < LEAST_UNITS:
        return Comparisons(None, metric, why=UNDECIDED, unequal=unequal)
    table = unit_table(units)
    lacking = [method for method in methods if not table[method] and method not in unequal]
    judged = {m: row for m, row in table.items() if row and m not in unequal}
    claim = analyse(judged, BASELINE)
    shared = [unit for unit in units if all(unit in row for row in judged.values())]
    left_out = [unit for unit in units if unit not in shared]
    why = "" if claim else "No verdict about methods: too few of them, or of their units, can be compared."
    tasks = list(dict.fromkeys(study.task for study in every))
    scope = f"on these {len(shared)} data sets"
    if len(tasks) == 1:
        trials = max(study.budget for study in every)
        scope = f"on {tasks[0]}, over {len(shared)} searches of {trials} trials, each with its own validation split"
    return Comparisons(claim, metric, scope, why, left_out, unequal, lacking)


def paired(one: Mapping[str, StudyResult], other: Mapping[str, StudyResult]) -> dict[str, float]:
    """By data set, the difference of the means over the settings that both have tested."""
    found: dict[str, list[float]] = {}
    for setting in (s for s in one if s in other):
        a, b = _mean([one[setting]]), _mean([other[setting]])
        if a is not None and b is not None:
            found.setdefault(one[setting].task, []).append(a - b)
    return {task: fmean(differences) for task, differences in found.items()}


def shared_settings(
    one: Mapping[str, StudyResult], other: Mapping[str, StudyResult]
) -> tuple[dict[str, StudyResult], dict[str, StudyResult]]:
    """The studies of both at the settings that both have, judged by the same metric."""
    shared = [s for s in one if s in other and one[s].metric == other[s].metric]
    return {s: one[s] for s in shared}, {s: other[s] for s in shared}


def shown_p(value: float | None) -> str:
    """A p as tables show it; a dash of none."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def effect_row(effect: Effect, word: str, metric: Metric, *, flips: bool) -> list[str]:
    """A row of a table of effects, see ``effect_header``; without interval and p of a single unit."""
    low, high = sorted(map(metric.oriented, effect.interval))
    several, form = len(effect.differences) >= LEAST_UNITS, f"+.{metric.digits}f"
    row = [effect.method, str(len(effect.differences)), f"{metric.oriented(effect.difference):{form}}"]
    row += [f"{low:{form}} to {high:{form}}", shown_p(effect.p)] if several else ["-", "-"]
    return [*row, *([shown_p(sign_flip_p(effect.differences))] if flips else []), word]


def effect_header(what: str, p: str, *, flips: bool) -> list[str]:
    """The columns of a table of effects."""
    return [what, "units", "difference", "95 % interval", p, *(["p (sign flip)"] if flips else []), "verdict"]


def bests_table(found: Comparisons) -> Table | None:
    """Which methods may be the best; heads the comparison. None without a claim."""
    if found.claim is None:
        return None
    means, first = found.claim.means, max(found.claim.means.values())
    ranked = sorted(means, key=lambda method: -means[method])
    shown, shift = found.metric.text, found.metric.oriented
    rows = [
        [m, shown(shift(means[m])), shown(first - means[m]), "yes" if m in found.claim.bests else "no"] for m in ranked
    ]
    note = "Multiple comparisons with the best (Hsu 1981), at 95 %."
    header = ["method", "mean over units", "behind the highest", "may be the best"]
    return Table("possible_bests", "Which methods may be the best", header, rows, note)


def baseline_table(found: Comparisons) -> Table | None:
    """Every method against tuned fine-tuning; None where nothing may be said of it."""
    if found.claim is None or not found.claim.effects:
        return None
    units, wild = len(found.claim.units), found.claim.wild
    flips, own = units >= LEAST_FOR_FLIPS, f"{100 * own_level(units):g}"
    rows = [
        effect_row(e, word if (word := verdict(e)) == NOTHING else f"{word} {found.scope}", found.metric, flips=flips)
        for e in found.claim.effects
    ]
    blank = ["-"] * (5 if flips else 4)
    rows += [[method, *blank, UNEQUAL] for method in found.unequal]
    unit = "data set (mean over its settings, seeds and searches)"
    if "data sets" not in found.scope:
        unit = "whole search (mean over its settings and seeds)"
    alone = f"; of pairs with {wild} only the paired t, with Bonferroni's correction" if wild else ""
    note = (
        f"Difference in {found.metric.points}; a unit is a {unit}. Two-way analysis: residual of methods and units"
        " pooled over the methods, Dunnett's p and simultaneous intervals; where wider, the pair's own t test at"
        f" {own} %{alone}. A verdict needs p of at most 0.05, and trials, and epochs a trial, that differ by at most 5"
        " %."
    )
    header = effect_header("method", "p (adjusted)", flips=flips)
    return Table("statistics", "Against tuned fine-tuning", header, rows, note)


def compare_pairs(pairs: Mapping[str, tuple[Mapping[str, StudyResult], Mapping[str, StudyResult]]]) -> Table | None:
    """Named pairs of methods of two runs, a data set a unit; None where no pair shares a tested setting."""
    found = {name: differences for name, sides in pairs.items() if (differences := paired(*sides))}
    metric = metric_of_all(study for sides in pairs.values() for side in sides for study in side.values())
    several = {name: list(d.values()) for name, d in found.items() if len(d) >= LEAST_UNITS}
    effects = {effect.method: effect for effect in paired_effects(several)} if several else {}
    rows = []
    for name, differences in found.items():
        shared = [[side[setting] for setting in pairs[name][0] if setting in pairs[name][1]] for side in pairs[name]]
        effect = effects.get(name, Effect(name, list(differences.values()), (0.0, 0.0), 1.0))
        word = verdict(effect) if name in effects else "no verdict (one data set)"
        word = f"{word} on these {len(differences)} data sets" if word in (BETTER, WORSE) else word
        rows.append(effect_row(effect, UNEQUAL if budgets_differ(*shared) else word, metric, flips=False))
    note = (
        f"Difference in {metric.points}; a unit is a data set (mean over settings and seeds). Paired t, Holm's"
        " correction over the rows, Bonferroni's intervals. A verdict needs two data sets or more, p of at most 0.05,"
        " and trials, and epochs a trial, that differ by at most 5 %."
    )
    header = effect_header("pair", "p (Holm)", flips=False)
    return Table("compare_statistics", "Against the first run", header, rows, note) if rows else None


def bests_remark(found: Comparisons) -> list[str]:
    """The set of possible bests with the least difference that the run could show."""
    if (claim := found.claim) is None:
        return []
    of = f"Of {len(claim.means)} methods, {len(claim.bests)} may be the best {found.scope}: {', '.join(claim.bests)}."
    must, spread = "Methods must differ", max(claim.means.values()) - min(claim.means.values())
    if claim.effects:
        must = f"A method must differ from {BASELINE}"
        spread = max(abs(effect.difference) for effect in claim.effects)
    least, most = (f"{value:.{found.metric.rough}f}" for value in (claim.least, spread))
    told = f"by {least} {found.metric.points} to be told apart here; these differ by at most {most}."
    return [f"{of} {must} {told}"]


def verdict_lines(found: Comparisons) -> list[str]:
    """The words with their unit."""
    words = ((word, found.named(word)) for word in (BETTER, WORSE))
    form, shift = f"+.{found.metric.rough}f", found.metric.oriented
    listed = {w: ", ".join(f"{e.method} {shift(e.difference):{form}}" for e in named) for w, named in words if named}
    points = found.metric.points
    return [f"{word.capitalize()} than {BASELINE} {found.scope}, in {points}: {of}." for word, of in listed.items()]


def comparison_remarks(studies: list[StudyResult], found: Comparisons) -> list[str]:
    """What stands out, what was left out, and which budgets forbid a word."""
    remarks: list[str] = []
    if found.claim and found.claim.wild:
        remarks.append(
            f"{found.claim.wild} varies more from unit to unit than the others do (F test): it is compared by paired t"
            " tests with Bonferroni's correction, and adds to the common residual no more than chance allows."
        )
    if found.left_out:
        remarks.append(f"Left out of the comparison, since a method lacks results there: {', '.join(found.left_out)}.")
    if found.lacking:
        remarks.append(f"Not compared, since they have no whole unit of results: {', '.join(found.lacking)}.")
    reference = BASELINE
    if not studies_of(studies, BASELINE):
        reference = methods_of(studies)[0]
        remarks.append(f"WARNING: the run has no {BASELINE}: without a tuned baseline no gain can be stated.")
    for method, differs in found.unequal.items():
        remarks.append(f"WARNING: {method} is not judged: {differs} of {reference}, more than 5 % apart.")
    return remarks
