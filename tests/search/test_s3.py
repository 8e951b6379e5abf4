"""A run whose files are objects and whose studies are in a database: killed in the middle, restored from there."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cotuning_tune.base.files import place, read_json
from cotuning_tune.runs import ledger
from cotuning_tune.runs.folder import RunDir
from tests.search.conftest import call
from tests.search.kills import kill_all, start, summary, wait_for, write_experiment
from tests.servers import bucket, s3_server

pytestmark = pytest.mark.proof
RUN = "s3://runs/here/kills"


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDir]:
    """Everything killed after some epochs; then resumed with nothing but the bucket and the database."""
    folder = tmp_path_factory.mktemp("restored")
    with s3_server() as port, bucket(port, "runs"):
        options = ("--storage", "s3://runs/here", "--optuna-storage", f"sqlite:///{folder}/studies.db", "--num-cpus", 2)
        first = folder / "first"
        first.mkdir()
        driver = start("run", write_experiment(first), *options, log=folder / "log")
        run = RunDir(place(RUN))
        try:
            wait_for(lambda: list(run.path.glob("studies/*/trials/*/state.previous.pt")), driver, "a second epoch")
        finally:
            kill_all(driver)
        shutil.rmtree(first)
        done = call("resume", RUN, "--num-cpus", 2)
        assert done.returncode == 0, done.stdout + done.stderr + (folder / "log").read_text()
        yield run


def test_restored_from_objects_alone(restored: RunDir, undisturbed: Path) -> None:
    """Numbers, states, parameters, accuracies: those of a run in a folder that nobody disturbed, to the last bit."""
    assert summary(RUN) == summary(undisturbed)


def test_retrained_alike(restored: RunDir, undisturbed: Path) -> None:
    """Models and predictions are the same bytes, each test split was opened once, the ledger's chain holds."""
    for name in ("model.safetensors", "predictions.npz"):
        kept = sorted(path.relative_to(undisturbed) for path in undisturbed.glob(f"studies/*/retrain/*/{name}"))
        assert len(kept) == 4
        for path in kept:
            assert restored.path.joinpath(*path.parts).read_bytes() == (undisturbed / path).read_bytes()
    assert ledger.broken_lines(restored.ledger) == []
    assert sum(entry["event"] == "test_evaluation" for entry in ledger.read(restored.ledger)) == 4


def test_every_command_reads_objects(restored: RunDir) -> None:
    """Status and report work on the address of the run; neither states nor weights of trials are left."""
    shown = call("status", RUN)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("2/2") == 2
    assert f"no driver is running; to continue: cotuning-tune resume {RUN}" in shown.stdout
    assert call("report", RUN).returncode == 0
    assert (restored.report / "report.md").read_text().startswith("# kills")
    assert list(restored.path.rglob("*.pt")) == []


def test_the_summary_is_an_object_too(restored: RunDir) -> None:
    """Whoever reaches the bucket sees that the run is done, after one restart."""
    told = read_json(restored.summary)
    assert (told["state"], told["restarts"], told["retrained"], told["running"]) == ("done", 1, 4, 0)
    assert len(told["best"]) == 2
