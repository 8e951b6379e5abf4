"""Launching on a real Slurm of three hosts: interrupted in every way, stopped, resumed; nothing is lost or left."""

import datetime
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from optuna.trial import TrialState

from cotuning_tune.launch import find_launch
from tests.hosts.slurm_bed import GPUS, Slurm, slurm
from tests.launch.guides import ROOT, commands_of
from tests.search.kills import trials_of

TRIALS, EPOCHS = 12, 3
EXPERIMENT = f"""
[experiment]
validate = "each"
tasks = ["synthetic"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
trials = {TRIALS}
selection = "max"
sampler = "random"
seeds = [0]
[task]
size = 32
resize = 32
[data.synthetic]
images = 100
[resources]
state_every = 0
[train]
epochs = {EPOCHS}
batch_size = 8
[train.optim]
lr = [1e-3, 1e-2]
"""
PROFILE = f"""
nodes = 2
cpus = 1
gpus = {GPUS}
minutes = 50
warning = 30
options = ["--mem=3000"]
scratch = "/tmp/ray"
"""  # /tmp/ray: of its own on each host of a bed
WARNED = "the time ends, or another job comes first"
LOOK = """
import os, ray, socket, sys, time
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=40)
@ray.remote(num_gpus=0.5, num_cpus=0, scheduling_strategy="SPREAD")
def look():
    time.sleep(1)
    return socket.gethostname(), os.environ["CUDA_VISIBLE_DEVICES"]
print(int(ray.cluster_resources()["GPU"]), int(ray.cluster_resources()["CPU"]))
print(*sorted({"/".join(seen) for seen in ray.get([look.remote() for _ in range(8)])}))
"""


class Site:
    """The cluster, and what a user of it does; the run is called ``tiny``."""

    def __init__(self, bed: Slurm, folder: Path) -> None:
        self.bed, self.folder = bed, folder
        self.launches, self.run = folder / "launches", folder / "runs" / "tiny"
        self.experiment, self.profile = folder / "tiny.toml", folder / "slurm.toml"
        self.released: dict[str, float] = {}
        self.experiment.write_text(EXPERIMENT)
        self.profile.write_text(PROFILE)
        bed.env.update(COTUNING_TUNE_LAUNCHES=str(self.launches), OMP_NUM_THREADS="1")

    def tune(self, *words: object) -> str:
        """What ``cotuning-tune launch`` prints on the first host."""
        return self.bed.run(sys.executable, "-m", "cotuning_tune.cli", "launch", *words, timeout=400)

    def launch(self) -> str:
        """Launch the run; the job's number."""
        self.tune("slurm", self.experiment, "--storage", self.run.parent, "--profile", self.profile)
        job: str = find_launch("tiny", self.launches).facts["job"]
        return job

    def log(self) -> str:
        """What the job has said so far."""
        path = self.launches / "tiny" / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, holds: Callable[[], object], what: str, seconds: float = 240) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"waited too long for {what}: {self.log()[-3000:]}"
            time.sleep(0.3)

    def results(self) -> int:
        """The number of finished trials."""
        return len(list(self.run.glob("studies/*/trials/*/result.json")))

    def wait_for_start(self, number: int) -> None:
        """Until the job has started for that time."""
        self.wait(lambda: f", start {number}, on" in self.log(), f"start {number}")

    def wait_for_a_trial(self) -> None:
        """Until one more trial has finished."""
        before = self.results()
        self.wait(lambda: self.results() > before, "another trial")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Meanwhile trials stand still, however fast the machine is."""
        every = [item for host in self.bed.hosts for item in host.processes().items()]
        trials = [pid for pid, line in every if line.startswith("ray::") and not re.search("Agent|IDLE", line)]
        assert trials, every
        for pid in trials:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in trials:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def note_release(self, after: str) -> None:
        """Slurm has the nodes again: how long after the driver's end, in seconds."""
        self.released[after] = time.time() - (self.launches / "tiny" / "exit").stat().st_mtime

    def start_again(self, job: str, number: int, after: str) -> None:
        """Wait until the job is back in the queue and nothing of it is left; then spare it Slurm's pause."""
        self.wait(lambda: self.bed.job(job)["JobState"] == "PENDING", "the job to be back in the queue")
        self.note_release(after)
        self.wait_until_nothing_is_left()
        time.sleep(3)  # the pause is there because the job's credential has just been revoked
        self.bed.run("scontrol", "update", f"jobid={job}", "starttime=now", "timelimit=50")
        self.wait_for_start(number)

    def wait_until_nothing_is_left(self) -> None:
        """No process on any host but Slurm's, no file of Ray's, no token."""
        self.wait(lambda: not self.bed.left(), "the hosts to be empty", 60)
        assert [host.run(["ls", "/tmp/ray"]).stdout for host in self.bed.hosts] == ["", "", ""]
        assert not list(self.launches.glob("*/token-*"))

    def assert_done(self) -> None:
        """Exactly the asked trials, each complete with all its epochs."""
        (trials,) = trials_of(self.run).values()
        assert [trial.number for trial in trials] == list(range(TRIALS))
        assert {trial.state for trial in trials} == {TrialState.COMPLETE}
        assert {len(trial.intermediate_values) for trial in trials} == {EPOCHS}
        assert len(list(self.run.glob("studies/*/retrain/seed0/result.json"))) == 1


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """One Slurm for all tests here."""
    with slurm(tmp_path_factory.mktemp("slurm")) as made:
        yield made


@pytest.fixture
def site(bed: Slurm, tmp_path: Path) -> Iterator[Site]:
    """A user's view; what a failed test leaves in the queue is cancelled."""
    yield Site(bed, tmp_path)
    bed.run("scancel", "--user=root")
    deadline = time.monotonic() + 60
    while not bed.idle() and time.monotonic() < deadline:
        time.sleep(0.5)


def test_interrupted_in_every_backend(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """An early signal, a requeue, the time limit, a preemption: the job goes on by itself, no trial is lost."""
    bed, job = site.bed, site.launch()
    site.wait_for_start(1)
    bed.run("scancel", "--batch", "--signal=USR1", job)  # as Slurm does up to 60 s early: nothing is up yet
    site.start_again(job, 2, "an early signal")
    assert "checked" not in site.log()

    site.wait_for_a_trial()
    bed.run("scontrol", "requeue", job)
    site.start_again(job, 3, "a requeue")

    site.wait_for_a_trial()
    with site.frozen():
        soon = datetime.datetime.now() + datetime.timedelta(seconds=50)
        bed.run("scontrol", "update", f"jobid={job}", f"endtime={soon:%Y-%m-%dT%H:%M:%S}")
        site.wait(lambda: site.log().count(WARNED) == 2, "the warning of the time limit")
    site.start_again(job, 4, "the time limit")

    site.wait_for_a_trial()
    with site.frozen():
        urgent = bed.run("sbatch", "--parsable", "-p", "high", "-N3", "--exclusive", "-o/dev/null", "--wrap", "sleep 2")
        site.wait(lambda: site.log().count(WARNED) == 3, "the warning of the preemption")
    site.wait(lambda: bed.job(urgent)["JobState"] == "COMPLETED", "the job that comes first")
    site.start_again(job, 5, "a preemption")

    site.wait(lambda: "the driver has ended with 0" in site.log(), "the end")
    site.wait(bed.idle, "the nodes to be free", 30)
    site.note_release("the end")
    site.wait_until_nothing_is_left()
    with capsys.disabled():
        times = ", ".join(f"{after} {seconds:.1f} s" for after, seconds in site.released.items())
        sys.stdout.write(f"\nnodes free after the driver's end: {times}\n")
    assert site.tune("status").startswith("tiny: done (slurm,")
    assert bed.job(job)["Restarts"] == "4"
    site.assert_done()


def test_the_guide_works(site: Site) -> None:
    """Followed word by word: launched, stopped cleanly, resumed, done; each trial has its GPU, no secret shows."""
    places = {"search_spaces/tiny.toml": str(site.experiment), "/shared/runs": str(site.run.parent)}
    states = []
    for words in commands_of("launch-slurm.md", places | {"slurm.toml": str(site.profile)}):
        if words[1] == "stop":
            site.wait_for_a_trial()
            _look_at_gpus_and_secrets(site)
        said = site.tune(*words[1:])
        if words[1] == "status":
            states.append(said.split()[1])
        if words[1] == "stop":
            assert "stopped cleanly; nothing is lost" in said
            assert 0 < site.results() < TRIALS
            site.wait_until_nothing_is_left()
    assert states[1:] == ["unfinished", "done"]
    assert site.bed.idle()
    site.wait_until_nothing_is_left()
    site.assert_done()


def test_the_example_of_a_site_works(site: Site) -> None:
    """``examples/slurm_site``, followed word by word with this cluster's sizes: launched, done, reported."""
    folder, storage = ROOT / "examples" / "slurm_site", site.run.parent
    places = {"/shared/runs": str(storage), "/shared/runs/try": str(storage / "try")}
    places |= {name: str(folder / name) for name in ("try.toml", "site.toml")}
    sizes = ["cpus=1", "gpus=0", 'options=["--mem=3000"]', "setup=[]", "scratch=/tmp/ray"]
    told = []
    for words in commands_of("../examples/slurm_site/README.md", places):
        more = [word for size in sizes for word in ("--set", size)] if words[:2] == ["launch", "slurm"] else []
        told.append(site.bed.run(sys.executable, "-m", "cotuning_tune.cli", *words, *more, timeout=400))
    assert told[-2].startswith("try: done (slurm,")
    assert "Take " in told[-1]
    site.wait_until_nothing_is_left()


def _look_at_gpus_and_secrets(site: Site) -> None:
    (token,) = site.launches.glob("tiny/token-*")
    assert token.stat().st_mode & 0o777 == 0o600
    secret = token.read_text()
    assert re.fullmatch("[0-9a-f]{64}", secret)
    assert not [line for host in site.bed.hosts for line in host.processes().values() if secret in line]
    assert secret not in (token.parent / "job.sbatch").read_text()
    (address,) = set(re.findall(r"--address=(10\S+:\d+)", " ".join(site.bed.hosts[1].processes().values())))
    there = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    with site.frozen():
        look = site.bed.hosts[0].run([sys.executable, "-c", LOOK, address], env=there)
    resources, seen = look.stdout.splitlines()
    assert resources == f"{2 * GPUS} 2"
    assert set(seen.split()) <= {f"n{host}/{gpu}" for host in (0, 1) for gpu in (0, 1)}
    assert {word.split("/")[0] for word in seen.split()} == {"n0", "n1"}
