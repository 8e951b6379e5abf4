"""Studies in a real PostgreSQL, and what optuna-dashboard says of them: there, and of a journal while it is written."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from cotuning_tune.experiment import parse
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.heads import kept_ledger_head
from cotuning_tune.search.storage import close, open_storage, set_storage
from cotuning_tune.search.study import Studies
from tests.moments import at, reached
from tests.search.conftest import call
from tests.search.ends import complete
from tests.search.kills import kill_all, start, summary, trials_of, wait_for, write_experiment
from tests.servers import free_port, postgresql_server, wait_for_answer

pytestmark = pytest.mark.proof


class Dashboard:
    """A running optuna-dashboard."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def trials(self) -> dict[str, list[tuple[Any, ...]]]:
        """Number, state, value, reports and parameters of each trial of each study."""
        found = {}
        for study in self.ask("/api/studies")["study_summaries"]:
            rows = self.ask(f"/api/studies/{study['study_id']}")["trials"]
            found[study["study_name"].split("/", 1)[1]] = [
                (
                    row["number"],
                    row["state"],
                    row.get("values"),
                    {item["step"]: item["value"] for item in row["intermediate_values"]},
                    sorted(item["name"] for item in row["params"]),
                )
                for row in rows
            ]
        return found


@contextmanager
def dashboard(storage: str | Path) -> Iterator[Dashboard]:
    """optuna-dashboard on a storage, as a user starts it."""
    port = free_port()
    program = str(Path(sys.executable).with_name("optuna-dashboard"))
    command = [program, str(storage), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_answer(f"http://127.0.0.1:{port}/api/studies", process)
            yield Dashboard(f"http://127.0.0.1:{port}")
        finally:
            process.kill()


def expected(run: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What a dashboard should show, from the studies themselves."""
    return {
        name: [
            (
                t.number,
                {TrialState.COMPLETE: "Complete", TrialState.FAIL: "Fail", TrialState.RUNNING: "Running"}[t.state],
                None if t.value is None else [t.value],
                dict(t.intermediate_values),
                sorted(t.params),
            )
            for t in trials
        ]
        for name, trials in trials_of(run).items()
    }


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A search with its studies in PostgreSQL, killed after two results, and resumed."""
    folder = tmp_path_factory.mktemp("database")
    with postgresql_server() as url:
        run = folder / "kills"
        options = ("--storage", folder, "--optuna-storage", url, "--num-cpus", 2)
        driver = start("search", write_experiment(folder), *options, log=folder / "log")
        try:
            wait_for(lambda: len(list(run.glob("studies/*/trials/*/result.json"))) >= 2, driver, "two results")
        finally:
            kill_all(driver)
        done = call("resume", run, "--num-cpus", 2)
        assert done.returncode == 0, done.stdout + done.stderr
        yield run, url


def test_a_database_resumes_exactly(killed: tuple[Path, str], undisturbed: Path) -> None:
    """The studies in PostgreSQL equal those in the journal of a run that nobody disturbed."""
    assert summary(killed[0]) == summary(undisturbed)
    assert not (killed[0] / "optuna.journal").exists()


def test_the_dashboard_on_postgresql(killed: tuple[Path, str]) -> None:
    """optuna-dashboard shows every trial of every study as the studies have it, failures too."""
    with dashboard(killed[1]) as board:
        shown = board.trials()
    assert shown == expected(killed[0])
    assert {row[1] for rows in shown.values() for row in rows} == {"Complete", "Fail"}


def test_the_dashboard_on_a_live_journal(tmp_path: Path) -> None:
    """optuna-dashboard reads the journal while a driver writes it, running trials too."""
    run = tmp_path / "kills"
    endless = write_experiment(tmp_path, trials=1000)
    driver = start("search", endless, "--storage", tmp_path, "--num-cpus", 2)
    try:
        wait_for((run / "optuna.journal").exists, driver, "a journal")
        with dashboard(run / "optuna.journal") as board:

            def states() -> set[str]:
                return {row[1] for rows in board.trials().values() for row in rows}

            wait_for(lambda: {"Complete", "Running"} <= states(), driver, "a result beside a running trial")
            kill_all(driver)
            assert states() <= {"Complete", "Running", "Fail"}
            wait_for(lambda: board.trials() == expected(run), None, "all that has been written")
    finally:
        kill_all(driver)


def test_a_database_that_is_restarted_under_load(tmp_path: Path, undisturbed: Path) -> None:
    """Stopped in the middle of a search and of its retraining: it pauses, says so, and ends as if nothing had been."""
    run, log, moment = tmp_path / "kills", tmp_path / "log", tmp_path / "moment"
    with postgresql_server() as database:
        options = ("--storage", tmp_path, "--optuna-storage", database, "--num-cpus", 2)
        here = at(moment, "cotuning_tune.training.seed:SeedJob._keep", "wait")
        driver = start("run", write_experiment(tmp_path), *options, log=log, **here)
        try:
            wait_for(lambda: list(run.glob("studies/*/trials/*/result.json")), driver, "a result")
            database.stop()
            wait_for(lambda: "paused: the storage of the studies" in log.read_text(), driver, "the pause")
            database.start()
            wait_for(lambda: reached(moment), driver, "a seed to test")
            database.stop()
            (moment / "go").touch()
            wait_for(lambda: log.read_text().count("paused: the storage of the studies") == 2, driver, "the pause")
            database.start()
            assert driver.wait(600) == 0, log.read_text()
        finally:
            kill_all(driver)
        assert "Traceback" not in log.read_text()
        assert summary(run) == summary(undisturbed)
        head = kept_ledger_head(RunDir(run))
        assert head is not None
        assert head["lines"] == len((run / "test_ledger.jsonl").read_text().splitlines())


def test_what_a_trial_costs_the_database(tmp_path: Path) -> None:
    """The statements of a further trial of one report, however many trials there are."""
    text = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
trials = {trials}
sampler = "random"
"""
    with postgresql_server(options="-c log_statement=all") as database:

        def statements() -> int:
            return sum("execute" in line or "statement:" in line for line in database.log.read_text().splitlines())

        costs = []
        for trials in (10, 30):
            before = statements()
            run = RunDir(tmp_path / str(trials))
            set_storage(run, database)
            storage = open_storage(run)
            studies = Studies(parse(text.format(trials=trials), str(trials)), storage)
            study = next(iter(studies.by_name.values()))
            while study.open:
                issue = study.issue()
                study.report(issue.number, [{"epoch": 1, "val_score": 40.0}])
                complete(study, issue.number, 40.0, seconds=1.0)
            costs.append(statements() - before)
            close(storage)
        assert (costs[1] - costs[0]) / 20 <= 40, costs
