"""A marked password: after whatever was done it stands in ``optuna_storage.url`` (0600) and nowhere else."""

import importlib
import os
import pkgutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import optuna
import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.cli._private import storage_url
from cotuning_tune.experiment import parse
from cotuning_tune.launch import Request, backend, dry_run, launch
from cotuning_tune.launch.backends.submit import SubmitBackend, _staged
from cotuning_tune.launch.verbs import request_of
from cotuning_tune.pipeline import NewRun
from cotuning_tune.pipeline.request import Request as RunRequest
from cotuning_tune.report.reproduce import environment_table
from cotuning_tune.search.searcher import StudyScheduler, StudySearcher
from cotuning_tune.search.storage import open_storage
from tests.launch import cases
from tests.moments import at, reached

ROOT = Path(__file__).parents[1]
MARK = "Geheim-4711"
URL = f"postgresql+psycopg://tuner:{MARK}@127.0.0.1:9/optuna"
CASES = [module.name for module in pkgutil.iter_modules(cases.__path__)]
TEXT = '[experiment]\ntasks = ["synthetic"]\nmethods = ["fine_tune"]\nbackbone = "tiny_cnn"\n'
Call = Callable[..., tuple[int, list[str], list[str]]]


def holders(folder: Path) -> dict[str, int]:
    """The files below a folder that hold the password, with their modes."""
    found = [path for path in folder.rglob("*") if path.is_file() and MARK.encode() in path.read_bytes()]
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in found}


@pytest.fixture
def launches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of launches; the working folder is the project's."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COTUNING_TUNE_LAUNCHES", str(tmp_path / "launches"))
    return tmp_path / "launches"


def asked(case: str, folder: Path) -> tuple[str, Request]:
    """The backend and the request of an accepted case, into ``folder``, with the marked URL."""
    module = importlib.import_module(f"tests.launch.cases.{case}")
    request: Request = replace(module.REQUEST, folder=folder / module.REQUEST.name, optuna_storage=URL)  # type: ignore[arg-type]
    return getattr(module, "BACKEND", case), request


def test_a_run_keeps_it_in_one_private_file(tmp_path: Path) -> None:
    """The command in env.json is masked; the error of a database that does not answer names host and user alone."""
    command = ("cotuning-tune", "run", "tiny.toml", "--optuna-storage", URL, f"--optuna-storage={URL}", "--nodes", "2")
    new = NewRun(storage=tmp_path / "runs", optuna_storage=URL, command=command)  # type: ignore[arg-type]
    assert MARK not in repr(new)
    run, _ = RunRequest(experiment=parse(TEXT, "tiny", tmp_path), run=new).opened()
    assert holders(tmp_path) == {"optuna_storage.url": 0o600}
    shown = read_json(run.environment)["command"]
    assert shown[4:6] == [masked := URL.replace(MARK, "***"), f"--optuna-storage={masked}"]
    with pytest.raises(UserError, match="cannot be opened") as problem:
        open_storage(run)
    assert MARK not in str(problem.value)


def test_a_report_masks_what_an_older_version_wrote(tmp_path: Path) -> None:
    """The table of the command shows no password, also where env.json has one."""
    write_json(tmp_path / "env.json", {"command": ["cotuning-tune", "run", "x.toml", "--optuna-storage", URL]})
    assert MARK not in environment_table(read_json(tmp_path / "env.json"), {"tasks": {}, "accepted": []}).markdown()


@pytest.mark.parametrize("url", [f"postgresql://u:x@{MARK}@h/db", f"postgresql://u:{MARK}:{MARK}@h/db", f"no{MARK}"])
def test_an_unreadable_url_is_refused_without_it(url: str, tmp_path: Path) -> None:
    """A URL that no reader understands is one line, and the line shows nothing of the password."""
    new = NewRun(storage=tmp_path / "runs", optuna_storage=url)  # type: ignore[arg-type]
    run, _ = RunRequest(experiment=parse(TEXT, "tiny", tmp_path), run=new).opened()
    with pytest.raises(UserError, match="cannot be opened") as problem:
        open_storage(run)
    assert MARK not in str(problem.value)


def test_a_mistyped_option_does_not_show_it(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """The line about an option that there is not masks the URL behind it."""
    with pytest.raises(SystemExit):
        call("run", "tiny.toml", f"--optuna_storage={URL}")
    said = capsys.readouterr().err
    assert "***" in said
    assert MARK not in said


@pytest.mark.parametrize("case", CASES)
def test_a_launch_keeps_it_in_one_private_file(case: str, launches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records, rendered files and commands of every backend, and what a resume reads of them."""
    name, request = asked(case, launches)
    kind = type(backend(name))
    monkeypatch.setattr(kind, "check", lambda *_: None)
    monkeypatch.setattr(kind, "start", lambda *_: {})
    made = launch(name, request)
    assert holders(launches) == {"optuna_storage.url": 0o600}
    assert stat.S_IMODE((request.folder / "launch.json").stat().st_mode) == 0o600
    assert MARK not in repr(made) + repr(request)
    assert request_of(made).optuna_storage.reveal() == URL


@pytest.mark.parametrize("case", CASES)
def test_a_dry_run_does_not_show_it(case: str, launches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be written and called, with a key in the environment of the profile too."""
    name, request = asked(case, launches)
    if isinstance(vars(request.profile).get("env"), tuple):
        request = replace(request, profile=replace(request.profile, env=(f"API_KEY={MARK}", "PLACE=here")))
    monkeypatch.setattr(type(backend(name)), "check", lambda *_: None)
    assert MARK not in dry_run(name, request)
    assert not launches.exists()


def test_a_submitted_job_carries_it_in_one_private_file(launches: Path) -> None:
    """Neither the job's command nor its environment has it, and its file is closed to others before it is read."""
    _, request = asked("submit", launches)
    request.folder.mkdir(parents=True)
    _staged(request)
    assert holders(launches) == {"optuna_storage.url": 0o600}
    (job,) = SubmitBackend().plan(request).files.values()
    assert MARK not in job
    assert '"entrypoint": "chmod 600 optuna_storage.url; ' in job


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # launches outlive the launcher
def test_a_launched_driver_has_it_in_its_environment_alone(
    launches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of processes shows arguments to every user of the machine: it is not among them."""
    seen = tmp_path / "seen"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ntr "\\0" " " </proc/$$/cmdline >{seen}.new; mv {seen}.new {seen}; env >{seen}.env\n')
    python.chmod(0o700)
    _, request = asked("slurm", launches)
    kind = backend("local")
    local = replace(request, profile=kind.Profile(python=str(python)))
    made = launch("local", local)
    with suppress(ChildProcessError):  # the next process that was started has asked for it before
        os.waitpid(made.facts["pid"], 0)
    assert "cotuning_tune.cli.entry" in seen.read_text()
    assert MARK not in seen.read_text()
    assert f"COTUNING_TUNE_OPTUNA_STORAGE={URL}" in Path(f"{seen}.env").read_text()
    assert holders(launches) == {"optuna_storage.url": 0o600}


def test_what_tune_pickles_does_not_hold_it(tmp_path: Path) -> None:
    """Tune writes its searcher and its scheduler into the run's folder: they leave the studies and their URL out."""
    searcher = StudySearcher.__new__(StudySearcher)
    url = f"sqlite:///file:{tmp_path}/x.db?uri=true&password={MARK}"
    searcher.studies = SimpleNamespace(storage=optuna.storages.RDBStorage(url))  # type: ignore[assignment]
    assert MARK.encode() in cloudpickle.dumps(searcher.studies)
    assert MARK.encode() not in cloudpickle.dumps([searcher, StudyScheduler(searcher)])


@pytest.mark.parametrize("written", [["--optuna-storage", URL], [f"--optuna-s={URL}"]])
def test_what_was_typed_leaves_the_list_of_processes(tmp_path: Path, written: list[str]) -> None:
    """The command has the URL in its environment, under the same process number, and still finds it there."""
    file = tmp_path / "tiny.toml"
    file.write_text(TEXT)
    moment = at(tmp_path / "moment", "cotuning_tune.pipeline.request:check_optuna_storage", "wait")
    asked = [sys.executable, "-m", "cotuning_tune.cli", "search", file, "--storage", tmp_path / "runs", *written]
    with subprocess.Popen([*map(str, asked)], env=os.environ | moment, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not reached(tmp_path / "moment"):
            time.sleep(0.05)
        listed = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.kill()
    assert b"$COTUNING_TUNE_OPTUNA_STORAGE" in listed
    assert MARK.encode() not in listed
    given = {"COTUNING_TUNE_OPTUNA_STORAGE": URL}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", given)
        assert storage_url("$COTUNING_TUNE_OPTUNA_STORAGE").reveal() == URL
    assert storage_url("sqlite:///a.db").reveal() == "sqlite:///a.db"
