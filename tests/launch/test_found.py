"""What has been started is found by its name, where whoever started it has not heard the answer."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.launch import Launch, Request, backend, find_launch, launch, relaunch, settled, state_of, stop
from cotuning_tune.launch.backend import Unsure
from cotuning_tune.launch.backends import cloud, k8s, slurm, ssh, submit
from cotuning_tune.launch.backends.k8s import K8sBackend
from cotuning_tune.launch.backends.slurm import SlurmProfile
from cotuning_tune.launch.backends.ssh import SshProfile
from cotuning_tune.launch.backends.submit import SubmitProfile
from cotuning_tune.launch.claim import claim_of
from cotuning_tune.launch.remote import NotReached, Remote
from cotuning_tune.launch.verbs import NOT_STARTED
from tests.launch.guides import ROOT
from tests.launch.kube_server import Kube
from tests.launch.test_claims import Died
from tests.launch.test_cloud import _launched as launched_by_cloud
from tests.launch.test_cloud import ray  # noqa: F401 - a fixture
from tests.launch.test_k8s import _launched as launched_by_k8s
from tests.launch.test_k8s import kube  # noqa: F401 - a fixture
from tests.launch.test_slurm import _answer

TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the launches lie; what is put there as a program is one; nothing is waited for."""
    monkeypatch.setenv("COTUNING_TUNE_LAUNCHES", str(tmp_path / "launches"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(slurm, "FIND_S", 0.2)
    monkeypatch.setattr(slurm, "LOOK_S", 0.01)
    return tmp_path


def _request(folder: Path, profile: Any) -> Request:
    name = folder / "launches" / "tiny"
    return Request(ROOT / "search_spaces" / "tiny.toml", "tiny", str(folder / "runs"), "", profile, name)  # type: ignore[arg-type]


def _asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().splitlines()


def test_a_job_whose_number_was_lost(folder: Path) -> None:
    """sbatch timed out, and the controller has the job all the same: its queue is asked for the name."""
    _answer(folder, "sbatch", "", TIMED_OUT, 1)
    _answer(folder, "squeue", "17\n")
    made = launch("slurm", _request(folder, SlurmProfile()))
    assert made.facts == {"job": "17"}
    assert _asked(folder)[1:] == [f"squeue --noheader --name=ct-{made.id}-1 --format=%A"]
    assert f"#SBATCH --job-name=ct-{made.id}-1 --comment=tiny\n" in (made.folder / "job.sbatch").read_text()


def test_a_job_that_is_not_found(folder: Path) -> None:
    """Looked for a while, then the record stays; found later by the accounting, or submitted again, under its name."""
    _answer(folder, "sbatch", "", TIMED_OUT, 1)
    _answer(folder, "squeue", "")
    _answer(folder, "sacct", "")
    with pytest.raises(Unsure, match=r"Socket timed out .*; whether Slurm has the job is not known yet"):
        launch("slurm", _request(folder, SlurmProfile()))
    assert len([line for line in _asked(folder) if line.startswith("squeue")]) > 1
    found = find_launch("tiny")
    assert state_of(found) == NOT_STARTED
    _answer(folder, "sacct", "", "Slurm accounting storage is disabled\n", 1)
    assert state_of(found) == NOT_STARTED
    _answer(folder, "sacct", "21\n")
    assert settled(found).facts == {"job": "21"}
    assert f"--name=ct-{found.id}-1 " in _asked(folder)[-1]
    found.save()
    _answer(folder, "sacct", "")
    _answer(folder, "sbatch", "22\n")
    again = relaunch(found)
    assert (again.id, again.attempt, again.facts) == (found.id, 1, {"job": "22"})
    _answer(folder, "squeue", "", "slurm_load_jobs error: Unable to contact slurm controller\n", 1)
    found.save()
    assert state_of(found).startswith("unknown (squeue refuses: slurm_load_jobs error: Unable to contact")


def test_a_refused_job_leaves_no_record(folder: Path) -> None:
    """Slurm has said clearly that there is none: nothing is looked for."""
    _answer(folder, "sbatch", "", "sbatch: error: invalid partition specified: gpu\n", 1)
    with pytest.raises(UserError, match="invalid partition"):
        launch("slurm", _request(folder, SlurmProfile()))
    assert len(_asked(folder)) == 1
    assert not (folder / "launches" / "tiny" / "launch.json").exists()


def test_two_jobs_of_one_attempt(folder: Path) -> None:
    """The one that has the claim is the one that is asked for, whichever number came back."""
    _answer(folder, "sbatch", "31\n")
    made = launch("slurm", _request(folder, SlurmProfile()))
    claim = claim_of(made.folder, made.attempt_name)
    claim.parent.mkdir(parents=True)
    claim.write_text("30\n")
    assert backend("slurm").find(made) == {"job": "30"}
    _answer(folder, "squeue", "RUNNING None\n")
    assert state_of(made) == "running (running, job 30)"
    assert _asked(folder)[-1] == "squeue --noheader --jobs=30 --format=%T %r"


def test_the_job_claims_its_attempt(folder: Path) -> None:
    """A second job of the attempt ends with 0 before it touches anything; a requeued one finds its own claim."""
    request = _request(folder, SlurmProfile())
    request.folder.mkdir(parents=True)
    script = backend("slurm").plan(request).files["job.sbatch"]
    before, _, _ = script.partition("export RAY_AUTH_MODE")
    (request.folder / "job.sbatch").write_text(before + "echo goes on\n")

    def run(job: str) -> tuple[int, str]:
        environment = {**os.environ, "SLURM_JOB_ID": job}
        command = ["bash", str(request.folder / "job.sbatch")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout

    assert run("7") == run("7") == (0, "goes on\n")
    code, said = run("8")
    assert code == 0
    assert said.endswith("another job has this attempt\n")
    assert claim_of(request.folder, "ct-new-1").read_text() == "7\n"
    assert [path.name for path in claim_of(request.folder, "ct-new-1").parent.iterdir()] == ["ct-new-1"]


def test_a_rayjob_whose_maker_died(kube: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """It is found by its name, and gets what belongs to it, with the token that it was made with."""
    with monkeypatch.context() as patch:
        patch.setattr(k8s, "_own", _die)
        with pytest.raises(Died):
            launched_by_k8s(tmp_path)
    token = kube.named("secrets")[0]["data"]["auth_token"]
    assert "ownerReferences" not in kube.named("secrets")[0]["metadata"]
    found = find_launch("tiny")
    assert found.starting
    assert state_of(found) == "queued"
    assert find_launch("tiny").facts == {"name": f"ct-{found.id}-1", "uid": kube.job()["metadata"]["uid"]}
    assert kube.named("secrets")[0]["data"]["auth_token"] == token
    for plural in ("configmaps", "networkpolicies", "secrets"):
        (owner,) = kube.named(plural)[0]["metadata"]["ownerReferences"]
        assert owner["uid"] == kube.job()["metadata"]["uid"]


def _die(*_: Any, **__: Any) -> None:
    raise Died


def test_a_rayjob_that_was_not_made(kube: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """None is found, and the next start makes it under the same name; one that is there already is taken."""
    with monkeypatch.context() as patch:
        patch.setattr(k8s, "_clear", _die)
        with pytest.raises(Died):
            launched_by_k8s(tmp_path)
    found = find_launch("tiny")
    assert state_of(found) == NOT_STARTED
    again = relaunch(found)
    assert again.facts["name"] == f"ct-{found.id}-1"
    with monkeypatch.context() as patch:
        patch.setattr(k8s, "_rehearse", lambda *_: None)
        request = replace(_k8s_request(again), id=again.id)
        assert K8sBackend().start(request, K8sBackend().plan(request)) == again.facts


def _k8s_request(made: Launch) -> Request:
    from cotuning_tune.launch.verbs import request_of

    return request_of(made)


def test_a_lost_api_server(kube: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """What was asked for may be there or not: the record stays, and the state is unknown until the server answers."""

    def lost(*_: Any) -> None:
        raise UserError("the API server does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(k8s.Api, "create", lost)
        with pytest.raises(Unsure, match="whether there is a RayJob is not known yet: launch status looks for it"):
            launched_by_k8s(tmp_path)
        patch.setattr(k8s.Api, "find", lost)
        assert state_of(find_launch("tiny")) == "unknown (the API server does not answer)"
    assert state_of(find_launch("tiny")) == NOT_STARTED
    assert relaunch(find_launch("tiny")).attempt == 1


class _Jobs:
    """A client of the Jobs API: the cluster's jobs by their id, and what the next call comes to."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.problem: Exception | None = None

    def submit_job(self, *, submission_id: str, **job: Any) -> str:
        """As Ray does it, then the planted problem."""
        if submission_id in self.jobs:
            said = f"ValueError: Job with submission_id {submission_id} already exists. Please use a different one"
            raise RuntimeError(f"Request failed with status code 400: Traceback ...\n{said}.")
        self.jobs[submission_id] = job
        if self.problem:
            raise self.problem
        return submission_id

    def get_job_info(self, job: str) -> dict[str, Any]:
        """What was submitted; 404 for what was not."""
        if self.problem:
            raise self.problem
        if job not in self.jobs:
            raise RuntimeError(f"Request failed with status code 404: Job {job} does not exist.")
        return self.jobs[job]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> _Jobs:
    """The client that the backend gets."""
    made = _Jobs()

    @contextmanager
    def client(*_: str) -> Iterator[_Jobs]:
        try:
            yield made
        except (OSError, RuntimeError) as problem:
            raise UserError(str(problem)) from None

    monkeypatch.setattr(submit, "_client", client)
    return made


@pytest.mark.parametrize(
    "problem",
    [OSError("the line is cut"), RuntimeError("Request failed with status code 500: agent timed out.")],
)
def test_a_submitted_job_whose_answer_was_lost(folder: Path, jobs: _Jobs, problem: Exception) -> None:
    """The record stays, the job is found by its id; a start under the same name takes the one that is there."""
    jobs.problem = problem
    with pytest.raises(Unsure, match=r"was lost while the job was sent .*: launch status looks for it"):
        launch("submit", _request(folder, SubmitProfile()))
    found = find_launch("tiny")
    assert state_of(found) == f"unknown ({problem})"
    jobs.problem = None
    assert settled(found).facts == {"job": f"ct-{found.id}-1"} == {"job": next(iter(jobs.jobs))}
    kind, request = backend("submit"), replace(_request(folder, SubmitProfile()), id=found.id)
    assert kind.start(request, kind.plan(request)) == {"job": f"ct-{found.id}-1"}
    jobs.jobs.clear()
    found.save()
    assert state_of(found) == NOT_STARTED


def test_a_refused_submission_leaves_no_record(folder: Path, jobs: _Jobs) -> None:
    """The cluster has answered that it does not take the job."""
    jobs.problem = RuntimeError("Request failed with status code 400: no such runtime_env.")
    with pytest.raises(UserError, match="status code 400"):
        launch("submit", _request(folder, SubmitProfile()))
    assert not (folder / "launches" / "tiny" / "launch.json").exists()


def test_a_driver_in_the_cloud_whose_starter_died(ray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """The head knows which attempts it has started; without a head there is none; a lost answer is asked for again."""
    real = cloud._ray

    def ask(folder: Path, words: list[str], *, before: Exception | Died | None, after: Exception | None = None) -> str:
        starts = any("driver.sh start" in word for word in words)
        if starts and before:
            raise before
        said = real(folder, words)
        if starts and after:
            raise after
        return said

    with monkeypatch.context() as patch:
        patch.setattr(cloud, "_write_files", _die)
        with pytest.raises(Died):
            launched_by_cloud(tmp_path)
        assert state_of(find_launch("tiny")) == NOT_STARTED
    with monkeypatch.context() as patch:
        patch.setattr(cloud, "_ray", partial(ask, before=Died()))
        with pytest.raises(Died):
            launched_by_cloud(tmp_path)
    assert state_of(find_launch("tiny")) == NOT_STARTED
    assert stop(find_launch("tiny")) == "no driver runs, the machines are down"
    assert not (ray / "head").exists()
    with monkeypatch.context() as patch:
        patch.setattr(cloud, "_ray", partial(ask, before=None, after=UserError("the line is cut")))
        with pytest.raises(Unsure, match="the line is cut; whether the driver has been started is not known"):
            launched_by_cloud(tmp_path)
    (ray / "fail").write_text("exec")
    assert state_of(find_launch("tiny")).startswith("unknown ('ray exec' failed")
    (ray / "fail").unlink()
    assert state_of(find_launch("tiny")) == "running"
    made = find_launch("tiny")
    assert made.facts == {"cluster": str(made.folder / "cluster.yaml")}
    script, home = ray / "head" / "cotuning-tune" / "driver.sh", ray / "head"
    again = ["sh", str(script), "start", made.attempt_name]
    done = subprocess.run(again, env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, check=True)
    assert done.stdout == "state: started\n"
    stop(made)


@pytest.fixture
def host(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the only host of a cluster, whose shell is reached without ssh; its ``python`` starts no Ray."""
    home = folder / "home"
    home.mkdir()
    (home / "python").write_text(
        f'#!/bin/sh\ncase "$2" in *.entry) echo begun >>{home}/starts; exec sleep 600 ;; esac\n'
    )
    (home / "python").chmod(0o700)

    def run(self: Remote, line: str, given: bytes = b"", seconds: float = 180) -> str:
        done = subprocess.run(line, shell=True, cwd=home, input=given, capture_output=True, check=False, timeout=60)
        if done.returncode:
            raise UserError(done.stderr.decode())
        if "check.sh" in line:
            return "{}"
        return done.stdout.decode().strip()

    monkeypatch.setattr(Remote, "run", run)
    monkeypatch.setattr(Remote, "let_go", lambda self: None)
    monkeypatch.setattr(ssh, "_start_nodes", lambda *_: "127.0.0.1")
    return home


def test_a_driver_on_a_host_whose_starter_died(host: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head's claim tells; a lost answer is asked for again; a second start of the attempt starts nothing."""
    request = _request(folder, SshProfile(hosts=("one",), python=str(host / "python"), stop_s=5))
    with monkeypatch.context() as patch:
        patch.setattr(ssh, "_start_driver", _die)
        with pytest.raises(Died):
            launch("ssh", request)
    assert state_of(find_launch("tiny")) == NOT_STARTED
    assert stop(find_launch("tiny")) == "no driver runs; its nodes are stopped"
    real = Remote.run

    def lost(self: Remote, line: str, *more: Any, **named: Any) -> str:
        said = real(self, line, *more, **named)
        if "start.sh driver" in line:
            raise NotReached("one has not answered within 180 s")
        return said

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "run", lost)
        with pytest.raises(Unsure, match="whether the driver has been started is not known: launch status asks"):
            launch("ssh", request)
    try:
        found = find_launch("tiny")
        assert found.starting
        assert state_of(found) == "running, 0 of 1 nodes"
        there = host / ".cotuning_tune" / "on_hosts" / "tiny-0"
        assert find_launch("tiny").facts == {
            "hosts": ["one"],
            "options": [],
            "folders": [".cotuning_tune/on_hosts/tiny-0"],
            "address": "127.0.0.1",
        }
        subprocess.run(["sh", str(there / "start.sh"), "driver", "127.0.0.1"], check=True, timeout=60)
        assert [path.name for path in (there / "attempts").iterdir()] == [found.attempt_name]
    finally:
        assert "stopped" in stop(find_launch("tiny"))
    assert (host / "starts").read_text() == "begun\n"
