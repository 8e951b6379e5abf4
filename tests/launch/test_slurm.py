"""Launching on Slurm without one: the job's script with stand-ins for Slurm's commands and Ray; states; mistakes."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.launch import Launch, Request, backend
from cotuning_tune.launch.backends.slurm import SlurmProfile
from cotuning_tune.launch.profile import profile_text, read_profile
from cotuning_tune.launch.record import private_folder
from tests.launch.guides import ROOT, commands_of

URL = "postgresql://u:secret@h/d"
STANDINS = {
    "srun": 'while [ "$1" != bash ]; do shift; done; echo $$ >"$STANDINS/step"; exec "$@"',
    "hostname": "echo 127.0.0.1",
    "squeue": 'cat "$STANDINS/state"',
    "scontrol": 'echo "scontrol $*"',
    "scancel": 'kill "$(cat "$STANDINS/step")"',
    "python": f"""case "$2" in
        *.entry) exec {sys.executable} -S -c "$DRIVER" ;;
        *) exec {sys.executable} -S -c "$HEAD" ;;
        esac""",
}
HEAD = "import os, socket, time; s = socket.create_server(('127.0.0.1', int(os.environ['HEAD_PORT']))); time.sleep(60)"
WAITING = "import signal, sys, time\n{}\nprint('up', flush=True)\ntime.sleep(60)"
IN_ORDER = WAITING.format(
    "for n in (signal.SIGUSR1, signal.SIGTERM): signal.signal(n, lambda n, _: (print('got', n), sys.exit(85)))"
)
DEAF = WAITING.format("for n in (signal.SIGUSR1, signal.SIGTERM): signal.signal(n, signal.SIG_IGN)")
REQUEUED = "back to the queue\nscontrol requeue"
Call = Callable[..., tuple[int, list[str], list[str]]]


class Job:
    """The rendered job, run by bash on this machine."""

    def __init__(self, folder: Path, **profile: object) -> None:
        self.folder, self.bin, self.log = folder / "launch", folder / "bin", folder / "log"
        for path in (self.folder, self.bin):
            path.mkdir()
        for name, text in STANDINS.items():
            (self.bin / name).write_text(f"#!/bin/bash\n{text}\n")
            (self.bin / name).chmod(0o755)
        (self.bin / "state").write_text("RUNNING\n")
        filled = SlurmProfile(python=str(self.bin / "python"), scratch=str(folder), **profile)
        request = Request(folder / "tiny.toml", "tiny", str(folder / "runs"), URL, filled, self.folder)
        for name, text in backend("slurm").plan(request).files.items():
            (self.folder / name).write_text(text.replace("end_driver USR1 60", "end_driver USR1 1"))  # patience

    def said(self) -> str:
        """Its output so far."""
        return self.log.read_text()

    @contextmanager
    def started(self, driver: str, head: str = HEAD, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """The job, running; what it leaves is killed."""
        slurm = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "n0"}
        given = {"SLURMD_NODENAME": "n0", "STANDINS": str(self.bin), "DRIVER": driver, "HEAD": head}
        path = {"PATH": f"{self.bin}:{os.environ['PATH']}"}
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                ["bash", self.folder / "job.sbatch"],
                env={**os.environ, **slurm, **given, **path, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def run(self, driver: str, head: str = HEAD, **environment: str) -> int:
        """Its exit code."""
        with self.started(driver, head, **environment) as process:
            return process.wait(60)

    def run_with(self, number: int, driver: str) -> int:
        """Its exit code; it gets the signal when its driver is up."""
        with self.started(driver) as process:
            self.wait_for("up", process)
            process.send_signal(number)
            return process.wait(60)

    def wait_for(self, words: str, process: subprocess.Popen[bytes]) -> None:
        """Until it has said that."""
        while words not in self.said():
            assert process.poll() is None, self.said()
            time.sleep(0.05)


def test_a_job_that_is_done(tmp_path: Path) -> None:
    """It ends with 0; token and URL reach the driver by a 0600 file and the environment, and no token stays."""
    job = Job(tmp_path)
    (job.folder / "optuna_storage.url").write_text(URL)
    look = "import os; e = os.environ; p = e['RAY_AUTH_TOKEN_PATH']; print(e['RAY_AUTH_MODE'], len(open(p).read()))"
    look += "; print(oct(os.stat(p).st_mode)[-3:], e['COTUNING_TUNE_OPTUNA_STORAGE'])"
    assert job.run(look) == 0, job.said()
    assert f"token 64\n600 {URL}\n" in job.said()
    assert "requeue" not in job.said()
    assert sorted(path.name for path in job.folder.iterdir()) == [
        "attempts",
        "exit",
        "head.log",
        "job.sbatch",
        "node.sh",
        "optuna_storage.url",
    ]
    assert not list(tmp_path.glob("cotuning_tune-*"))
    assert (job.folder / "exit").read_text() == "0\n"


@pytest.mark.parametrize(
    ("code", "restarts", "back"), [(85, 0, True), (85, 3, False), (75, 0, False), (2, 0, False), (1, 0, False)]
)
def test_only_an_unfinished_job_goes_back(tmp_path: Path, code: int, restarts: int, back: bool) -> None:
    """With 85, and not more often than ``requeues``; a mistake and a failure end the job with their code."""
    job = Job(tmp_path, requeues=3)
    assert job.run(f"raise SystemExit({code})", SLURM_RESTART_COUNT=str(restarts)) == code
    assert (REQUEUED in job.said()) == back
    assert (job.folder / "exit").read_text() == f"{code}\n"


@pytest.mark.parametrize("driver", [IN_ORDER, DEAF, WAITING.format("")], ids=["in order", "deaf", "not yet listening"])
def test_the_warning_of_the_time_limit(tmp_path: Path, driver: str) -> None:
    """SIGUSR1 reaches the driver; in order, by its death or killed after a while: the job goes back with 85."""
    job = Job(tmp_path)
    assert job.run_with(signal.SIGUSR1, driver) == 85, job.said()
    assert REQUEUED in job.said()
    assert ("got 10" in job.said()) == (driver == IN_ORDER)


def test_a_stopped_job_stays_ended(tmp_path: Path) -> None:
    """SIGUSR2, as ``launch stop`` sends it, ends the driver by SIGTERM; the job does not go back."""
    job = Job(tmp_path)
    assert job.run_with(signal.SIGUSR2, IN_ORDER) == 85
    assert "got 15" in job.said()
    assert "requeue" not in job.said()


@pytest.mark.parametrize(("state", "back"), [("RUNNING", True), ("COMPLETING", False)])
def test_a_terminated_job(tmp_path: Path, state: str, back: bool) -> None:
    """SIGTERM ends it in order; one that is preempted goes back, one that is cancelled is left alone."""
    job = Job(tmp_path)
    (job.bin / "state").write_text(f"{state}\n")
    assert job.run_with(signal.SIGTERM, IN_ORDER) == 85
    assert (REQUEUED in job.said()) == back


def test_an_early_signal_is_remembered(tmp_path: Path) -> None:
    """It comes before Ray is up: no driver is started, the job goes back."""
    job = Job(tmp_path)
    with job.started("print('started')", head="import time; time.sleep(60)") as process:
        job.wait_for("start 1, on", process)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(60) == 85
    assert REQUEUED in job.said()
    assert "started" not in job.said()


def test_a_head_that_does_not_come_up(tmp_path: Path) -> None:
    """The job ends with 1 and shows what the head said."""
    job = Job(tmp_path)
    assert job.run("print('started')", head="raise SystemExit('no room here')") == 1
    assert "Ray's head has not come up:" in job.said()
    assert "no room here" in job.said()
    assert not list(job.folder.glob("token-*"))


def test_a_head_that_dies(tmp_path: Path) -> None:
    """The driver is told, and the job goes back."""
    job = Job(tmp_path)
    assert job.run(IN_ORDER, head=HEAD.replace("60", "2")) == 85
    assert "Ray's head has ended" in job.said()
    assert REQUEUED in job.said()


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """A launch with the job 7, and a stand-in for Slurm's commands that tells what it is asked."""
    monkeypatch.setenv("COTUNING_TUNE_LAUNCHES", str(tmp_path / "launches"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    made = Launch("tiny", "slurm", "tiny.toml", str(tmp_path / "runs"), {}, {"job": "7"}, started=time.time())
    private_folder(made.folder)
    made.save()
    return made


def _answer(folder: Path, name: str, output: str, error: str = "", code: int = 0) -> None:
    said = f"echo {name} $* >>{folder}/asked; printf %s {shlex.quote(output)}; printf %s {shlex.quote(error)} >&2"
    (folder / name).write_text(f"#!/bin/sh\n{said}; exit {code}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("said", "wrote", "state"),
    [
        ("PENDING BeginTime\n", "85\n", "queued (BeginTime)"),
        ("RUNNING None\n", "", "running (running, job 7)"),
        ("COMPLETING None\n", "0\n", "running (completing, job 7)"),
        ("", "0\n", "done"),
        ("", "85\n", "unfinished"),
        ("", "75\n", "held: another driver works on the run"),
        ("", "2\n", "failed"),
        ("", "", "ended"),
    ],
)
def test_the_state_of_a_job(launched: Launch, tmp_path: Path, said: str, wrote: str, state: str) -> None:
    """It is what Slurm says while it knows the job, then what the job wrote last."""
    _answer(tmp_path, "squeue", said)
    if wrote:
        (launched.folder / "exit").write_text(wrote)
    assert backend("slurm").state(launched) == state


def test_what_squeue_refuses(launched: Launch, tmp_path: Path) -> None:
    """A job that Slurm has forgotten has ended; a controller that does not answer is no end."""
    _answer(tmp_path, "squeue", "", "slurm_load_jobs error: Invalid job id specified\n", 1)
    assert backend("slurm").state(launched) == "ended"
    _answer(tmp_path, "squeue", "", "slurm_load_jobs error: Unable to contact slurm controller\n", 1)
    with pytest.raises(UserError, match="squeue refuses: slurm_load_jobs error: Unable to contact"):
        backend("slurm").state(launched)


def test_stopping(launched: Launch, tmp_path: Path) -> None:
    """A waiting job leaves the queue; an ended one is left alone."""
    _answer(tmp_path, "scancel", "")
    _answer(tmp_path, "squeue", "PENDING Resources\n")
    assert backend("slurm").stop(launched) == "taken from the queue; nothing is lost"
    assert (tmp_path / "asked").read_text().splitlines()[-1] == "scancel 7"
    _answer(tmp_path, "squeue", "")
    assert backend("slurm").stop(launched) == "nothing is running"


def test_launching(launched: Launch, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job's number is kept; a refusal of sbatch, and no Slurm at all, are a line each and 2."""
    experiment = tmp_path / "other.toml"
    experiment.write_text("[experiment]\n")
    arguments = ("launch", "slurm", experiment, "--storage", tmp_path / "runs", "--optuna-storage", URL)
    _answer(tmp_path, "sbatch", "", "sbatch: error: invalid partition specified: gpu\nmore\n", 1)
    assert call(*arguments)[::2] == (
        2,
        ["cotuning-tune: sbatch refuses: sbatch: error: invalid partition specified: gpu"],
    )
    _answer(tmp_path, "sbatch", "12;main\n")
    assert call(*arguments)[0] == 0
    assert '"job": "12"' in (launched.folder.parent / "other" / "launch.json").read_text()
    assert (tmp_path / "asked").read_text().splitlines()[
        -1
    ] == f"sbatch --parsable {launched.folder.parent}/other/job.sbatch"
    assert "secret" not in (launched.folder.parent / "other" / "job.sbatch").read_text()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    problem = "cotuning-tune: sbatch is not found: a machine that submits to Slurm is needed"
    assert call(*arguments, "--name", "third")[::2] == (2, [problem])


def test_what_cannot_be_launched(tmp_path: Path, call: Call) -> None:
    """A path that Slurm would misread, and values below their least, are a line each; nothing is asked of Slurm."""
    experiment = tmp_path / "tiny.toml"
    experiment.write_text("[experiment]\n")
    arguments = ("launch", "slurm", experiment, "--dry-run", "--storage")
    code, _, lines = call(*arguments, tmp_path / "100%")
    assert (code, len(lines)) == (2, 1)
    assert "percent signs" in lines[0]
    code, _, lines = call(*arguments, tmp_path, "--set", "nodes=0")
    assert (code, lines) == (2, ["cotuning-tune: slurm.nodes = 0: at least 1 is needed"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["minutes=1"], "a time limit of 1 min is not longer than the warning before it (120 s)"),
        (["minutes=2"], "a time limit of 2 min is not longer than the warning before it (120 s)"),
        (["minutes=10", "warning=600"], "a time limit of 10 min is not longer than the warning before it (600 s)"),
        (['options=["--mem=1G\\ntouch x"]'], "slurm.options: '--mem=1G\\ntouch x' is more than one line"),
        (['container="apptainer exec \'x"'], 'slurm.container = "apptainer exec \'x": no closing quotation'),
    ],
)
def test_a_profile_that_no_job_can_have(tmp_path: Path, call: Call, given: list[str], said: str) -> None:
    """A job that is warned as it starts would be requeued for ever; an option is one line of the script."""
    experiment = tmp_path / "tiny.toml"
    experiment.write_text("[experiment]\n")
    options = [word for pair in given for word in ("--set", pair)]
    code, out, (line,) = call("launch", "slurm", experiment, "--storage", tmp_path, "--dry-run", *options)
    assert (code, out) == (2, [])
    assert said in line
    assert call("launch", "slurm", experiment, "--storage", tmp_path, "--dry-run", "--set", "minutes=3")[0] == 0


def test_an_own_template(tmp_path: Path, call: Call) -> None:
    """A job script in the folder ``templates`` is used; an unknown place in it is named."""
    experiment, own = tmp_path / "tiny.toml", tmp_path / "slurm" / "job.sbatch"
    experiment.write_text("[experiment]\n")
    own.parent.mkdir()
    own.write_text("#!/bin/bash\n#SBATCH --nodes=@{nodes}\n")
    arguments = ("launch", "slurm", experiment, "--storage", tmp_path, "--set", f"templates={tmp_path}", "--dry-run")
    assert "#SBATCH --nodes=1" in call(*arguments)[1]
    own.write_text("@{node}\n")
    assert "no value for the template job.sbatch 'node', did you mean 'nodes'" in call(*arguments)[2][0]


def test_the_profile_file_says_what_the_profile_is() -> None:
    """``launch/profiles/slurm.toml`` shows every key with its default and meaning, and sets none."""
    path = ROOT / "launch" / "profiles" / "slurm.toml"
    shown = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ") and " = " in line]
    assert "\n".join(shown) + "\n" == profile_text(SlurmProfile)
    assert read_profile(SlurmProfile, path, {}, "slurm") == SlurmProfile()


def test_the_profile_of_the_guide_is_one(tmp_path: Path) -> None:
    """The profile that the guide shows can be read, and reaches the job."""
    block = (ROOT / "docs" / "launch-slurm.md").read_text().split("```toml\n")[1].split("```")[0]
    (tmp_path / "slurm.toml").write_text(block)
    profile = read_profile(SlurmProfile, tmp_path / "slurm.toml", {}, "slurm")
    request = Request(tmp_path / "tiny.toml", "tiny", "/shared/runs", "", profile, tmp_path)
    script = backend("slurm").plan(request).files["job.sbatch"]
    assert "#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=16\n" in script
    assert "#SBATCH --gres=gpu:4\n#SBATCH --partition=gpu\n#SBATCH --mem=64G\n" in script
    assert "\nmodule load cuda\n" in script


def test_the_example_of_a_site(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its experiment has no problem, its profile reaches the job's script; ``tests/hosts`` runs it on a real Slurm."""
    monkeypatch.chdir(ROOT / "examples" / "slurm_site")
    commands = commands_of("../examples/slurm_site/README.md", {"/shared/runs": str(tmp_path / "runs")})
    (check,) = [words for words in commands if words[0] == "check"]
    assert call(*check, "--no-probe")[0] == 0
    (dry,) = [words for words in commands if "--dry-run" in words]
    code, out, _ = call(*dry)
    wanted = "#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=8", "#SBATCH --partition=gpu", "module load cuda"
    assert code == 0
    assert [line for line in wanted if not any(line in shown for shown in out)] == []
    assert list(tmp_path.iterdir()) == []
