"""The traps of gluing Ray Tune to Optuna, each with a test that keeps it shut.

Not here, for they do not apply: 13 (shares of a GPU are what the user gives, there is no automatic share),
15 (nothing is submitted as a Ray job), 19 (no cluster with a token is started).
"""

import json
import pickle
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import optuna
import pytest

from cotuning_tune.experiment import Study, parse
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.search.space import distributions
from cotuning_tune.search.storage import open_storage
from cotuning_tune.search.study import Studies
from cotuning_tune.training import TrainingJob
from tests.search.ends import fail

ROOT = Path(__file__).parents[2]
TEXT = '[experiment]\ntasks = ["synthetic"]\nmethods = ["bss"]\nbackbone = "tiny_cnn"\ntrials = 4\nsampler = "random"\n'
Tiny = tuple[Path, str]


def sources() -> str:
    """The code of the package, without comments and docstrings."""
    texts = [path.read_text() for path in (ROOT / "cotuning_tune").rglob("*.py")]
    return "\n".join(re.sub(r'""".*?"""|#[^\n]*', "", text, flags=re.DOTALL) for text in texts)


def trials_of(run: Path) -> list[optuna.trial.FrozenTrial]:
    storage = open_storage(RunDir(run))
    names = optuna.get_all_study_names(storage)
    return [t for name in names for t in optuna.load_study(study_name=name, storage=storage).trials]


def test_trap_01_02_03_tune_remembers_nothing() -> None:
    """No restore and no snapshot of Tune's: what they lose cannot be lost (resumes: test_resume)."""
    assert not re.search(r"Tuner\.restore|tune\.restore|experiment_state", sources())


def test_trap_04_rungs_live_in_the_study() -> None:
    """No scheduler of Tune's with a memory of its own is used (decisions: test_stopping)."""
    assert not re.search(r"ASHAScheduler|AsyncHyperBand|MedianStoppingRule|HyperBandFor", sources())


@pytest.mark.parametrize(("epoch", "value"), [("best", 60.0), ("last", 50.0)])
def test_trap_05_the_value_is_that_of_the_kept_epoch(tiny_run: Tiny, epoch: str, value: float) -> None:
    """A training reports the epoch that ``train.epoch`` keeps, by default the last: the value of every trial."""
    text = TEXT + f'[train]\nepoch = "{epoch}"\n'
    job = TrainingJob(parse(text, "kept").spec(Study("synthetic", 1.0, "bss"), {}, 0))
    job.history = [{"epoch": n, "val_score": found} for n, found in enumerate((40.0, 60.0, 50.0), 1)]
    assert job.kept is not None
    assert job.kept["val_score"] == value
    assert all(t.value == t.intermediate_values[3] for t in trials_of(tiny_run[0]))


def test_trap_06_nan_is_told_fail(tmp_path: Path) -> None:
    """A failed trial is FAIL, not RUNNING for ever."""
    study = Studies(parse(TEXT, "nan"), open_storage(RunDir(tmp_path))).by_name["synthetic-1.00-bss"]
    fail(study, study.issue().number, "not finite")
    assert study.trials()[0].state == optuna.trial.TrialState.FAIL


def test_trap_07_first_points_are_queued_once(tmp_path: Path) -> None:
    """Starting five drivers queues the first points once; their nested keys arrive in the trial."""
    for _ in range(5):
        studies = Studies(parse(TEXT, "points"), open_storage(RunDir(tmp_path)))
    study = studies.by_name["synthetic-1.00-bss"]
    issues = [study.issue() for _ in range(4)]
    assert len(study.trials()) == 4
    assert [i.values for i in issues[:2]] == [{**first.values, **first.off} for first in study.firsts]
    assert issues[0].values["optim/lr"] == 1e-3
    assert issues[2].values not in [i.values for i in issues[:2]]


def test_trap_08_experiments_do_not_share_studies(tmp_path: Path) -> None:
    """Two experiments in one storage have studies of their own, named after them."""
    storage = open_storage(RunDir(tmp_path))
    for name in ("one", "two"):
        Studies(parse(TEXT, name), storage)
    assert sorted(optuna.get_all_study_names(storage)) == ["one/synthetic-1.00-bss", "two/synthetic-1.00-bss"]


def test_trap_09_a_fresh_driver_repeats_no_draw(tmp_path: Path) -> None:
    """Each trial asked for by a driver of its own: all draws differ (each sampler: test_samplers)."""
    drawn = []
    for _ in range(6):
        text = TEXT.replace("trials = 4", "trials = 6")
        issue = Studies(parse(text, "draws"), open_storage(RunDir(tmp_path))).by_name["synthetic-1.00-bss"]
        issue.orphans.clear()
        drawn.append(str(issue.issue().values))
    assert len(set(drawn)) == 6


def test_trap_10_spaces_are_plain_data() -> None:
    """The space is static distributions that pickle, no closure."""
    space = distributions(parse(TEXT, "space").space("bss"))
    assert pickle.loads(pickle.dumps(space)) == space


def test_trap_11_trials_run_side_by_side(tmp_path: Path) -> None:
    """Several suggestions are pending at a time: as many as run at a time."""
    studies = Studies(parse(TEXT, "pending"), open_storage(RunDir(tmp_path)))
    assert [studies.next() is not None for _ in range(5)] == [True] * 4 + [False]
    assert not studies.finished


def test_trap_11_a_run_runs_two_at_a_time(tiny_run: Tiny) -> None:
    """In a run on two cores some trials overlap in time."""
    spans = [(t.datetime_start, t.datetime_complete) for t in trials_of(tiny_run[0])]
    assert any(a[0] < b[1] and b[0] < a[1] for a, b in combinations(spans, 2))  # type: ignore[operator]


def test_trap_12_lost_trials_are_issued_again() -> None:
    """Tune's own retries are off: a lost trial comes back through its study (impossible requests: test_refusals)."""
    assert "max_failures=0" in sources()


def test_trap_14_no_checkpoint_is_left(tiny_run: Tiny) -> None:
    """Ended trials leave no state behind, and Tune's folder stays small."""
    assert list(tiny_run[0].glob("studies/*/trials/**/*.pt")) == []
    assert sum(p.stat().st_size for p in (tiny_run[0] / "ray").rglob("*") if p.is_file()) < 2_000_000


def test_trap_17_no_tensor_goes_through_the_object_store() -> None:
    """Data reaches workers through memory-mapped files, never through ray.put."""
    assert not re.search(r"ray\.put\(|with_parameters", sources())


def test_trap_18_workers_get_absolute_paths(tiny_run: Tiny) -> None:
    """The data folder of an experiment is absolute in what a worker is given, whatever its working directory."""
    text = TEXT.replace('"synthetic"', '"mine"') + '[data.mine]\nformat = "image_folder"\nroot = "pictures"\n'
    experiment = parse(text, "paths", Path("relative"))
    assert Path(experiment.data["mine"]["root"]).is_absolute()
    assert tiny_run[0].is_absolute()


def test_trap_20_nobody_calls_ray_stop() -> None:
    """``ray stop`` kills every Ray of the machine: not in the package, nor in scripts and tests."""
    here = Path(__file__)
    files = [p for folder in ("cotuning_tune", "tests", "scripts") for p in (ROOT / folder).rglob("*.py") if p != here]
    files += [ROOT / "Makefile", ROOT / ".ci" / "run", *(ROOT / "scripts").glob("*.sh")]
    assert not [path for path in files if re.search(r"ray\W+stop\b", path.read_text())]


def test_trap_21_the_last_report_reaches_the_study(tiny_run: Tiny) -> None:
    """Every epoch stands in the study, the last one too."""
    assert all(sorted(t.intermediate_values) == [1, 2, 3] for t in trials_of(tiny_run[0]))


def test_trap_22_only_the_driver_writes_studies() -> None:
    """What a worker loads does not even import Optuna."""
    script = "import sys, cotuning_tune.cluster.trainable; print('optuna' in sys.modules)"
    shown = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["search", "retrain"])
def test_trap_16_every_session_has_its_method(tiny_run: Tiny, name: str) -> None:
    """Event files exist for every trial and seed (columns, status and best values: test_tensorboard)."""
    found = list((tiny_run[0] / "tensorboard" / name).glob("*/*/events.out.tfevents.*"))
    results = "trials/*/result.json" if name == "search" else "retrain/*/result.json"
    assert len(found) == len(list(tiny_run[0].glob(f"studies/*/{results}")))
    assert json.loads(next(tiny_run[0].glob(f"studies/*/{results}")).read_text())["state"] == "COMPLETE"
