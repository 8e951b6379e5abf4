"""The claims over data sets (4) and over whole searches (3): what a report says of runs whose truth is known."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.calibration_runs import TRIALS, World, as_data_sets, make_run
from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.base.tables import Table
from cotuning_tune.report import build_report
from cotuning_tune.report.comparison import (
    BETTER,
    NOTHING,
    Comparisons,
    baseline_table,
    bests_table,
    compare_methods,
    verdict,
)
from cotuning_tune.report.results import StudyResult
from cotuning_tune.runs.folder import RunDir
from tests.report.synthetic import write_run

EQUAL = "Equal methods (claim 4; a unit is a data set; claim 3: a whole search)"
NOISY, POWER, APART = "One noisy method", "What is found", "Not done here: searches that share a validation split"
LEAST_FOR_EXACT = 6  # units

Judge = Callable[[list[list[StudyResult]]], Comparisons]


def compare_seeds(searches: list[list[StudyResult]]) -> Comparisons:
    """A wrong way: seeds of every setting as units."""
    return compare_methods(as_data_sets(searches, seeds=True))


def compare_settings(searches: list[list[StudyResult]]) -> Comparisons:
    """Another wrong way: settings (rates of one data set) as units."""
    return compare_methods(as_data_sets(searches, seeds=False))


def measures(found: Comparisons, world: World) -> dict[str, float]:
    """What one report got right: shares, and the size of its set of possible bests."""
    record = {"false_verdict": 0.0, "not_judged": float(bool(found.unequal))}
    if found.claim is None:
        return record
    truth, effects = world.truth, found.claim.effects
    bests = [method for method in world.names if truth[method] == max(truth.values())]
    words = {effect.method: verdict(effect) for effect in effects}
    record["false_verdict"] = float(any(word != NOTHING and not truth[method] for method, word in words.items()))
    if len(found.claim.means) < world.methods:
        return record
    record["coverage"] = float(all(e.interval[0] <= truth[e.method] <= e.interval[1] for e in effects))
    record["best_in_set"] = fmean(method in found.claim.bests for method in bests)
    record["set_size"] = float(len(found.claim.bests))
    return record | ({"power": float(words[bests[0]] == BETTER)} if world.effect else {})


@dataclass(frozen=True)
class ClaimPart:
    """Reports of one world. ``bounded``: at most 6 % of false verdicts."""

    name: str
    title: str
    world: World
    section: str = EQUAL
    weight: float = 1.0
    bounded: bool = True
    judge: Judge = compare_methods

    @property
    def exact(self) -> bool:
        """Whether intervals hold in 93 to 97 %: over fewer units, and with a noisy method, they may hold more often."""
        calm = self.world.noisy[1] == 1 and not self.world.uneven
        return self.bounded and calm and self.world.data_sets * self.world.searches >= LEAST_FOR_EXACT

    def once(self, rng: np.random.Generator) -> Mapping[str, float]:
        """One report."""
        record = measures(self.judge(make_run(self.world, rng)), self.world)
        return record if self.world.stopped else {k: v for k, v in record.items() if k != "not_judged"}


def _save(folder: Path, searches: list[list[StudyResult]], world: World) -> RunDir:
    """A run of the same shape as files, its test accuracies those of ``searches``; further searches are its repeats."""
    tasks = [f"set{d}" for d in range(world.data_sets)]
    run = RunDir(folder / "run")
    for number, studies in enumerate(searches, 1):
        at = run.path if number == 1 else run.path / "repeats" / f"run-repeat{number}"
        shape = (world.methods, world.seeds, TRIALS)
        made = write_run(at, tasks, (1.0,), *shape, epochs=2, pruned=0.0, files=False, seed=number, search=number)
        for study in studies:
            files = made.study(f"{study.task}-1.00-{study.method}")
            summary = read_json(files.summary)  # failed trials would make budgets unequal
            seen = [row["score"] if row["score"] is not None else 50.0 for row in summary["trials"][:TRIALS]]
            rows = [
                row | {"state": "COMPLETE", "value": accuracy, "score": accuracy, "epochs": 2}
                for row, accuracy in zip(summary["trials"], seen, strict=False)
            ]
            write_json(files.summary, summary | {"trials": rows}, durable=False)
            for seed in study.seeds:
                result = files.retrain(seed["seed"]).result
                write_json(result, read_json(result) | {"test_score": seed["test_score"]}, durable=False)
    if len(searches) > 1:
        write_json(run.repeats_file, {"searches": len(searches), "time": 0.0, "after_tests": False})
    return run


def _rows(table: Table | None) -> list[list[str]]:
    return table.rows if table else []


@dataclass(frozen=True)
class FilePart:
    """The same through files and ``build_report``: how often a figure or word is another one than from memory."""

    name: str
    title: str
    world: World
    section: str = "Through files"
    weight: float = 0.005
    bounded: bool = False
    exact: bool = False

    def once(self, rng: np.random.Generator) -> Mapping[str, float]:
        """One report."""
        searches = make_run(self.world, rng)
        found = compare_methods(searches)
        with tempfile.TemporaryDirectory(prefix="calibration") as folder:
            tables = {t.name: t.rows for t in build_report(_save(Path(folder), searches, self.world)).tables}
        memory = {"statistics": _rows(baseline_table(found)), "possible_bests": _rows(bests_table(found))}
        return {"files_differ": float(any(tables.get(name, []) != rows for name, rows in memory.items()))}


def _null() -> list[ClaimPart]:
    """Methods that do not differ."""
    units = [
        ClaimPart(f"claim4_{n}datasets", f"{n} data sets, 3 seeds", World(data_sets=n)) for n in (2, 3, 4, 6, 8, 12)
    ]
    more = {
        "1datasets": ("1 data set searched once", World(data_sets=1)),
        "1datasets_4rates_8seeds": ("1 data set searched once, 4 rates, 8 seeds", World(1, rates=4, seeds=8)),
        "4datasets_2rates": ("4 data sets, 2 rates", World(rates=2)),
        "2datasets_4rates": ("2 data sets, 4 rates", World(2, rates=4)),
        "6datasets_3rates": ("6 data sets, 3 rates", World(6, rates=3)),
        "3datasets_4rates_own_effects": (
            "3 data sets, 4 rates, own effects on each data set",
            World(3, rates=4, own=0.7),
        ),
        "4datasets_1seed": ("4 data sets, 1 seed", World(seeds=1)),
        "4datasets_10seeds": ("4 data sets, 10 seeds", World(seeds=10)),
        "4datasets_seed_luck": ("4 data sets, luck of the seed alone", World(luck=0.0)),
        "4datasets_search_luck": ("4 data sets, luck of the search alone (1.4)", World(luck=1.4, seed=0.0)),
        "4datasets_own_effects": ("4 data sets, own effects on each", World(own=0.7)),
        "4datasets_3methods": ("4 data sets, 3 methods", World(methods=3)),
        "4datasets_8methods": ("4 data sets, 8 methods", World(methods=8)),
        "4datasets_skewed": ("4 data sets, skewed luck", World(skewed=True)),
        "4datasets_2searches": ("4 data sets, each searched twice", World(searches=2)),
    }
    parts = [*units, *(ClaimPart(f"claim4_{name}", *rest) for name, rest in more.items())]
    uneven = World(8, uneven=True)
    parts.append(ClaimPart("claim4_8datasets_uneven", "8 data sets, half of them calm", uneven))
    searched = World(data_sets=1)
    for count in (2, 3, 4, 6, 8):
        world, title = replace(searched, searches=count), f"1 data set, {count} searches, a split for each"
        parts.append(ClaimPart(f"claim3_{count}searches", title, world))
    return parts


def _hard() -> list[ClaimPart]:
    """One method far noisier than the others; one split for all searches; early stopping."""
    parts = []
    for units in (2, 4, 6, 12):
        for factor in (2, 3, 5):
            for who, number in (("rival", 1), ("baseline", 0)):
                name = f"claim4_{units}datasets_noisy_{who}_x{factor}"
                title = f"{units} data sets, the luck of {'the baseline' if number == 0 else 'a rival'} times {factor}"
                world = World(units, noisy=(number, float(factor)))
                parts.append(ClaimPart(name, title, world, NOISY))
    for who, number in (("rival", 1), ("baseline", 0)):
        for factor in (3, 5):
            name = f"claim3_8searches_noisy_{who}_x{factor}"
            title = f"1 data set, 8 searches, the luck of {'a rival' if number else 'the baseline'} times {factor}"
            world = World(1, searches=8, noisy=(number, float(factor)))
            parts.append(ClaimPart(name, title, world, NOISY))
    one = World(1, searches=8, luck=0.67, split=0.2)
    title = "1 data set, 8 searches, one split for all"
    parts.append(ClaimPart("claim3_8searches_one_split", title, one, APART, bounded=False))
    stopped = World(stopped=True)
    parts.append(ClaimPart("claim4_4datasets_early_stopping", "4 data sets, early stopping", stopped, "Early stopping"))
    stopped = World(1, searches=8, stopped=True)
    title = "1 data set, 8 searches, early stopping"
    parts.append(ClaimPart("claim3_8searches_early_stopping", title, stopped, "Early stopping"))
    return parts


def _power() -> list[ClaimPart]:
    """The last method is better by one point, or by two."""
    parts = []
    cases = [(4, units, 1) for units in (2, 3, 4, 6, 8, 12)] + [(3, 1, searches) for searches in (2, 4, 8)]
    for claim, units, searches in cases:
        for points in (1, 2, 3) if max(units, searches) < 5 else (1, 2):
            world = World(units, searches=searches, effect=float(points))
            where = f"{units} data sets" if claim == 4 else f"1 data set, {searches} searches"
            name = f"claim{claim}_{units}datasets" if claim == 4 else f"claim3_{searches}searches"
            title = f"{where}, one method {points} point{'s' if points > 1 else ''} better"
            parts.append(ClaimPart(f"{name}_plus{points}", title, world, POWER, weight=0.3))
    for units in (4, 6, 12):
        world = World(units, effect=2.0, noisy=(1, 5.0))
        title = f"{units} data sets, one method 2 points better, the luck of another times 5"
        name = f"claim4_{units}datasets_noisy_rival_x5_plus2"
        parts.append(ClaimPart(name, title, world, POWER, 0.3))
    return parts


def claim_parts() -> list[ClaimPart | FilePart]:
    """Every world of claims 3 and 4."""
    files = [
        FilePart("claim4_4datasets_files", "4 data sets", World(effect=1.0)),
        FilePart("claim3_4searches_files", "1 data set, 4 searches", World(1, searches=4, effect=1.0)),
    ]
    return [*_null(), *_hard(), *_power(), *files]
