"""What is said of models and configurations: against scipy, over many made-up equal ones, and in the report of a run.

Shapes: M models, K seeds of each, N test images.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from cotuning_tune.base.files import write_json
from cotuning_tune.base.tables import Table
from cotuning_tune.report import build_report
from cotuning_tune.report.claims import WILD, dunnett_p, own_level
from cotuning_tune.report.models import (
    Model,
    calibration_error,
    example_claim,
    example_z,
    models_tables,
    read_models,
    seed_claim,
    tukey_p,
)
from cotuning_tune.report.results import read_studies
from cotuning_tune.report.statistics import holm
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.predictions import Predictions
from tests.report.synthetic import write_predictions, write_run

CASES = 400
NAMES = ("fine_tune", "a", "b", "c", "d")


def judged(right: np.ndarray, confidence: np.ndarray | float = 0.9, order: str = "") -> Predictions:
    """Predictions of three classes that are right where asked; ``confidence``: of every image, or of each."""
    labels = np.arange(len(right)) % 3
    sure = np.full(len(right), confidence) if isinstance(confidence, float) else confidence
    return Predictions(labels, (labels + 1 - right) % 3, sure.astype(np.float32), sure, order, ("x", "y", "z"))


def model_of(right_KN: np.ndarray) -> Model:
    return Model([judged(row.astype(int)) for row in right_KN])


def drawn(rng: np.random.Generator, images: int, gains: tuple[float, ...], seeds: int = 3) -> np.ndarray:
    """Which images the seeds of some models classify right [M, K, N]: 70 % plus a model's gain, hard ones shared."""
    shape = (len(gains), seeds, images)
    ease = (
        rng.normal(size=(1, 1, images)) + 0.5 * rng.normal(size=(len(gains), 1, images)) + 0.5 * rng.normal(size=shape)
    )
    limits = [1.5**0.5 * NormalDist().inv_cdf(0.7 + gain / 100) for gain in gains]
    return ease < np.array(limits)[:, None, None]


@pytest.mark.parametrize("models", [2, 3, 5, 9])
def test_tukeys_range_as_scipy(models: int) -> None:
    """p is that of scipy's studentised range with infinite freedom; of two models it is the ordinary z's."""
    for distance in (0.0, 0.3, 1.7, 3.6, 5.2):
        expected = stats.studentized_range.sf(distance, models, np.inf)
        assert tukey_p(distance, models) == pytest.approx(expected, abs=1e-7)
        assert tukey_p(distance, 2) == pytest.approx(2 * stats.norm.sf(distance / 2**0.5), abs=1e-12)
    assert tukey_p(30.0, models) < 1e-12


def test_z_as_scipys_paired_t() -> None:
    """z has the variance under equality: it follows from scipy's paired t; of single seeds it is McNemar's."""
    one, other = drawn(np.random.default_rng(0), 300, (0.0, 12.0)).mean(1)
    z, t = example_z(one, other), stats.ttest_rel(one, other).statistic
    assert z == pytest.approx(t / np.sqrt((299 + t * t) / 300))
    assert (z < -2, example_z(other, one)) == (True, -z)
    one, other = np.array([1.0] * 12 + [0.0] * 88), np.array([1.0] * 10 + [0.0] * 3 + [1.0] * 7 + [0.0] * 80)
    assert example_z(one, other) == pytest.approx((2 - 7) / 9**0.5)
    assert example_z(one, one) == 0.0


def test_three_images_prove_nothing() -> None:
    """However one-sided, a difference on three images alone is none."""
    right = {"fine_tune": np.zeros(3), "a": np.ones(3)}
    assert example_claim(right).p["a"] > 0.05
    assert example_claim(right).p_best["fine_tune"] > 0.05


def test_claim_over_images() -> None:
    """Against the baseline each p is the normal one, corrected by Holm; the highest stands against all the others."""
    right = dict(zip(NAMES, drawn(np.random.default_rng(1), 500, (0.0, 2.0, 9.0, 1.0, 3.0)).mean(1), strict=True))
    claim = example_claim(right)
    zs = {name: example_z(right[name], right["fine_tune"]) for name in NAMES[1:]}
    expected = holm([2 * stats.norm.sf(abs(z)) for z in zs.values()])
    assert list(claim.p) == list(NAMES[1:])
    assert list(claim.p.values()) == pytest.approx(expected, rel=1e-9)
    assert claim.p["b"] < 0.001 < 0.05 < claim.p["c"]
    assert claim.best == "b"
    assert set(claim.p_best) == set(NAMES) - {"b"}
    distance = 2**0.5 * example_z(right["b"], right["d"])
    assert claim.p_best["d"] == pytest.approx(stats.studentized_range.sf(distance, 5, np.inf), abs=1e-7)
    assert example_claim(right, "none").p == {}


def larger_p(control: Sequence[float], *rivals: Sequence[float]) -> list[float]:
    shared = stats.dunnett(*rivals, control=control, rng=np.random.default_rng(0)).pvalue
    alone = [stats.ttest_ind(rival, control, equal_var=False).pvalue for rival in rivals]
    return [max(p, min(1.0, 0.05 / own_level(3) * own)) for p, own in zip(shared, alone, strict=True)]


def test_claim_over_seeds_as_scipy() -> None:
    """The larger of scipy's Dunnett test's p and of the pair's own, by Welch; some methods may have lost a seed."""
    values = np.random.default_rng(3).normal(70, 1, (4, 3)) + np.array([[0.0], [0.5], [12.0], [1.0]])
    found = seed_claim(dict(zip(NAMES, values.tolist(), strict=False)))
    assert list(found.values()) == pytest.approx(larger_p(*values), abs=1e-3)
    assert min(found.values()) < 0.05 < max(found.values())
    fewer = {name: row[: 3 - (name == "a")] for name, row in zip(NAMES, values.tolist(), strict=False)}
    assert list(seed_claim(fewer).values()) == pytest.approx(larger_p(*fewer.values()), abs=0.01)


def test_a_wild_configuration_adds_to_the_pool_what_chance_allows() -> None:
    """One that varies far more than the others is compared by Welch's t, and pooled as far as the F test lets pass."""
    values = np.random.default_rng(3).normal(70, 0.3, (4, 5)) + np.array([[0.0], [1.0], [0.0], [0.1]])
    values[2] += [8, -8, 7, -7, 0]
    found = seed_claim(dict(zip(NAMES, values.tolist(), strict=False)))
    welch = stats.ttest_ind(values[2], values[0], equal_var=False).pvalue
    assert found[NAMES[2]] == pytest.approx(min(1.0, 3 * welch))
    others = values[[0, 1, 3]].var(1, ddof=1).mean()
    pooled = (3 * others + stats.f.isf(WILD / 4, 4, 12) * others) / 4
    t = (values[1].mean() - values[0].mean()) / (pooled * 2 / 5) ** 0.5
    alone = 0.05 / own_level(5) * stats.ttest_ind(values[1], values[0], equal_var=False).pvalue
    assert found[NAMES[1]] == pytest.approx(max(dunnett_p(t, 3, 16), alone))


def test_what_seeds_cannot_say() -> None:
    """A seed each, seeds that do not vary, one method, and no baseline give no p."""
    assert seed_claim({"fine_tune": [70.0], "a": [80.0]}) == {}
    assert seed_claim({"fine_tune": [70.0, 70.0], "a": [80.0, 80.0]}) == {}
    assert seed_claim({"fine_tune": [70.0, 71.0]}) == {}
    assert seed_claim({"a": [70.0, 71.0], "b": [72.0, 73.0]}) == {}


def test_interval_is_wilsons() -> None:
    """Of one seed, or of seeds that agree, it is scipy's; seeds that err elsewhere are worth more images, K at most."""
    right = np.array([1] * 31 + [0] * 9)
    expected = [100 * limit for limit in stats.binomtest(31, 40).proportion_ci(method="wilson")]
    assert model_of(right[None]).interval == pytest.approx(expected)
    assert model_of(np.stack([right, right])).interval == pytest.approx(expected)
    apart = model_of(np.stack([right, right[::-1]]))
    most = [100 * limit for limit in stats.binomtest(62, 80).proportion_ci(method="wilson")]
    assert apart.interval == pytest.approx(most)
    assert model_of(np.ones((3, 20))).interval == pytest.approx(
        [100 * limit for limit in stats.binomtest(20, 20).proportion_ci(method="wilson")]
    )


def test_calibration_error() -> None:
    """Images are put in 15 bins of equal width by confidence; sure and right is 0, sure and wrong 100."""
    rng = np.random.default_rng(4)
    sure = np.concatenate([rng.uniform(0.05, 1, 400), np.arange(1, 16) / 15]).astype(np.float32)
    right = (rng.random(415) < 0.8 * sure).astype(int)
    expected = 0.0
    for number in range(15):
        inside = (sure.astype(float) > number / 15) & (sure.astype(float) <= (number + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - sure[inside].astype(float).mean())
    assert calibration_error(judged(right, sure)) == pytest.approx(100 * expected, abs=1e-9)
    assert 5 < expected * 100 < 30
    assert calibration_error(judged(np.ones(9, int), 1.0)) == 0
    assert calibration_error(judged(np.zeros(9, int), 1.0)) == 100
    two = Model([judged(np.ones(9, int), 1.0), judged(np.zeros(9, int), 1.0)])
    assert two.calibration_error == 50


def test_equal_models_are_called_equal() -> None:
    """Five models of equal accuracy, 400 images: false words in 2 to 9 % of cases; the interval holds in 91 to 98 %."""
    rng, against, highest, held = np.random.default_rng(5), 0, 0, 0
    for _ in range(CASES):
        right = drawn(rng, 400, (0.0,) * 5)
        claim = example_claim(dict(zip(NAMES, right.mean(1), strict=True)))
        against += min(claim.p.values()) <= 0.05
        highest += min(claim.p_best.values()) <= 0.05
        low, high = model_of(right[0]).interval
        held += low <= 70 <= high
    assert 0.02 <= against / CASES <= 0.09
    assert 0.02 <= highest / CASES <= 0.09
    assert 0.91 <= held / CASES <= 0.98


def test_five_points_are_seen() -> None:
    """A model that is 5 points above is told apart on 1000 images in most cases."""
    rng = np.random.default_rng(6)
    claims = [
        example_claim(dict(zip(NAMES, drawn(rng, 1000, (0, 0, 5, 0, 0)).mean(1), strict=True))) for _ in range(40)
    ]
    assert sum(claim.p["b"] <= 0.05 for claim in claims) > 34


@pytest.mark.parametrize(
    ("seeds", "spread"),
    [(3, (1, 1, 1, 1, 1)), (10, (1, 1, 1, 1, 1)), (8, (1, 1, 1, 1, 3)), (8, (3, 1, 1, 1, 1))],
    ids=["three seeds", "ten seeds", "one wild method", "a wild baseline"],
)
def test_equal_configurations_are_called_equal(seeds: int, spread: tuple[float, ...]) -> None:
    """Five configurations of equal expectation: a false word in 2 to 9 % of cases."""
    rng, false = np.random.default_rng(7), 0
    for _ in range(2 * CASES):
        values = rng.normal(70, 0.5 * np.array(spread)[:, None], (5, seeds))
        false += min(seed_claim(dict(zip(NAMES, values.tolist(), strict=True))).values()) <= 0.05
    assert 0.02 <= false / CASES / 2 <= 0.09


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Four methods on one task at two rates, three seeds of each."""
    return write_run(tmp_path / "run", ("birds",), (0.15, 1.0), methods=4, trials=6, epochs=2, files=False)


def tables_of(run: RunDir) -> dict[str, Table]:
    return {table.name: table for table in models_tables(read_studies(run)) if table}


def column(table: Table, name: str) -> list[str]:
    return [row[table.header.index(name)] for row in table.rows]


def test_the_table_of_a_run(run: RunDir) -> None:
    """Every method at every rate: the figures of the results, the claims' p for both settings, words with units."""
    table, studies = tables_of(run)["models"], read_studies(run)
    assert [row[:2] for row in table.rows] == [[study.method, study.setting] for study in studies]
    assert column(table, "test accuracy") == [f"{np.mean(study.scores):.2f}" for study in studies]
    classes = [np.mean([seed["test_mean_class_accuracy"] for seed in study.seeds]) for study in studies]
    assert column(table, "class mean") == [f"{value:.2f}" for value in classes]
    expected = []
    for found in read_models(studies):
        images = example_claim({method: model.values for method, model in found.models.items()}).p
        seeds = seed_claim({method: model.scores for method, model in found.models.items()})
        expected += [("-", "-"), *((f"{min(1, 2 * images[m]):.4f}", f"{min(1, 2 * seeds[m]):.4f}") for m in images)]
    shown = list(zip(column(table, "p (images)"), column(table, "p (seeds)"), strict=True))
    assert [pair for pair in expected if "0.0000" not in pair] == [pair for pair in shown if "< 0.0001" not in pair]
    assert column(table, "p (highest)").count("-") == 2
    for row in table.rows:
        entry = dict(zip(table.header, row, strict=True))
        low, high = map(float, entry["95 % on new images"].split(" to "))
        assert low < float(entry["test accuracy"]) < high < low + 5
        small = [
            p != "-" and (p.startswith("<") or float(p) <= 0.05) for p in (entry["p (images)"], entry["p (seeds)"])
        ]
        assert ("this model" in entry["shown"], "this configuration" in entry["shown"]) == tuple(small)
        assert (entry["shown"] == "-") == (entry["method"] == "fine_tune")
    assert not table.bold
    assert not [word for word in ("better", "worse", "best") if word in table.markdown() + table.note]
    assert "on images like the test split's: a unit is an image" in table.note
    assert "a unit is a seed" in table.note


def planted(run: RunDir, method: str, gains: tuple[float, ...], images: int = 300) -> None:
    """Overwrite what the seeds of a method on birds at 15 % say: 60 % right plus these points, the same images."""
    folder = run.study(f"birds-0.15-{method}")
    for seed, gain in enumerate(gains):
        right = (np.arange(images) < images * (60 + gain) / 100).astype(int)
        files = folder.retrain(seed)
        kept = write_predictions(files, judged(right))
        write_json(files.result, json.loads(files.result.read_text()) | kept)


def test_each_claim_has_its_words(run: RunDir) -> None:
    """30 more of 300 images with every seed: both differ; with seeds far apart the model alone; 2 images: neither."""
    planted(run, "fine_tune", (0.0, 0.3, -0.3))
    planted(run, "l2_sp", (10.0, 10.3, 9.7))
    planted(run, "delta", (0.0, 0.3, 0.6))
    planted(run, "bss", (-0.3, 0.3, 0.0))
    table = tables_of(run)["models"]
    words = dict(zip(column(table, "method")[:4], column(table, "shown")[:4], strict=True))
    assert words["l2_sp"] == "this model and this configuration differ"
    assert words["delta"] == words["bss"] == "no difference shown"
    planted(run, "l2_sp", (-4.0, 10.0, 24.0))
    planted(run, "delta", (-15.0, 0.0, 15.0))
    assert column(tables_of(run)["models"], "shown")[1] == "this model differs"


def test_p_is_corrected_for_the_settings(run: RunDir) -> None:
    """With two settings every p is twice what it is with one of them."""
    both = models_tables(studies := read_studies(run))[0]
    one = models_tables([study for study in studies if study.rate == 1.0])[0]
    assert both
    assert one
    for name in ("p (images)", "p (seeds)", "p (highest)"):
        pairs = zip(column(both, name)[4:], column(one, name), strict=True)
        small = [(float(b), float(a)) for b, a in pairs if a not in ("-", "< 0.0001") and float(a) < 0.5]
        assert all(b == pytest.approx(2 * a, abs=2e-4) for b, a in small)
        assert small
    assert "for the 2 settings" in both.note
    assert "settings" not in one.note


def test_the_table_of_classes(run: RunDir) -> None:
    """Of 20 classes the ten with the lowest mean, lowest first; each figure is the mean over the seeds."""
    table, studies = tables_of(run)["classes"], read_studies(run)
    assert table.header == ["class", "setting", "test images", "fine_tune", "l2_sp", "delta", "bss"]
    assert column(table, "setting") == ["birds 15 %"] * 10 + ["birds 100 %"] * 10
    assert "the 10 with the lowest mean" in table.note
    by_class: dict[str, list[float]] = {}
    for study in studies[:4]:
        assert study.folder
        parts = [Predictions.unpacked(study.folder.retrain(n).predictions.read_bytes()) for n in range(3)]
        for label, name in enumerate(parts[0].classes):
            right = [(p.predicted_N == label)[p.labels_N == label].mean() for p in parts]
            by_class.setdefault(name, []).append(100 * float(np.mean(right)))
    lowest = sorted(by_class, key=lambda name: np.mean(by_class[name]))[:10]
    assert column(table, "class")[:10] == lowest
    for row in table.rows[:10]:
        assert row[2:] == ["99", *(f"{value:.1f}" for value in by_class[row[0]])]


def test_few_classes_are_all_shown(run: RunDir) -> None:
    """Up to ten classes stand in their own order; a method without models has a dash."""
    for method in ("fine_tune", "l2_sp", "delta"):
        planted(run, method, (0.0, 1.0, 2.0))
    studies = [study for study in read_studies(run) if study.rate == 0.15]
    table = models_tables([replace(s, seeds=[]) if s.method == "bss" else s for s in studies])[1]
    assert table
    assert [row[0] for row in table.rows] == ["x", "y", "z"]
    assert table.header[3:] == ["fine_tune", "l2_sp", "delta"]
    assert "lowest" not in table.note
    one = models_tables([replace(s, seeds=s.seeds[:1]) for s in studies])[0]
    assert one
    assert set(column(one, "p (seeds)")) == {"-"}


def test_what_is_left_out(run: RunDir) -> None:
    """A failed seed, one whose file is gone or not the recorded one, and one of other images do not count."""
    files = [run.study("birds-0.15-l2_sp").retrain(seed) for seed in range(3)]
    kept = Predictions.unpacked(files[0].predictions.read_bytes())
    files[1].predictions.unlink()
    files[2].predictions.write_bytes(files[0].predictions.read_bytes())
    failed = run.study("birds-0.15-delta").retrain(0)
    write_json(failed.result, json.loads(failed.result.read_text()) | {"state": "FAIL", "reason": "nan"})
    other = run.study("birds-0.15-bss").retrain(0)
    content = json.loads(other.result.read_text())
    write_json(other.result, content | write_predictions(other, replace(kept, order="other")))
    (found, _) = read_models(read_studies(run))
    assert {method: len(model.seeds) for method, model in found.models.items()} == {
        "fine_tune": 3,
        "l2_sp": 1,
        "delta": 2,
        "bss": 2,
    }
    assert found.left_out == 3
    assert "Left out: 3 seeds" in tables_of(run)["models"].note


def test_without_the_baseline(run: RunDir) -> None:
    """Models have their figures and stand against the highest one; nothing is said against a baseline."""
    table = models_tables([study for study in read_studies(run) if study.method != "fine_tune"])[0]
    assert table
    for name in ("difference", "p (images)", "p (seeds)", "shown"):
        assert set(column(table, name)) == {"-"}
    assert column(table, "p (highest)").count("-") == 2


def test_the_report_holds_both(run: RunDir, tmp_path: Path) -> None:
    """They follow the main table; a run that kept no predictions has neither."""
    names = [table.name for table in build_report(run).tables]
    assert names[names.index("main") + 1 :][:2] == ["models", "classes"]
    old = write_run(tmp_path / "old", ("birds",), (1.0,), methods=2, trials=4, epochs=2, files=False, images=0)
    assert not {"models", "classes"} & {table.name for table in build_report(old).tables}
