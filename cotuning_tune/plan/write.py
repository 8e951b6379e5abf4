"""A plan as a table, as lines and as JSON."""

import dataclasses
from statistics import mean
from typing import Any

from cotuning_tune.base.cache import cache_root
from cotuning_tune.base.console import duration
from cotuning_tune.base.tables import Table, size
from cotuning_tune.experiment import Experiment
from cotuning_tune.plan.cost import Plan
from cotuning_tune.plan.inventory import free_bytes


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3g}" if seconds < 360_000 else f"{seconds / 3600:.0f}"


def _unit(plan: Plan) -> str:
    return "GPU-h" if plan.concurrency.gpus == plan.concurrency.trials else "trial-h"


def method_table(plan: Plan) -> Table:
    """Each method's speed, a trial's seconds (mean over the studies), and the hours of all its studies."""
    unit, rows = _unit(plan), []
    for name in plan.learners:
        studies, speed = plan.of(name), plan.speeds.get(name)
        row = [name, str(len(studies) * plan.experiment.trials * plan.experiment.searches)]
        if speed is None:
            rows.append([*row, "-", "-", "-", "-", "-"])
            continue
        setup = "-" if speed.setup_s is None else f"{mean(c.setup_s for c in studies):.3g}"
        row += [f"{speed.steps_per_second:.3g}", f"{mean(c.trial_s for c in studies):.3g}", setup]
        rows.append([*row, _hours(plan.search_s(studies)), _hours(plan.retrain_s(studies))])
    header = ["method", "trials", "steps/s", "s a trial", "set-up s a study", f"search {unit}", f"retrain {unit}"]
    return Table("plan", plan.experiment.name, header, rows)


def _task_lines(plan: Plan) -> list[str]:
    lines = []
    for cost in plan.of(plan.learners[0]):
        p, where = cost.parts, f"{cost.study.task} {100 * cost.study.rate:g} %"
        noun = plan.inventories[cost.study.task].kind.noun
        examples = f"{p.train} train, {p.val} validation, {p.test} test {noun}"
        lines.append(f"{where}: {examples}; {cost.steps} steps a training, {cost.rows} validations")
    return lines


def _time_lines(plan: Plan) -> list[str]:
    if not plan.speeds:
        return ["time: not measured"]
    search, retrain = plan.search_s(plan.studies), plan.retrain_s(plan.studies)
    hours = f"{_hours(search)} search + {_hours(retrain)} retraining = {_hours(search + retrain)} {_unit(plan)}"
    starts = f", {duration(plan.overhead_s)} of them to start processes and to report" if plan.process_s else ""
    return [
        f"time: {hours}",
        f"on {plan.concurrency.trials} trial(s) at a time ({plan.concurrency.why}): {duration(plan.wall_s)}{starts}",
    ]


def _aim_lines(plan: Plan) -> list[str]:
    """Which question the run can answer, how many trainings that takes, and what would answer the other one."""
    e, c, studies = plan.experiment, plan.experiment.config, len(plan.studies)
    again = f" + {e.confirmations} on another split" if e.confirmations else ""
    splits = f" on {c.val_splits} splits each" if c.val_splits > 1 else ""
    each = f"{e.trials} trials{splits}{again} + {len(e.seeds)} retrained"
    total = plan.searched + plan.retrained
    many = f"{e.searches} searches x ({each})" if e.searches > 1 else each
    lines = [f"trainings: {studies} studies x ({many}) = {studies * total}"]
    return [*lines, *first_lines(e)]


def first_lines(experiment: Experiment) -> list[str]:
    """What is said of an experiment before it runs: its question, and the methods of which nothing is searched."""
    fixed = [name for name in experiment.config.methods if not experiment.order(name)]
    if not fixed or experiment.trials == 1:
        return [question_line(experiment)]
    told = f"nothing is searched for {', '.join(fixed)}: one trial is enough, its seeds are the repeats"
    return [question_line(experiment), told]


def question_line(experiment: Experiment) -> str:
    """Which question a run of an experiment can answer, and what would answer the other one."""
    c = experiment.config
    if c.aim == "methods":
        each = f"searched with {experiment.trials} trials, over {experiment.searches} searches"
        return f"answers which method is better, {each}; for the best model: --aim model"
    if len(c.tasks) > 1:
        return f"answers which models to take, and which method is better on these {len(c.tasks)} data sets"
    if len(c.methods) == 1:
        return "answers which model to take"
    return "answers which model to take; which method is better: --aim methods, or more data sets"


def lines_of(plan: Plan) -> list[str]:
    """The totals, a line each."""
    c = plan.experiment.config
    backbones = f" x backbones {len(c.backbones)}" if c.backbones else ""
    studies = f"tasks {len(c.tasks)} x rates {len(c.rates)}{backbones} x methods {len(c.methods)}"
    searched, retrained = plan.rows
    trained, forward = plan.images
    free = size(free_bytes(cache_root()))
    lines = [
        f"studies: {len(plan.studies)} ({studies})",
        *_aim_lines(plan),
        f"epochs, or intervals of iterations: {searched} + {retrained}",
        f"{plan.noun}: {trained:,} in training, {forward:,} in validation and tests",
        *_task_lines(plan),
        *_time_lines(plan),
        f"image cache: {size(plan.cache)} in {cache_root()} ({free} free)",
        f"running trials: {size(plan.running)} of states; over the whole run {size(plan.written)} are written",
        f"kept models, those that are retrained: {size(plan.models)}",
    ]
    if plan.memory:
        lines.append(f"memory of a trial: {size(plan.memory)}")
    return lines


def repeat_line(plan: Plan, searches: int) -> str:
    """What that many searches in all cost; the image cache is made once."""
    times = ""
    if plan.speeds:
        hours = plan.search_s(plan.studies) + plan.retrain_s(plan.studies)
        times = f", {_hours(searches * hours)} {_unit(plan)}, {duration(searches * plan.wall_s)}"
    trained = f"{searches * plan.trials} trials + {searches * plan.seeds} retrainings"
    models = size(searches * plan.models)
    return f"--repeat-search {searches}: {searches} times all that: {trained}{times}, models {models}"


def missing_lines(plan: Plan) -> list[str]:
    """What must be got before the run can start: each data set with its owners' page and layout."""
    lines = []
    for inventory in plan.inventories.values():
        if not inventory.missing:
            continue
        kind = inventory.kind
        counts = ", ".join(f"{count} {name}" for name, count in kind.counts.items())
        told = [kind.page, *(line.strip() for line in kind.layout.strip().splitlines())]
        lines.append(f"missing: {inventory.task} ({counts}): {inventory.missing}")
        lines += [f"  {line}" for line in told if line not in inventory.missing]
    return lines


def plan_json(plan: Plan, searches: int = 1) -> dict[str, Any]:
    """Every figure of the plan; seconds and bytes. Totals are of one search."""
    trained, forward = plan.images
    searched, retrained = plan.rows
    totals: dict[str, Any] = {
        "studies": len(plan.studies),
        "trials": plan.trials,
        "retrainings": plan.seeds,
        "search_epochs": searched,
        "retrain_epochs": retrained,
        "trained_images": trained,
        "forward_images": forward,
        "cache_bytes": plan.cache,
        "running_bytes": plan.running,
        "written_bytes": plan.written,
        "model_bytes": plan.models,
    }
    if plan.speeds:
        times = {
            "search_s": plan.search_s(plan.studies),
            "retrain_s": plan.retrain_s(plan.studies),
            "wall_s": plan.wall_s,
            "overhead_s": plan.overhead_s,
        }
        totals |= {**times, "memory_bytes": plan.memory}
    return {
        "experiment": plan.experiment.name,
        "concurrency": dataclasses.asdict(plan.concurrency),
        "studies": [dataclasses.asdict(cost) | {"name": cost.study.name} for cost in plan.studies],
        "speeds": {name: dataclasses.asdict(speed) for name, speed in plan.speeds.items()},
        "footprints": {name: dataclasses.asdict(size) for name, size in plan.footprints.items()},
        "missing": {i.task: i.missing for i in plan.inventories.values() if i.missing},
        "searches": searches,
        "totals": totals,
        "notes": plan.notes,
    }
