"""From an experiment to its plan: counts the images, measures or assumes the speeds, adds it up."""

import dataclasses
from collections.abc import Callable, Mapping
from itertools import product

from cotuning_tune.data import TaskConfig
from cotuning_tune.experiment import Experiment
from cotuning_tune.hyper import build
from cotuning_tune.models import pretrained
from cotuning_tune.plan.concurrency import plan_concurrency, share_of, trials_per_gpu
from cotuning_tune.plan.cost import Plan, make_plan
from cotuning_tune.plan.inventory import Inventory, take_inventory
from cotuning_tune.plan.probe import Probe, measure_footprints, process_seconds, run_probe
from cotuning_tune.plan.speeds import Speed, assumed_speeds, ratio_notes
from cotuning_tune.training.config import hardest
from cotuning_tune.training.job import check_batch


def plan_of(
    experiment: Experiment,
    *,
    concurrency: int | None = None,
    gpus: int | None = None,
    images_per_second: float | None = None,
    probe: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Plan:
    """The plan of an experiment. ``images_per_second`` of plain fine-tuning by one trial replaces the probe.

    Raises UserError for impossible numbers, and where the size of a data set is not to be known.
    """
    config, count = experiment.config, plan_concurrency(experiment.resources, concurrency, gpus)
    speeds: dict[str, Speed] = {}
    if images_per_second is not None:
        first = experiment.spec(experiment.studies[0], {}, 0).train["batch_size"]
        of_methods = assumed_speeds(config.methods, images_per_second, first)
        speeds = {study.learner: of_methods[study.method] for study in experiment.studies}
    inventories = {task: take_inventory(experiment, task) for task in config.tasks}
    _check_batches(experiment, inventories)
    if images_per_second is None and probe:
        found = run_probe(experiment, inventories, say)
        plan = make_plan(experiment, inventories, found.speeds, found.footprints, count, process_seconds())
        return _with_notes(plan, found)
    footprints = measure_footprints(experiment, inventories)
    plan = make_plan(experiment, inventories, speeds, footprints, count)
    if images_per_second is None:
        return plan
    given = f"{images_per_second:g} images/s of plain fine-tuning, as given; steps of {first} images"
    return dataclasses.replace(plan, notes=[*plan.notes, given, *ratio_notes(config.methods)])


def _check_batches(experiment: Experiment, inventories: Mapping[str, Inventory]) -> None:
    """UserError where a backbone cannot train on the smallest batches that may be drawn."""
    config, rate = build(TaskConfig, experiment.task, "task"), min(experiment.config.rates)
    studies = [s for s in experiment.studies if s.rate == rate and s.method == experiment.config.methods[0]]
    for study, place in product(studies, experiment.places()):
        spec = experiment.spec(study, place | hardest(experiment.train_of(study.backbone)), 0)
        check_batch(spec, pretrained(spec.backbone, "random"), inventories[study.task].at(rate, config).train)


def _with_notes(plan: Plan, probe: Probe) -> Plan:
    """The plan with what is to be said of how it was probed."""
    steps = sorted({speed.steps for speed in probe.speeds.values()})
    shown = " to ".join(map(str, {steps[0]: 0, steps[-1]: 0}))
    notes = [f"probed on {probe.device} with {shown} steps a method, on {probe.where}; a trial alone on the machine"]
    if probe.missing:
        notes.append(f"probed with random weights, the run needs the published ones: {probe.missing}")
    if any(speed.setup_s is None for speed in probe.speeds.values()):
        notes.append("the methods' set-up is not measured: it needs the images and the weights")
    if probe.device_bytes:
        share = share_of(trials_per_gpu(plan.memory, probe.device_bytes))
        notes.append(f"by memory a trial may take resources.gpu_per_trial = {share:.3g} of a {probe.device}")
    return dataclasses.replace(plan, notes=[*plan.notes, *notes])
