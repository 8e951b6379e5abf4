"""Launching on this machine: the guide followed word by word, the mistakes, the profile file."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cotuning_tune.launch import Launch, backend, find_launch, state_of
from cotuning_tune.launch.profile import profile_text, read_profile
from cotuning_tune.launch.record import private_folder
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import driver_lock, machine, started_at
from tests.launch.guides import ROOT, commands_of
from tests.moments import at, reached
from tests.search.conftest import call as run_command

EXPERIMENT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
trials = 6
selection = "max"
seeds = [0]
[task]
size = 16
resize = 16
[data.synthetic]
images = 60
[train]
epochs = 3
batch_size = 8
"""
Call = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture(autouse=True)
def launches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the launches of this test."""
    folder = tmp_path / "launches"
    monkeypatch.setenv("COTUNING_TUNE_LAUNCHES", str(folder))
    return folder


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """An experiment file called ``tiny``."""
    path = tmp_path / "tiny.toml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture
def stopped(experiment: Path) -> Iterator[None]:
    """Whatever the test leaves running is stopped."""
    yield
    run_command("launch", "stop")


THIRD_TRIAL = 3


def _wait_for_the_third_trial(moment: Path) -> None:
    """Until the driver is about to hand it out: there it waits."""
    while reached(moment) < THIRD_TRIAL:
        assert state_of(find_launch("tiny")) == "running"
        time.sleep(0.2)


def _state_in(output: str) -> str:
    return output.splitlines()[0].split()[1]


def test_the_guide_works(
    tmp_path: Path, experiment: Path, stopped: None, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Followed word by word: launched, running, stopped, unfinished, resumed, followed to the end, done, listed."""
    run, moment = RunDir(tmp_path / "runs" / "tiny"), tmp_path / "moment"
    for name, value in at(moment, "cotuning_tune.search.study:OptunaStudy.issue", "wait", THIRD_TRIAL).items():
        monkeypatch.setenv(name, value)
    places = {"search_spaces/tiny.toml": str(experiment), "runs": str(run.path.parent)}
    shown: list[tuple[str, str]] = []
    for words in commands_of("launch-local.md", places):
        if words[1] == "stop":
            _wait_for_the_third_trial(moment)
        if words[1] == "resume":
            (moment / "go").touch()
        if words[1] in ("local", "resume"):  # as a user does: what they start outlives them
            done = run_command(*words)
            assert done.returncode == 0, done.stderr
            shown.append((words[1], done.stdout))
        else:
            code, out, errors = call(*words)
            assert code == 0, errors
            shown.append((words[1], "\n".join(out)))
    first, second = [_state_in(text) for verb, text in shown if verb == "status"]
    assert (first, second) == ("running", "unfinished")
    log = next(text for verb, text in reversed(shown) if verb == "logs")
    assert "nothing is lost, 'resume' continues" in log
    assert "Test accuracy" in log
    table = next(text for verb, text in shown if verb == "list")
    assert [cell.strip() for cell in table.splitlines()[-1].split("|")[1:4]] == ["tiny", "local", "done"]
    last = json.loads(run.summary.read_text())
    wanted = {"state": "done", "phase": "report", "done": 6, "budget": 6, "failed": 0, "running": 0, "reason": ""}
    assert wanted.items() <= last.items()
    assert (last["retrained"], last["retrain_budget"], last["restarts"]) == (1, 1, 1)
    assert last["trial_hours"] > 0
    assert last["gpu_hours"] == 0
    assert list(last["best"]) == ["synthetic-1.00-fine_tune"]
    assert any("took" in line for line in call("launch", "status")[1])


def _record(storage: Path, pid: int, since: str | None) -> Launch:
    facts = {"pid": pid, "since": since, "machine": machine()}
    made = Launch("tiny", "local", "tiny.toml", str(storage), {}, facts, started=time.time())
    private_folder(made.folder)
    made.save()
    return made


@pytest.fixture
def living(tmp_path: Path) -> Launch:
    """A launch whose driver lives: this process."""
    return _record(tmp_path / "runs", os.getpid(), started_at(os.getpid()))


@pytest.fixture
def ended(tmp_path: Path) -> Launch:
    """A launch whose driver has ended."""
    return _record(tmp_path / "runs", os.getpid(), "1")


def _summary(launch: Launch, state: str) -> None:
    content = {"state": state, "phase": "search", "done": 3, "budget": 6, "failed": 1, "running": 2, "best": {}}
    times = {"trial_hours": 0.25, "gpu_hours": 0.0, "host": "h", "started": 0.0, "updated": time.time(), "restarts": 1}
    RunDir(Path(launch.run)).path.mkdir(parents=True, exist_ok=True)
    content |= times | {"retrained": 0, "retrain_budget": 1, "reason": ""}
    RunDir(Path(launch.run)).summary.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("written", "shown"), [("running", "killed"), ("done", "done"), ("unfinished", "unfinished"), ("failed", "failed")]
)
def test_the_state_of_an_ended_driver(ended: Launch, call: Call, written: str, shown: str) -> None:
    """It is what the summary tells; a driver that ended while it says 'running' was killed."""
    _summary(ended, written)
    code, out, _ = call("launch", "status")
    assert code == 0
    assert out[0].startswith(f"tiny: {shown} (local, started 0 min ago, attempt 1)")
    assert "search   3/6 trials, 2 running, 1 failed, no result yet" in out


def test_another_driver_is_no_death(ended: Launch, call: Call) -> None:
    """Where a process of this machine holds the run it is not killed: somebody else drives it."""
    _summary(ended, "running")
    with driver_lock(RunDir(Path(ended.run))):
        assert call("launch", "status")[1][0].startswith("tiny: held: another driver works on the run (local")
    assert call("launch", "status")[1][0].startswith("tiny: killed")


def test_a_program_that_is_not_there(experiment: Path, call: Call, tmp_path: Path, launches: Path) -> None:
    """One line names it, and no launch is written down."""
    arguments = ("launch", "local", experiment, "--storage", tmp_path / "runs", "--set", "python=/no/python")
    assert "local.python: there is no program /no/python" in _refused(call(*arguments))
    assert not (launches / "tiny" / "launch.json").exists()


def test_no_summary_no_run(ended: Launch, call: Call) -> None:
    """A driver that ended before there was a run has failed, and nothing is shown of its progress."""
    code, out, _ = call("launch", "status", "tiny")
    assert code == 0
    assert out[0].startswith("tiny: failed")
    assert len(out) == 3


@pytest.mark.proof
def test_stopped_at_once(tmp_path: Path, experiment: Path, stopped: None) -> None:
    """A driver that is stopped before there is a run has not failed; ``resume`` does the whole of it."""
    assert run_command("launch", "local", experiment, "--storage", tmp_path / "runs").returncode == 0
    assert "stopped cleanly; nothing is lost" in run_command("launch", "stop").stdout
    assert _state_in(run_command("launch", "status").stdout) == "unfinished"
    assert "nothing is running" in run_command("launch", "stop").stdout
    assert run_command("launch", "resume").returncode == 0
    assert "Test accuracy" in run_command("launch", "logs", "-f").stdout
    assert _state_in(run_command("launch", "status").stdout) == "done"


def _refused(answer: tuple[int, list[str], list[str]]) -> str:
    code, _, errors = answer
    assert code == 2
    assert len(errors) == 1
    return errors[0]


def test_an_unknown_name_is_refused(ended: Launch, call: Call) -> None:
    """The launches that there are stand in the line."""
    for verb in ("status", "logs", "stop", "resume"):
        assert "no launch 'tine', did you mean 'tiny'?" in _refused(call("launch", verb, "tine"))


def test_nothing_launched(call: Call, launches: Path) -> None:
    """Without any launch the verbs say where they looked."""
    assert f"nothing has been launched yet (records lie in {launches})" in _refused(call("launch", "status"))


def test_a_living_launch_is_not_started_twice(living: Launch, experiment: Path, call: Call) -> None:
    """Neither by launching again nor by resuming."""
    again = call("launch", "local", experiment, "--storage", living.storage)
    for answer in (again, call("launch", "resume", "tiny")):
        assert "'tiny' is running: stop it first (cotuning-tune launch stop tiny)" in _refused(answer)
    assert find_launch("tiny").attempt == 1


def test_another_storage_needs_another_name(ended: Launch, experiment: Path, call: Call, tmp_path: Path) -> None:
    """A launch is found by its name: it lies in one place."""
    problem = _refused(call("launch", "local", experiment, "--storage", tmp_path / "else"))
    assert f"'tiny' was launched before by local into {ended.storage}: choose another name" in problem


def test_what_cannot_be_launched(experiment: Path, call: Call, tmp_path: Path) -> None:
    """A missing file, a broken file, no storage, objects without a database: a line each, nothing is started."""
    broken = tmp_path / "broken.toml"
    broken.write_text("[experiment\n")
    storage = ("--storage", tmp_path / "runs")
    assert "no.toml cannot be read" in _refused(call("launch", "local", "no.toml", *storage))
    assert "broken.toml" in _refused(call("launch", "local", broken, *storage))
    assert "launch needs --storage" in _refused(call("launch", "local", experiment))
    assert "name a database" in _refused(call("launch", "local", experiment, "--storage", "s3://bucket/runs"))
    assert not (tmp_path / "launches" / "tiny").exists()


def test_a_wrong_profile_names_its_line(experiment: Path, call: Call, tmp_path: Path) -> None:
    """An unknown key and a wrong type are named with file, line and what is possible."""
    profile = tmp_path / "mine.toml"
    arguments = ("launch", "local", experiment, "--storage", tmp_path / "runs", "--profile", profile)
    profile.write_text('python = ""\n\ncpu = 2\n')
    assert f"{profile} line 3: unknown key 'cpu' in [local]; did you mean 'cpus'?" in _refused(call(*arguments))
    profile.write_text('cpus = "two"\n')
    assert f"{profile} line 1: local.cpus = 'two': a whole number is needed" in _refused(call(*arguments))
    profile.write_text("x = " + "[" * 1000)
    assert f"{profile}: more than 32 arrays or tables in each other (at line 1)" in _refused(call(*arguments))
    profile.unlink()
    assert "cannot be read" in _refused(call(*arguments))


def test_dry_run_shows_the_command(experiment: Path, call: Call, launches: Path, tmp_path: Path) -> None:
    """The command is the same each time, holds no database URL, and nothing is written."""
    storage, url = tmp_path / "runs", "postgresql://u:secret@h/d"
    options = ("--storage", storage, "--optuna-storage", url, "--set", "cpus=2", "--set", "python=/opt/python")
    code, out, _ = call("launch", "local", experiment, *options, "--dry-run")
    entry = f"/opt/python -m cotuning_tune.cli.entry {experiment} --storage {storage} --name tiny --num-cpus 2"
    assert (code, out) == (0, ["# commands", entry])
    code, out, _ = call("launch", "local", experiment, *options, "--set", "gpus=[0, 'GPU-8f']", "--dry-run")
    assert (code, out) == (0, ["# commands", f"env CUDA_VISIBLE_DEVICES=0,GPU-8f {entry}"])
    code, out, _ = call("launch", "local", experiment, *options, "--concurrent", 3, "--dry-run")
    assert (code, out) == (0, ["# commands", entry.replace("--num-cpus", "--concurrent 3 --num-cpus")])
    assert "--concurrent 0: at least 1" in _refused(call("launch", "local", experiment, *options, "--concurrent", 0))
    assert not launches.exists()


def test_the_profile_file_says_what_the_profile_is() -> None:
    """``launch/profiles/local.toml`` shows every key with its default and meaning, and sets none."""
    path, profile = ROOT / "launch" / "profiles" / "local.toml", backend("local").Profile
    shown = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ") and " = " in line]
    assert "\n".join(shown) + "\n" == profile_text(profile)
    assert read_profile(profile, path, {}, "local") == profile()
