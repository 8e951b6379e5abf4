"""A whole run of the tiny experiment through Ray: what it leaves behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from safetensors.torch import save

from cotuning_tune.base.errors import Fenced
from cotuning_tune.report.audit import audit_remarks, audit_studies
from cotuning_tune.report.results import read_studies
from cotuning_tune.retrain import Retraining, _discard_other_configuration
from cotuning_tune.runs import ledger, records
from cotuning_tune.runs.folder import RunDir, StudyDir, TrialDir
from cotuning_tune.runs.identity import studies_prefix
from cotuning_tune.runs.predictions import Predictions, file_hash
from cotuning_tune.search.rows import CONFIRMS
from cotuning_tune.search.storage import open_storage
from cotuning_tune.training import TrainingSpec
from cotuning_tune.training.job import make_trainer
from cotuning_tune.training.seed import SeedJob

CELLS = [f"synthetic-1.00-{method}" for method in ("fine_tune", "bss", "co_tuning")]
Tiny = tuple[Path, str]


def load(run: Path, study: str) -> optuna.Study:
    """The study of a study, from the run's journal."""
    return optuna.load_study(study_name=f"{prefix(run)}/{study}", storage=open_storage(RunDir(run)))


def prefix(run: Path) -> str:
    """What the names of the run's studies begin with."""
    return studies_prefix(RunDir(run))


def test_there_is_one_study_a_study(tiny_run: Tiny) -> None:
    """The journal holds one study a study and no other."""
    names = optuna.get_all_study_names(open_storage(RunDir(tiny_run[0])))
    assert sorted(names) == sorted(f"{prefix(tiny_run[0])}/{study}" for study in CELLS)
    assert prefix(tiny_run[0]).startswith("tiny-")


@pytest.mark.parametrize("study", CELLS)
def test_each_study_has_the_asked_trials(tiny_run: Tiny, study: str) -> None:
    """The asked number of trials, then three that confirm; all COMPLETE, the last epoch's accuracy as value."""
    trials = load(tiny_run[0], study).trials
    assert [t.number for t in trials if CONFIRMS not in t.user_attrs] == [0, 1, 2, 3]
    best = sorted(trials[:4], key=lambda t: (-t.value, t.number))
    assert [t.user_attrs[CONFIRMS] for t in trials[4:]] == [t.number for t in best[:3]]
    for trial in trials:
        assert trial.state == optuna.trial.TrialState.COMPLETE
        assert sorted(trial.intermediate_values) == [1, 2, 3]
        assert trial.value == trial.intermediate_values[3]


def test_first_points_are_defaults_and_off(tiny_run: Tiny) -> None:
    """Trial 0 is the published default, trial 1 the same with the method off, which Optuna has at its range's end."""
    first = load(tiny_run[0], "synthetic-1.00-co_tuning").trials[:2]
    published = {"optim/lr": 1e-3, "optim/head_lr_factor": 10.0, "co_tuning/weight": 2.3}
    assert {key: first[0].params[key] for key in published} == published
    low = first[1].distributions["co_tuning/weight"].low  # type: ignore[attr-defined]
    assert first[1].params == {**first[0].params, "co_tuning/weight": low}
    folder = RunDir(tiny_run[0]).study("synthetic-1.00-co_tuning")
    rows = json.loads(folder.summary.read_text())["trials"]
    assert rows[1]["values"] == {**first[0].params, "co_tuning/weight": 0.0}
    assert [row["fixed"] for row in rows] == ["published", "off", "", ""]
    assert json.loads(folder.trial(1).config.read_text())["specs"][0]["method_config"]["weight"] == 0.0


def test_trial_folders_say_what_the_study_says(tiny_run: Tiny) -> None:
    """``result.json`` and ``metrics.jsonl`` agree with the study; no state of a finished trial is left."""
    run = RunDir(tiny_run[0])
    for study in CELLS:
        for trial in load(tiny_run[0], study).trials:
            folder = run.study(study).trial(trial.number)
            rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
            assert {row["epoch"]: row["val_score"] for row in rows} == trial.intermediate_values
            assert json.loads(folder.result.read_text())["value"] == trial.value
            assert not folder.state.exists()


def test_selection_is_the_best_of_validation(tiny_run: Tiny) -> None:
    """The selection has the highest mean of two splits; the search left no file that names a test accuracy."""
    run = RunDir(tiny_run[0])
    for study in CELLS:
        selection = json.loads(run.study(study).selection.read_text())
        trials = load(tiny_run[0], study).trials
        pairs = {t.user_attrs[CONFIRMS]: (trials[t.user_attrs[CONFIRMS]].value, t.value) for t in trials[4:]}
        assert tuple(selection["val_scores"]) == pairs[selection["trial"]]
        assert selection["val_score"] == max(sum(pair) / 2 for pair in pairs.values())
    searched = [p for p in (run.path / "studies").rglob("*.json*") if "retrain" not in p.parts]
    assert searched
    assert not [p for p in searched if '"test_score"' in p.read_text()]


def test_the_audit_finds_no_fault(tiny_run: Tiny) -> None:
    """Hashes of study, selection, configurations and results, as search and retraining write them, all fit."""
    run = RunDir(tiny_run[0])
    studies = read_studies(run)
    audits = audit_studies(run, studies)
    assert [(audit.evaluations, audit.needed, audit.problems) for audit in audits] == [(3, 3, [])] * 3
    (line,) = audit_remarks(run, studies, audits)
    assert line.startswith("Audit: 9 test evaluations for 9 retrained models")
    assert line.endswith("fit together, no edit was found.")


def test_each_seed_has_one_test_evaluation(tiny_run: Tiny) -> None:
    """One opening and one result line a study and seed, in an unbroken chain."""
    run = RunDir(tiny_run[0])
    assert ledger.broken_lines(run.ledger) == []
    entries = ledger.read(run.ledger)
    for event in ("test_evaluation", "result"):
        found = sorted((e["study"], e["seed"]) for e in entries if e["event"] == event)
        assert found == sorted((study, seed) for study in CELLS for seed in (0, 1, 2))


def test_seeds_differ_and_models_are_kept(tiny_run: Tiny) -> None:
    """Each seed is a training of its own, its model kept as safetensors."""
    folders = [RunDir(tiny_run[0]).study(CELLS[0]).retrain(seed) for seed in (0, 1, 2)]
    losses = {json.loads(f.result.read_text())["test_loss"] for f in folders}
    assert len(losses) == 3
    assert all(f.model.stat().st_size > 10_000 for f in folders)


def test_the_result_says_how_it_was_tested(tiny_run: Tiny) -> None:
    """A retraining's result names the crops, and gives the mean of the classes' accuracies beside the plain one."""
    result = json.loads(RunDir(tiny_run[0]).study(CELLS[0]).retrain(0).result.read_text())
    assert result["test_crops"] == "centre"
    assert 0 <= result["test_mean_class_accuracy"] <= 100
    assert result["test_mean_class_accuracy"] == pytest.approx(result["test_score"])  # classes of equal size


def test_predictions_are_those_of_the_result(tiny_run: Tiny) -> None:
    """Each seed keeps what it said of each test image: the result's figures follow, and its hash is the file's."""
    run, orders = RunDir(tiny_run[0]), set()
    for folder in (run.study(study).retrain(seed) for study in CELLS for seed in (0, 1, 2)):
        data, result = folder.predictions.read_bytes(), json.loads(folder.result.read_text())
        assert result["predictions"] == file_hash(data)
        found = Predictions.unpacked(data)
        right_N, classes = found.predicted_N == found.labels_N, range(len(found.classes))
        assert len(right_N) == result["test_count"]
        assert 100 * right_N.mean() == pytest.approx(result["test_score"])
        shares = [right_N[found.labels_N == label].mean() for label in classes]
        assert 100 * sum(shares) / len(shares) == pytest.approx(result["test_mean_class_accuracy"])
        assert found.nll_N.mean() == pytest.approx(result["test_loss"])
        assert found.confidence_N[right_N] == pytest.approx(np.exp(-found.nll_N[right_N]), rel=1e-5)
        orders.add((found.order, tuple(found.labels_N), found.classes))
    assert len(orders) == 1


def test_predictions_of_an_earlier_selection_are_removed(tiny_run: Tiny, tmp_path: Path) -> None:
    """A retraining whose configuration is another one than the folder's starts afresh, predictions and all."""
    study = StudyDir(Path(shutil.copytree(RunDir(tiny_run[0]).study(CELLS[0]).path, tmp_path / CELLS[0])))
    selection = json.loads(study.selection.read_text())
    work = Retraining(study, 0, selection)
    _discard_other_configuration(work)
    assert work.folder.predictions.exists()
    selection["spec"]["rate"] = 0.5
    _discard_other_configuration(Retraining(study, 0, selection))
    assert [path.name for path in work.folder.path.iterdir()] == ["config.json"]


def test_an_older_drivers_worker_keeps_nothing(tmp_path: Path) -> None:
    """A worker whose driver has been followed by another one does not write predictions."""
    sizes = {"size": 12, "resize": 16}
    spec = TrainingSpec(task="synthetic", rate=1.0, method="fine_tune", backbone="tiny_cnn", seed=0, task_config=sizes)
    run, folder = RunDir(tmp_path), TrialDir(tmp_path / "seed0")
    folder.path.mkdir()
    folder.model.write_bytes(save({k: v.contiguous() for k, v in make_trainer(spec).model.state_dict().items()}))
    run.experiment_file.touch()
    older, newer = run.raise_incarnation(), run.raise_incarnation()

    def tested(number: int) -> records.Tested:
        job = SeedJob(spec, folder, "centre", may_write=lambda size: run.check_writable(number, size))
        return job._test()

    with pytest.raises(Fenced):
        tested(older)
    assert not folder.predictions.exists()
    found = tested(newer)
    assert found["predictions"] == file_hash(folder.predictions.read_bytes())


def test_pictures_of_a_driver_that_was_followed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a while: a worker whose driver has a successor by then, or whose run was renamed, writes none."""
    sizes = {"size": 12, "resize": 16, "train_on": "train"}
    spec = TrainingSpec(task="synthetic", rate=1.0, method="fine_tune", backbone="tiny_cnn", seed=0, task_config=sizes)
    run, folder = RunDir(tmp_path / "run"), TrialDir(tmp_path / "run" / "seed0")
    folder.path.mkdir(parents=True)
    run.experiment_file.touch()
    number = run.raise_incarnation()
    job = SeedJob(spec, folder, "centre", may_write=lambda size: run.check_writable(number, size))
    monkeypatch.setattr(job.job, "load_best", lambda: None)

    def draw() -> dict[str, bytes]:
        run.raise_incarnation()
        return {"validation/confusion": b"picture"}

    monkeypatch.setattr(job, "_pictures", draw)
    with pytest.raises(Fenced):
        job._keep()
    assert folder.model.exists()
    assert not folder.picture("validation/confusion").exists()


def test_tested_on_ten_crops(tmp_path: Path) -> None:
    """With ten crops a retraining's result is what the trainer finds on the ten crops of the test split."""
    sizes = {"size": 12, "resize": 16}
    spec = TrainingSpec(task="synthetic", rate=1.0, method="fine_tune", backbone="tiny_cnn", seed=0, task_config=sizes)
    trainer = make_trainer(spec)
    expected = trainer.evaluate(trainer.task.open_test(), "ten")
    (tmp_path / "model.safetensors").write_bytes(
        save({k: v.contiguous() for k, v in trainer.model.state_dict().items()})
    )
    found, centre = (SeedJob(spec, TrialDir(tmp_path), crops)._test() for crops in ("ten", "centre"))
    assert (found["test_crops"], found["test_score"]) == ("ten", expected.value)
    assert found["test_loss"] == expected.loss
    assert found["test_loss"] != centre["test_loss"]


def test_output_ends_in_tables(tiny_run: Tiny) -> None:
    """The terminal shows all methods with mean and deviation, equal budgets, and where the report is."""
    path, output = tiny_run
    for method in ("fine_tune", "bss", "co_tuning"):
        assert f"| {method} " in output
    assert output.count(" ± ") >= 3
    assert "Equal terms: every study had 4 trials of 3 epochs" in output
    assert str(path / "report" / "report.md") in output
    assert "Traceback" not in output


def test_journal_opens_with_plain_optuna(tiny_run: Tiny) -> None:
    """A user's own script reads the run with Optuna alone."""
    script = (
        "import sys, optuna\n"
        "from optuna.storages import JournalStorage\n"
        "from optuna.storages.journal import JournalFileBackend\n"
        "storage = JournalStorage(JournalFileBackend(sys.argv[1]))\n"
        "for s in optuna.get_all_study_summaries(storage): print(s.study_name, s.n_trials, s.best_trial.value)\n"
    )
    journal = RunDir(tiny_run[0]).journal
    shown = subprocess.run([sys.executable, "-c", script, str(journal)], capture_output=True, text=True, check=True)
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert sorted(line[:2] for line in lines) == sorted([f"{prefix(tiny_run[0])}/{study}", "7"] for study in CELLS)
