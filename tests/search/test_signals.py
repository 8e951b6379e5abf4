"""Signals that end a driver in order: Ctrl-C, a scheduler's warning, a termination."""

import signal
from pathlib import Path

import pytest

from cotuning_tune.runs.folder import RunDir
from tests.search.conftest import call
from tests.search.kills import actors, kill_all, start, summary, wait_for, write_experiment


@pytest.mark.proof
def test_a_signal_ends_in_order(tmp_path: Path, undisturbed: Path) -> None:
    """Code 85 and the lock given back; a part of a search selects and retrains nothing; resumed, all is the same."""
    path, log = tmp_path / "kills", tmp_path / "log"
    run = RunDir(path)
    arguments = ["run", write_experiment(tmp_path), "--storage", tmp_path]
    for count, number in enumerate((signal.SIGINT, signal.SIGTERM, signal.SIGUSR1), 1):
        before = len(list(path.glob("studies/*/trials/*/metrics.jsonl")))
        driver = start(*arguments, "--num-cpus", 2, log=log)
        try:

            def one_more(seen: int = before) -> bool:
                return len(list(path.glob("studies/*/trials/*/metrics.jsonl"))) > seen

            wait_for(one_more, driver, "another trial")
            workers = actors(driver.pid)
            driver.send_signal(number)
            assert driver.wait(600) == 85, log.read_text()
        finally:
            kill_all(driver)
        assert workers
        assert not run.lock.exists()
        assert log.read_text().count("nothing is lost, 'resume' continues") == count
        assert not list(path.glob("studies/*/selection.json")) + list(path.glob("studies/*/retrain"))
        assert not run.ledger.exists()
        arguments = ["resume", path]
    pickles = [file for file in (path / "ray").rglob("*") if file.suffix in (".pkl", ".pickle")]
    for file in pickles:  # what Tune has written is never read again
        file.write_bytes(f"cos\nsystem\n(S'touch {tmp_path}/harmed'\ntR.".encode())
    done = call("resume", path, "--num-cpus", 2)
    assert pickles
    assert not (tmp_path / "harmed").exists()
    assert done.returncode == 0, done.stdout + done.stderr
    assert summary(path) == summary(undisturbed)
