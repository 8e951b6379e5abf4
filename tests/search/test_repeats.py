"""Two real searches of one experiment, killed between them and resumed: what they share, and what they do not."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import place, write_json
from cotuning_tune.cli import main
from cotuning_tune.experiment import SEARCH_SEED, Experiment, parse, read_experiment
from cotuning_tune.report import repeats as reported
from cotuning_tune.runs import ledger
from cotuning_tune.runs.budget import extend
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import driver_lock
from cotuning_tune.search.driver import create_run, load_experiment
from cotuning_tune.search.repeats import prepare_repeats, repeat_of, set_searches
from cotuning_tune.search.status import repeats_table
from cotuning_tune.search.storage import set_storage
from tests.search.conftest import call as call_outside
from tests.search.kills import kill_all, start, trials_of, wait_for
from tests.servers import bucket, s3_server

EXPERIMENT = """
[experiment]
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
backbone = "tiny_cnn"
trials = 3
seeds = [0, 1]
selection = "max"
[task]
size = 16
resize = 16
[data.synthetic]
images = 60
[train]
epochs = 1
batch_size = 16
[train.optim]
lr = { low = 1e-3, high = 1e-1, log = true }
"""
Call = Callable[..., tuple[int, list[str], list[str]]]


def write_experiment(folder: Path) -> Path:
    path = folder / "again.toml"
    path.write_text(EXPERIMENT)
    return path


def files_of(run: RunDir) -> dict[Path, int]:
    """When each result and the ledger of a run was written last."""
    kept = ("result.json", "test_ledger.jsonl")
    return {p: p.stat().st_mtime_ns for p in run.path.rglob("*.json*") if p.name in kept and "repeats" not in p.parts}


@dataclass(frozen=True)
class Resumed:
    """A run with one repeat, killed between both searches and resumed; ``status`` and files as they were in between."""

    run: RunDir
    status: str
    before: dict[Path, int]
    output: str


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    """Killed when the driver had turned to the second search, before its first trial."""
    folder = tmp_path_factory.mktemp("repeats")
    options = ("--storage", folder, "--num-cpus", 2, "--repeat-search", 2)
    driver, run = start("run", write_experiment(folder), *options), RunDir(folder / "again")
    try:
        wait_for(lambda: list(run.repeats_folder.glob("*/drivers/*")), driver, "the repeat")
    finally:
        kill_all(driver)
    before, status = files_of(run), StringIO()
    with redirect_stdout(status):
        assert main(["status", str(run.path)]) == 0
    done = call_outside("resume", run.path, "--num-cpus", 2)
    assert done.returncode == 0, done.stdout + done.stderr
    return Resumed(run, status.getvalue(), before, done.stdout)


def test_status_tells_of_the_repeat(resumed: Resumed, tmp_path: Path) -> None:
    """Between both drivers the first search is done and the second one is not; then both are done."""
    assert resumed.status.count("2/2 |") == 2
    assert re.search(r"\| 2 +\| +(not begun|\d+) +\|", resumed.status)
    run = RunDir(shutil.copytree(resumed.run.path, tmp_path / "before"))
    shutil.rmtree(run.repeats()[0].studies_folder)
    assert repeats_table(run).rows == [["2", "not begun", *["-"] * 6]]
    (row,) = repeats_table(resumed.run).rows
    assert row == ["2", str(SEARCH_SEED + 1), "6", "6", "0", "0", "0", "4/4"]


def test_the_first_search_is_not_done_again(resumed: Resumed) -> None:
    """The resume leaves every file of the first search as it was."""
    assert len(resumed.before) == 2 * (3 + 2) + 1
    assert files_of(resumed.run) == resumed.before


def test_each_search_is_whole(resumed: Resumed) -> None:
    """Studies, selections, retrained models and a ledger of its own; the same fixed points, other draws."""
    (repeat,) = resumed.run.repeats()
    assert (repeat.name, load_experiment(repeat).config.search_seed) == ("again-repeat2", SEARCH_SEED + 1)
    first, second = trials_of(resumed.run.path), trials_of(repeat.path)
    for study, fixed in (("synthetic-1.00-fine_tune", 1), ("synthetic-1.00-bss", 2)):
        one, two = ([t.params for t in trials[study]] for trials in (first, second))
        assert len(one) == len(two) == 3
        assert one[:fixed] == two[:fixed]
        assert all(a != b for a, b in zip(one[fixed:], two[fixed:], strict=True))
    for run in (resumed.run, repeat):
        assert [entry["event"] for entry in ledger.read(run.ledger)].count("test_evaluation") == 4
        assert len(list(run.path.glob("studies/*/retrain/*/model.safetensors"))) == 4


def test_the_summary_counts_both(resumed: Resumed) -> None:
    """The run's summary adds the repeat's figures to its own; the restart is that of the run's driver."""
    told = json.loads(resumed.run.summary.read_text())
    assert (told["state"], told["done"], told["budget"], told["retrained"]) == ("done", 12, 12, 8)
    assert told["restarts"] == 1
    assert sum(study.startswith("again-repeat2/") for study in told["best"]) == 2
    assert len(told["best"]) == 4


def test_searches_differ_in_seed_and_validation_split(resumed: Resumed) -> None:
    """The trainings of both searches differ in nothing else where their values are the same."""
    specs = [
        json.loads((run.study("synthetic-1.00-bss").trial(0).config).read_text())["specs"][0]
        for run in (resumed.run, *resumed.run.repeats())
    ]
    assert [spec.pop("seed") for spec in specs] == [SEARCH_SEED, SEARCH_SEED + 1]
    assert [spec["task_config"].pop("val_seed") for spec in specs] == [0, 1]
    assert specs[0] == specs[1]


def test_the_report_shows_both(resumed: Resumed) -> None:
    """The main table is the first search's, and the table of both searches has its figures and the second one's."""
    with (resumed.run.report / "repeats.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["fine_tune", "bss"]
    for row in rows:
        for number, run in ((1, resumed.run), (2, resumed.run.repeats()[0])):
            results = run.path.glob(f"studies/*-{row['method']}/retrain/*/result.json")
            found = [json.loads(path.read_text())["test_score"] for path in results]
            assert row[f"search {number}"] == f"{sum(found) / 2:.2f}"
    assert "The results of 2 searches" in resumed.output
    assert "Of the first of 2 searches, not of the best." in resumed.output
    assert "Over 2 searches there were 8 test evaluations for 8 retrained models: each search" in resumed.output
    assert "WARNING" not in resumed.output


def test_another_number_is_refused(resumed: Resumed, call: Call) -> None:
    """A run with two searches does not get a third one; nothing is written, no cluster started."""
    path, storage = resumed.run.path.parent / "again.toml", resumed.run.path.parent
    code, _, errors = call("run", path, "--storage", storage, "--repeat-search", 3)
    assert (code, len(errors)) == (2, 1)
    assert "has 2 searches, and what is asked (--repeat-search, --aim) needs 3" in errors[0]
    assert resumed.run.searches == 2


def test_searches_grow_together_or_not(resumed: Resumed, call: Call) -> None:
    """``extend`` is refused of a repeat alone, and while a driver works on the run."""
    (repeat,) = resumed.run.repeats()
    code, _, errors = call("extend", repeat.path, "--trials", 1)
    assert (code, len(errors)) == (2, 1)
    assert f"extend {resumed.run.path}" in errors[0]
    with driver_lock(resumed.run):
        code, _, errors = call("extend", resumed.run.path, "--trials", 1)
    assert (code, len(errors)) == (2, 1)
    assert "grow together" in errors[0]
    assert not resumed.run.budget.exists()


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_search(tmp_path: Path, call: Call, count: int) -> None:
    """K below 1 is one line, before anything is made."""
    arguments = (write_experiment(tmp_path), "--storage", tmp_path / "runs", "--repeat-search", count)
    code, _, errors = call("search", *arguments)
    assert (code, len(errors)) == (2, 1)
    assert "1 (no repeat) or more" in errors[0]
    assert not (tmp_path / "runs").exists()


def created(folder: Path, storage: Path) -> tuple[RunDir, Experiment]:
    path = write_experiment(folder)
    experiment = read_experiment(path)
    return create_run(experiment, storage, ["cotuning-tune"]), experiment


def test_prepared_alike_however_often(tmp_path: Path) -> None:
    """Three searches: seeds 100, 101, 102, the run's budget and storage of studies, read back the same."""
    run, experiment = created(tmp_path, tmp_path / "runs")
    set_searches(run, experiment, 3)
    set_storage(run, f"sqlite:///{tmp_path}/studies.db")
    extend(run, experiment.config.trials, 2)
    for _ in range(2):
        prepared = prepare_repeats(run, experiment)
        assert [repeat.path.name for repeat, _ in prepared] == ["again-repeat2", "again-repeat3"]
        for repeat, again in prepared:
            repeat.studies_folder.mkdir(exist_ok=True)
            assert load_experiment(repeat) == again
            assert repeat.optuna_storage_file.read_text() == f"sqlite:///{tmp_path}/studies.db"
            assert json.loads(repeat.budget.read_text())["trials"] == 5
            assert repeat.first_search == run
    assert [again.config.search_seed for _, again in prepared] == [101, 102]
    assert run.first_search is None


def test_a_renamed_run_keeps_its_repeats(tmp_path: Path) -> None:
    """Repeats are found by their number, under the name that their studies have."""
    run, experiment = created(tmp_path, tmp_path / "runs")
    set_searches(run, experiment, 2)
    prepare_repeats(run, experiment)
    moved = RunDir(run.path.rename(tmp_path / "moved"))
    assert [repeat.path for repeat in moved.repeats()] == [tmp_path / "moved" / "repeats" / "again-repeat2"]


def test_when_the_number_may_change(tmp_path: Path) -> None:
    """Freely before the first trial, once from none after it, which is written down; then no more."""
    run, experiment = created(tmp_path, tmp_path / "runs")
    set_searches(run, experiment, 3)
    set_searches(run, experiment, 2)
    assert (run.searches, json.loads(run.repeats_file.read_text())["after_tests"]) == (2, False)
    run.studies_folder.mkdir()
    set_searches(run, experiment)
    set_searches(run, experiment, 2)
    with pytest.raises(UserError, match=r"has 2 searches, and what is asked .* needs 1"):
        set_searches(run, experiment, 1)
    run.repeats_file.unlink()
    ledger.append(run.ledger, {"event": "test_evaluation"})
    set_searches(run, experiment, 2)
    assert (run.searches, json.loads(run.repeats_file.read_text())["after_tests"]) == (2, True)


@pytest.mark.parametrize(
    "text",
    [
        EXPERIMENT,
        EXPERIMENT.replace("trials = 3", "trials = 3\nsearch_seed = 100"),
        'experiment = { tasks = ["synthetic"], methods = ["bss"], backbone = "tiny_cnn" }\n',
        'experiment.tasks = ["synthetic"]\nexperiment.methods = ["bss"]\nexperiment.backbone = "tiny_cnn"\n',
    ],
)
def test_the_seed_of_a_repeat(tmp_path: Path, text: str) -> None:
    """A repeat differs in search seed and validation split, counted on from the file's own, however it is written."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    experiment = read_experiment(path)
    again = repeat_of(experiment, RunDir(tmp_path / "mine-repeat3"), 3)
    written = parse(again.text, "mine", tmp_path)
    assert written.config == replace(experiment.config, search_seed=SEARCH_SEED + 2)
    assert again.config == replace(written.config, name="mine-repeat3")
    assert (written.train, written.data) == (experiment.train, experiment.data)
    assert written.task == experiment.task | {"val_seed": 2}


def test_repeats_in_an_object_store(tmp_path: Path) -> None:
    """Repeats are made and found again below the run's address."""
    with s3_server() as port, bucket(port, "runs"):
        run, experiment = created(tmp_path, place("s3://runs/here"))
        assert (run.searches, run.repeats()) == (1, [])
        set_searches(run, experiment, 2)
        for _ in range(2):
            ((repeat, again),) = prepare_repeats(run, experiment)
            assert str(repeat.path) == "s3://runs/here/again/repeats/again-repeat2"
            assert load_experiment(repeat) == again
            write_json(repeat.study("synthetic-1.00-bss").trial(0).config, {})
        assert repeat.first_search == run


def test_the_report_knows_the_default_seed() -> None:
    """The report, which must not import the experiment, has the same default search seed."""
    assert reported.SEARCH_SEED == SEARCH_SEED
