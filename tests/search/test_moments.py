"""Deaths, faults and take-overs at the moments where they would do harm: made, not waited for."""

import json
from pathlib import Path

import pytest

from cotuning_tune.base.files import create
from cotuning_tune.runs import ledger
from cotuning_tune.runs.folder import RunDir
from tests.moments import at, reached
from tests.search.conftest import call
from tests.search.kills import kill_all, start, wait_for

pytestmark = pytest.mark.proof

EXPERIMENT = """
[experiment]
validate = "each"
tasks = ["synthetic"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
trials = 1
selection = "max"
seeds = [0, 1]
[task]
size = 16
resize = 16
[data.synthetic]
images = 40
[resources]
state_every = 0
[train]
epochs = 2
batch_size = 8
"""
STUDY = "synthetic-1.00-fine_tune"


@pytest.fixture
def moment(tmp_path: Path) -> Path:
    return tmp_path / "moment"


@pytest.fixture
def asked(tmp_path: Path) -> list[object]:
    """The command of the run, without ``run`` or ``search``."""
    path = tmp_path / "tiny.toml"
    path.write_text(EXPERIMENT)
    return [path, "--storage", tmp_path / "runs", "--num-cpus", 1]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "runs" / "tiny")


def _results(run: RunDir) -> dict[int, dict[str, object]]:
    files = [run.study(STUDY).retrain(seed).result for seed in (0, 1)]
    return {seed: json.loads(file.read_text()) for seed, file in enumerate(files) if file.exists()}


def _tests(run: RunDir) -> int:
    return sum(entry.get("event") == "test_evaluation" for entry in ledger.read(run.ledger))


def test_a_worker_dies_as_the_test_split_is_open(
    asked: list[object], run: RunDir, moment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each opening has a line of its own, the repeated one too; the report says that there was one more."""
    for name, value in at(moment, "cotuning_tune.data._task:Task.open_test", "kill").items():
        monkeypatch.setenv(name, value)
    done = call("run", *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert reached(moment) == _tests(run) == 3
    assert [result["state"] for result in _results(run).values()] == ["COMPLETE"] * 2
    assert "WARNING: there are more test evaluations than models" in done.stdout


def test_a_driver_dies_between_a_result_and_its_study(
    asked: list[object], run: RunDir, moment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next driver tells the study; no epoch is trained again."""
    monkeypatch.setenv("COTUNING_TUNE_TRACE", str(tmp_path / "trace"))
    with monkeypatch.context() as patch:
        for name, value in at(moment, "cotuning_tune.search.study:OptunaStudy.end_as", "kill").items():
            patch.setenv(name, value)
        assert call("search", *asked).returncode == 9
    assert run.study(STUDY).trial(0).result.exists()
    assert run.study(STUDY).trial(0).state.exists()
    done = call("resume", run.path, "--num-cpus", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trial 0 had ended as its driver died" in done.stdout
    begun = [line for line in (tmp_path / "trace").read_text().splitlines() if line.startswith(f"begin {STUDY} 0000")]
    assert len(begun) == 2
    assert not run.study(STUDY).trial(0).state.exists()


def test_a_fault_in_one_seed_ends_that_seed(
    asked: list[object], run: RunDir, moment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a FAIL with its reason, the other seed is tested, the report is written; a resume takes it up again."""
    with monkeypatch.context() as patch:
        for name, value in at(moment, "cotuning_tune.training.seed:draw_confusion", "ValueError").items():
            patch.setenv(name, value)
        failed = call("run", *asked)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert "ValueError: made by the test ('resume' takes it up again)" in failed.stderr
    assert sorted(str(result["state"]) for result in _results(run).values()) == ["COMPLETE", "FAIL"]
    assert (run.report / "report.md").exists()
    assert json.loads(run.summary.read_text())["state"] == "failed"
    done = call("resume", run.path, "--num-cpus", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [result["state"] for result in _results(run).values()] == ["COMPLETE"] * 2
    assert _tests(run) == 2


def test_a_driver_that_is_replaced_while_it_retrains(
    asked: list[object], run: RunDir, moment: Path, tmp_path: Path
) -> None:
    """It ends with 85 and has written nothing since: neither a result nor a line of the ledger."""
    log = tmp_path / "log"
    driver = start("run", *asked, log=log, **at(moment, "cotuning_tune.training.seed:SeedJob._keep", "wait"))
    try:
        wait_for(lambda: reached(moment), driver, "a trained seed")
        create(run.drivers / "0099", b"{}")
        (moment / "go").touch()
        assert driver.wait(600) == 85, log.read_text()
    finally:
        kill_all(driver)
    assert "Traceback" not in log.read_text()
    assert "driver 99 owns" in log.read_text()
    assert (_results(run), run.ledger.exists()) == ({}, False)


def test_extended_while_it_retrains(asked: list[object], run: RunDir, moment: Path, tmp_path: Path) -> None:
    """The driver searches on when it has retrained, as ``extend`` has said; all is retrained that was chosen then."""
    log = tmp_path / "log"
    driver = start("run", *asked, log=log, **at(moment, "cotuning_tune.training.seed:SeedJob._keep", "wait"))
    try:
        wait_for(lambda: reached(moment), driver, "a trained seed")
        extended = call("extend", run.path, "--trials", 1)
        (moment / "go").touch()
        assert extended.returncode == 0, extended.stderr
        assert "takes them over" in extended.stdout
        assert driver.wait(600) == 0, log.read_text()
    finally:
        kill_all(driver)
    assert run.study(STUDY).trial(1).result.exists()
    chosen = json.loads(run.study(STUDY).selection.read_text())
    assert [result["config"] for result in _results(run).values()] == [chosen["config"]] * 2
