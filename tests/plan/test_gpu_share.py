"""``gpu_per_trial = "auto"``: the arithmetic, and the flow with measured figures made up."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import write_json
from cotuning_tune.experiment import Experiment, parse
from cotuning_tune.plan import gpu_share
from cotuning_tune.plan.gpu_share import Peak, ask_cluster, open_trainings, settled, specs_of, trials_on_each
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.training import TrainingSpec

GIB = 1 << 30
TEXT = """
[experiment]
tasks = ["synthetic", "more"]
methods = ["fine_tune", "bss"]
backbone = "tiny_cnn"
rates = [0.5, 1.0]
trials = 4
seeds = [0, 1]
[resources]
gpu_per_trial = "auto"
[task]
size = 16
resize = 16
[data.more]
format = "synthetic"
classes = 5
[train]
batch_size = [8, 24]
"""


@pytest.fixture
def experiment() -> Experiment:
    """Eight studies whose GPU share is measured."""
    return parse(TEXT, "auto")


def _peaks(*trials: float, gpu: int = 80) -> list[Peak]:
    return [Peak(f"m{number}", int(trial * GIB), gpu * GIB) for number, trial in enumerate(trials)]


@pytest.mark.parametrize(
    ("peaks", "gpus", "cores", "trials", "count"),
    [
        (_peaks(10, 20), 1, 64, 100, 3),  # 80 // (1.2 * 20 + 1)
        (_peaks(20, 10), 4, 64, 100, 3),
        (_peaks(70), 1, 64, 100, 1),  # it ran alone: it may
        (_peaks(0.5), 1, 64, 100, 8),  # eight at most
        (_peaks(0.5), 4, 64, 10, 2),  # 10 trials: 8 at a time, spread over 4 GPUs
        (_peaks(0.5), 4, 64, 7, 1),
        (_peaks(0.5), 4, 64, 2, 1),  # fewer trials than GPUs
        (_peaks(0.5), 2, 6, 100, 3),  # the cores allow no more
        (_peaks(0.5), 2, 1, 100, 1),
        ([*_peaks(10, gpu=80), *_peaks(10, gpu=24)], 2, 64, 100, 1),  # the smaller kind decides
    ],
)
def test_how_many_share_a_gpu(peaks: list[Peak], gpus: int, cores: int, trials: int, count: int) -> None:
    """Memory, cores and open trials each set a limit; at least one runs on a GPU."""
    assert trials_on_each(peaks, gpus, cores, trials) == count


def test_the_largest_training_is_measured(experiment: Experiment) -> None:
    """One spec a method, with the largest batch of the space and the task that has the most classes."""
    specs = specs_of(experiment)
    assert [spec.method for spec in specs] == ["fine_tune", "bss"]
    assert {(spec.task, spec.rate, spec.train["batch_size"]) for spec in specs} == {("more", 1.0, 24)}


def test_every_backbone_is_measured_on_the_largest_images() -> None:
    """Each backbone that a study may draw, or has, with the largest batch of its own space."""
    text = """[experiment]\ntasks = ["synthetic"]\nmethods = ["bss"]\n{}\n[task]\nsize = [8, 16]\nresize = 16\n"""
    both = '= ["tiny_cnn", "resnet18"]'
    own = "[backbones.resnet18.train]\nbatch_size = [4, 6]"
    for asked, more, batches in (("backbone", "", [48, 48]), ("backbones", own, [48, 6])):
        specs = specs_of(parse(text.format(f"{asked} {both}") + more, "both"))
        assert [(spec.backbone, spec.train["batch_size"]) for spec in specs] == [
            ("tiny_cnn", batches[0]),
            ("resnet18", batches[1]),
        ]
        assert {spec.task_config["size"] for spec in specs} == {16}


def test_open_trainings_are_counted(experiment: Experiment, tmp_path: Path) -> None:
    """Trials without a result, or the confirmations or seeds where fewer trials than those are open."""
    run, studies = RunDir(tmp_path), experiment.studies
    assert open_trainings([run], experiment) == 32
    for study in studies:
        for number in range(3):
            write_json(run.study(study.name).trial(number).result, {})
    assert open_trainings([run], experiment) == 24
    write_json(run.budget, {"trials": 10, "grown": []})
    assert open_trainings([run], experiment) == 80 - 24
    assert open_trainings([run, RunDir(tmp_path / "repeats" / "again")], experiment) == 80 - 24
    for study in studies:
        for number in range(3, 10):
            write_json(run.study(study.name).trial(number).result, {})
    assert open_trainings([run, RunDir(tmp_path / "repeats" / "again")], experiment) == 32
    assert open_trainings([run], experiment) == 24
    for study in studies:
        for number in range(10, 13):
            write_json(run.study(study.name).trial(number).result, {})
    assert open_trainings([run], experiment) == 16
    write_json(run.budget, {"trials": 13, "grown": []})
    assert open_trainings([run], experiment) == 24


def test_hours_leave_trainings_open(tmp_path: Path) -> None:
    """Without a number of trials as many are open as there is room for, until the hours are used."""
    timed, run = parse(TEXT.replace("trials = 4", "hours = 2"), "auto"), RunDir(tmp_path)
    assert trials_on_each(_peaks(0.5), 4, 64, open_trainings([run], timed)) == 8
    write_json(run.time_used, {"hours": 2, "trials": 5, "time": 0.0})
    assert open_trainings([run], timed) == 8 * 5


def _cluster(monkeypatch: pytest.MonkeyPatch, *resources: dict[str, float]) -> None:
    nodes = [{"Alive": True, "NodeID": str(n), "Resources": found} for n, found in enumerate(resources)]
    monkeypatch.setattr(gpu_share, "gpu_nodes", lambda: nodes)


def test_the_share_is_settled(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measured peak becomes a share, which is said with the method that needs most."""
    _cluster(monkeypatch, {"CPU": 16, "GPU": 2}, {"CPU": 16, "GPU": 2})
    said: list[str] = []

    def ask(specs: Sequence[TrainingSpec], cpus: int) -> list[Peak]:
        assert cpus == 1
        return [Peak(spec.method, (8 + 4 * (spec.method == "bss")) * GIB, 80 * GIB) for spec in specs]

    found = settled([RunDir(tmp_path)], experiment, said.append, ask)
    assert found.gpu_per_trial == 0.2
    assert said[-1] == "5 trial(s) share a GPU: bss takes 12.00 of 80.0 GiB"


def test_without_a_gpu_nothing_is_measured(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU 'auto' is 0; a number stays what it is, wherever it runs."""

    def ask(specs: Sequence[TrainingSpec], cpus: int) -> list[Peak]:
        raise AssertionError("measured")

    run = RunDir(tmp_path)
    _cluster(monkeypatch)
    assert settled([run], experiment, print, ask).gpu_per_trial == 0
    _cluster(monkeypatch, {"CPU": 1, "GPU": 1})
    for share in ("-1", "0.5"):
        fixed = parse(TEXT.replace('"auto"', share), "fixed")
        assert settled([run], fixed, print, ask) == fixed.resources


def test_the_share_is_no_part_of_a_trial(experiment: Experiment) -> None:
    """What is trained, and the space, are the same whatever the share: so are the results."""
    fixed = parse(TEXT.replace('"auto"', "0.25"), "auto")
    assert fixed.space_text() == experiment.space_text()
    for study in experiment.studies:
        assert fixed.spec(study, {}, 0) == experiment.spec(study, {}, 0)


@pytest.fixture
def fake_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray cluster that counts two GPUs, which are not there."""
    import ray

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "_node_ip_address": "127.0.0.1"}
    ray.init(address="local", num_cpus=2, num_gpus=2, object_store_memory=100_000_000, **options)
    yield
    ray.shutdown()


@pytest.mark.proof
def test_measured_by_ray_tasks(experiment: Experiment, tmp_path: Path, fake_gpus: None) -> None:
    """Each method is measured in a task that holds a GPU; where torch sees none of them, 'auto' is refused."""
    found = ask_cluster(specs_of(experiment), 1)
    assert [peak.method for peak in found] == ["fine_tune", "bss"]
    assert all(peak.trial > 0 for peak in found)
    if all(peak.gpu == 0 for peak in found):
        with pytest.raises(UserError, match="Ray counts GPUs where torch sees none"):
            settled([RunDir(tmp_path)], experiment, lambda line: None, lambda specs, cpus: found)
