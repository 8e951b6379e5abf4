"""What the retrained models of a setting let one say: of these models, and of these configurations, never of methods.

Claim 1, these models differ on examples like the test split's: a unit is a test example (an image, a sentence), paired,
with what it adds to the metric; the seeds of a method are averaged. Claim 2, these configurations, retrained, would
differ: a unit is a seed. Sources: McNemar 1947, Holm 1979, Tukey 1953 (studentised range), Wilson 1927, Dunnett 1955,
Welch 1947; calibration error: Guo et al., ICML 2017. Reads ``predictions.npz`` alone. Shapes: E test examples, N
targets (an image, a token), T classes.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from statistics import fmean, variance
from typing import Any

from cotuning_tune.base.tables import Table
from cotuning_tune.report.claims import LEVEL, WILD, dunnett_p, own_level
from cotuning_tune.report.comparison import BASELINE, shown_p
from cotuning_tune.report.results import StudyResult, examples_of, methods_of, metric_of_all, settings_of, studies_of
from cotuning_tune.report.statistics import holm, wilson_interval
from cotuning_tune.runs.predictions import Predictions, file_hash
from cotuning_tune.scores import ACCURACY, Metric, common, unit_values

BINS, NORMAL = 15, 1.959964
LISTED, ROWS = 10, 100  # classes of a setting in the table, where it has more; of many settings fewer, so many in all


@dataclass(frozen=True)
class Model:
    """A method's retrained model on a setting: its seeds, all tested on the same examples.

    Of AUROC, to which no example adds a share of its own, examples tell the accuracy (``metric``).
    """

    seeds: list[Predictions]
    metric: Metric = ACCURACY

    @cached_property
    def values(self) -> Any:
        """What each example adds to the score [E], the mean over the seeds."""
        return sum(map(self._values, self.seeds)) / len(self.seeds)

    def _values(self, seed: Predictions) -> Any:
        return unit_values(self.metric, seed.predicted)

    @cached_property
    def scores(self) -> list[float]:
        """Of each seed."""
        return [float(self._values(seed).mean()) for seed in self.seeds]

    @cached_property
    def classes(self) -> dict[int, float]:
        """The accuracy (%) of each class that has targets."""
        import numpy as np

        labels_N = self.seeds[0].labels_N
        right_N = sum(seed.predicted_N == seed.labels_N for seed in self.seeds) / len(self.seeds)
        hits_T, seen_T = np.bincount(labels_N, right_N), np.bincount(labels_N)
        return {label: float(100 * hits_T[label] / seen_T[label]) for label in map(int, np.flatnonzero(seen_T))}

    @property
    def interval(self) -> tuple[float, float]:
        """Where the score on new examples like these lies, at 95 %: an accuracy by Wilson's score, others normal.

        Seeds that err on different images tell more than one of them, at most as much as so many test splits.
        """
        count, mean, spread = len(self.values), float(self.values.mean()), float(self.values.var())
        if self.metric != ACCURACY or self.seeds[0].lengths_E is not None:
            reach = NORMAL * math.sqrt(spread / count)
            ends = mean - reach, mean + reach
            return (max(0.0, ends[0]), min(100.0, ends[1])) if self.metric.percent else ends
        share, plain = mean / 100, mean / 100 * (1 - mean / 100)
        worth = min(plain / (spread / 1e4), len(self.seeds)) if spread > 0 else 1.0
        low, high = wilson_interval(share * count * worth, count * worth)
        return 100 * low, 100 * high

    @property
    def calibration_error(self) -> float:
        """Expected calibration error, the mean over the seeds."""
        return fmean(calibration_error(seed) for seed in self.seeds)


def calibration_error(found: Predictions) -> float:
    """Expected calibration error in percent: accuracy against confidence in 15 equal-width bins, by their targets."""
    import numpy as np

    confidence_N = found.confidence_N.astype(np.float64)
    bin_N = np.clip(np.ceil(confidence_N * BINS).astype(int) - 1, 0, BINS - 1)
    excess_N = (found.predicted_N == found.labels_N) - confidence_N
    return float(100 * np.abs(np.bincount(bin_N, excess_N)).sum() / len(bin_N))


@cache
def _normal_nodes() -> tuple[Any, Any]:
    """Values of a standard normal variable and their weights."""
    import numpy as np

    share, widths = np.polynomial.legendre.leggauss(200)
    return 9 * share, 9 * widths * np.exp(-((9 * share) ** 2) / 2) / math.sqrt(2 * math.pi)


def tukey_p(distance: float, models: int) -> float:
    """How often the range of ``models`` equal standard normal values reaches ``distance`` (infinite freedom)."""
    from scipy.special import ndtr

    values, weights = _normal_nodes()
    inside = ndtr(values) - ndtr(values - abs(distance))
    return min(1.0, max(0.0, 1 - models * float(weights @ inside ** (models - 1))))


def example_z(one_E: Any, other_E: Any) -> float:
    """z of the mean paired difference with its variance under equality, as McNemar's; 0 where nothing differs."""
    difference_E = one_E - other_E
    spread = math.sqrt(float((difference_E * difference_E).sum()))
    return float(difference_E.sum()) / spread if spread > 0 else 0.0


def example_p(one_E: Any, other_E: Any) -> float:
    """Two-sided p of ``example_z``."""
    return math.erfc(abs(example_z(one_E, other_E)) / math.sqrt(2))


@dataclass(frozen=True)
class ExampleClaim:
    """Claim 1 of a setting: p of each model against the baseline's (Holm), and against the best one (Tukey)."""

    p: dict[str, float]
    best: str
    p_best: dict[str, float]


def example_claim(values: Mapping[str, Any], baseline: str = BASELINE, metric: Metric = ACCURACY) -> ExampleClaim:
    """What test examples say of models; ``values``: by method, what each example adds to the score [E]."""
    rivals = [method for method in values if method != baseline] if baseline in values else []
    ps = [example_p(values[method], values[baseline]) for method in rivals]
    best = max(values, key=lambda method: metric.oriented(float(values[method].mean())))
    behind = {method: example_z(values[best], values[method]) for method in values if method != best}
    p_best = {method: tukey_p(math.sqrt(2) * z, len(values)) for method, z in behind.items()}
    return ExampleClaim(dict(zip(rivals, holm(ps), strict=True)), best, p_best)


def _welch_p(one: Sequence[float], other: Sequence[float]) -> float:
    """Two-sided p of Welch's t; 0 where neither varies."""
    from scipy.special import stdtr

    parts = [variance(values) / len(values) for values in (one, other)]
    if sum(parts) < 1e-18:
        return 0.0
    freedom = sum(parts) ** 2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (one, other), strict=True))
    return float(2 * stdtr(freedom, -abs(fmean(one) - fmean(other)) / math.sqrt(sum(parts))))


def _pooled(scores: Mapping[str, Sequence[float]]) -> tuple[str, float, int]:
    """The configuration whose seeds vary more than those of the others, by an F test ('' for none); pooled squares.

    Of such a one no more is pooled than the test lets pass. Bonferroni over the methods.
    """
    from scipy.special import fdtri

    squares = {m: (len(v) - 1) * variance(v) for m, v in scores.items() if len(v) > 1}
    freedom = {m: len(scores[m]) - 1 for m in squares}
    total, free = math.fsum(squares.values()), sum(freedom.values())
    widest = max(squares, key=lambda m: squares[m] / freedom[m], default="")
    if len(squares) < 3:
        return "", total, free
    rest, others = total - squares[widest], free - freedom[widest]
    most = float(fdtri(freedom[widest], others, 1 - WILD / len(squares))) * rest / others
    if rest > 1e-12 * total and squares[widest] / freedom[widest] > most:
        return widest, rest + most * freedom[widest], free
    return "", total, free


def seed_claim(scores: Mapping[str, Sequence[float]], baseline: str = BASELINE) -> dict[str, float]:
    """Claim 2 of a setting: p of each configuration against the baseline's, from the scores of their seeds.

    Variance pooled over the methods, Dunnett's p, and beside it Welch's t test of the pair itself, which noisy seeds
    cannot deceive; pairs with one whose seeds vary more than the others' by Welch's t alone, corrected by Bonferroni.
    Empty without the baseline, or where nothing varies.
    """
    rivals = [method for method in scores if method != baseline]
    wild, squares, freedom = _pooled(scores)
    if baseline not in scores or not rivals or freedom < 1 or squares / freedom < 1e-18:
        return {}
    base, error = scores[baseline], math.sqrt(squares / freedom)

    def p(method: str) -> float:
        mine = scores[method]
        seeds = min(len(mine), len(base))
        if wild in (method, baseline):
            return min(1.0, len(rivals) * _welch_p(mine, base)) if seeds > 1 else 1.0
        t = abs(fmean(mine) - fmean(base)) / error / math.sqrt(1 / len(mine) + 1 / len(base))
        pooled = dunnett_p(t, len(rivals), freedom)
        if len(rivals) == 1 or seeds == 1:
            return pooled
        return max(pooled, min(1.0, LEVEL / own_level(seeds) * _welch_p(mine, base)))

    return {method: p(method) for method in rivals}


@dataclass(frozen=True)
class SettingModels:
    """The models of a setting by method; ``left_out``: seeds without readable predictions of the same examples."""

    setting: str
    models: dict[str, Model]
    left_out: int = 0

    @property
    def first(self) -> Model:
        """Any of them, for what they share: examples, labels, classes."""
        return next(iter(self.models.values()))


def _read(study: StudyResult, seed: dict[str, Any]) -> Predictions | None:
    """A seed's predictions; None where there are none, or not the recorded ones (the audit says so)."""
    if study.folder is None or "predictions" not in seed:
        return None
    try:
        data = study.folder.retrain(seed["seed"]).predictions.read_bytes()
        return Predictions.unpacked(data) if file_hash(data) == seed["predictions"] else None
    except (OSError, ValueError):
        return None


def read_models(studies: list[StudyResult]) -> list[SettingModels]:
    """The models of each setting that has any with predictions: of the examples that most of its seeds were tested
    on."""
    settings = []
    for setting in settings_of(studies):
        found = [
            (method, _read(study, seed))
            for method in methods_of(studies)
            if (study := studies_of(studies, method).get(setting))
            for seed in study.seeds
            if seed["state"] == "COMPLETE"
        ]
        keys = [(one.order, one.labels_N.tobytes()) if one else None for _, one in found]
        counted = Counter(key for key in keys if key)
        if not counted:
            continue
        shared, models = counted.most_common(1)[0][0], dict[str, Model]()
        judged = metric_of_all(study for study in studies if study.setting == setting)
        metric = ACCURACY if judged.of_probabilities else judged
        for (method, one), key in zip(found, keys, strict=True):
            if one and key == shared:
                models.setdefault(method, Model([], metric)).seeds.append(one)
        settings.append(SettingModels(setting, models, sum(key != shared for key in keys)))
    return settings


def _shown(p_examples: float | None, p_seeds: float | None) -> str:
    """What is shown against the baseline, in the words of the two claims."""
    claims = (("this model", p_examples), ("this configuration", p_seeds))
    named = [what for what, p in claims if p is not None and p <= LEVEL]
    if not named:
        return "no difference shown"
    return f"{' and '.join(named)} differ{'' if len(named) > 1 else 's'}"


def _rows(found: SettingModels, settings: int) -> list[list[str]]:
    """A row per method; p is corrected for ``settings``, the families of comparisons of the table."""
    models, rows = found.models, []
    metric = found.first.metric
    examples = example_claim({method: model.values for method, model in models.items()}, metric=metric)
    seeds = seed_claim({method: model.scores for method, model in models.items()})
    digits = 1 if metric.percent else metric.digits
    base = fmean(models[BASELINE].scores) if BASELINE in models else math.nan
    for method, model in models.items():
        found_ps = [claim.get(method) for claim in (examples.p, seeds, examples.p_best)]
        ps = [None if p is None else min(1.0, settings * p) for p in found_ps]
        score, (low, high) = fmean(model.scores), model.interval
        figures = [metric.text(score), f"{low:.{digits}f} to {high:.{digits}f}", f"{fmean(model.classes.values()):.2f}"]
        difference = f"{score - base:+.{metric.digits}f}" if method in examples.p else "-"
        figures += [f"{model.calibration_error:.1f}", difference]
        shown = _shown(*ps[:2]) if method in examples.p else "-"
        rows.append([method, found.setting, *figures, *map(shown_p, ps), shown])
    return rows


def models_table(settings: list[SettingModels], search: int = 1, noun: str = "images") -> Table | None:
    """Every model on new images and as a configuration, against the baseline's; None without predictions."""
    metric = common(found.first.metric for found in settings)
    article = "an" if noun[0] in "aei" else "a"
    first = "highest" if metric.greater_is_better else "lowest"
    families = max(1, sum(len(found.models) > 1 for found in settings))
    rows = [row for found in settings for row in _rows(found, families)]
    many = f", then for the {families} settings" if families > 1 else ""
    left = sum(found.left_out for found in settings)
    note = (
        f"{'In percent, over' if metric.percent else 'Over'} a method's seeds; of models and configurations, not of"
        f" methods. This model differs on {noun} like the test split's: a unit is {article} {noun[:-1]} (Holm;"
        f" p ({first}): Tukey's range). This configuration differs when retrained: a unit is a seed (Dunnett). p is"
        f" corrected for its setting{many}. Calibration error: {BINS} bins."
    )
    note += f" Left out: {left} seeds without readable predictions of the same test split." if left else ""
    note += f" Of search {search}, whose model is the one to take." if search > 1 else ""
    header = ["method", "setting", f"test {metric.shown}", f"95 % on new {noun}", "class mean", "calibration error"]
    header += ["difference", f"p ({noun})", "p (seeds)", f"p ({first})", "shown"]
    return Table("models", "These models and configurations", header, rows, note) if rows else None


def classes_table(settings: list[SettingModels], noun: str = "images") -> Table | None:
    """The accuracy of each class by method, the mean over its seeds; of many classes, those with the lowest mean."""
    methods = list(dict.fromkeys(method for found in settings for method in found.models))
    rows, cut, listed = [], False, max(1, min(LISTED, ROWS // max(1, len(settings))))
    for found in settings:
        models, first = found.models, found.first
        means = {label: fmean(model.classes[label] for model in models.values()) for label in first.classes}
        shown = list(means)
        if len(shown) > listed:
            shown, cut = sorted(shown, key=lambda label: means[label])[:listed], True
        for label in shown:
            count = int((first.seeds[0].labels_N == label).sum())
            figures = [f"{models[method].classes[label]:.1f}" if method in models else "-" for method in methods]
            rows.append([first.seeds[0].classes[label], found.setting, str(count), *figures])
    note = "Test accuracy of each class in percent, the mean over a method's seeds."
    note += f" Of a setting with more than {listed} classes, the {listed} with the lowest mean." if cut else ""
    header = ["class", "setting", f"test {noun}", *methods]
    return Table("classes", "Accuracy of the classes", header, rows, note) if rows else None


def models_tables(studies: list[StudyResult], search: int = 1) -> list[Table | None]:
    """Both tables; of runs that kept no predictions, none. ``search``: of which one the studies are."""
    settings, noun = read_models(studies), examples_of(studies)
    return [models_table(settings, search, noun), classes_table(settings, noun)]
