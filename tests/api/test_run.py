"""A run from Python: made, watched, read, stopped, continued; and its model."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cotuning_tune as ct
from cotuning_tune.base.pixels import centre_crop
from cotuning_tune.runs.predictions import Predictions
from cotuning_tune.training import TrainingSpec
from cotuning_tune.training.job import task_of
from tests.search.conftest import ROOT, run_once, tiny_run

__all__ = ["run_once", "tiny_run"]

Script = Callable[..., subprocess.CompletedProcess[str]]
SEARCH = """
import cotuning_tune as ct

def watch(event, now):
    name = type(event).__name__
    print("event", name)
    if name == "{stop}":
        raise KeyboardInterrupt

experiment = ct.Experiment(
    name="small", tasks=["synthetic"], methods=["fine_tune", "knn"], backbone="tiny_cnn", trials=2, seeds=[0],
    selection="max", sampler="random", task={{"size": 16, "resize": 16}}, train={{"epochs": 1, "batch_size": 16}},
)
run = ct.run(experiment, {storage!r}, cpus=2, observers=[watch])
print(run)
"""


@pytest.fixture(scope="module")
def run(tiny_run: tuple[Path, str]) -> ct.Run:
    return ct.open_run(tiny_run[0])


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Runs a Python script in a process of its own, in a folder of its own."""

    def go(text: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
        )

    return go


def test_tables(run: ct.Run) -> None:
    """Every trial, seed and study, with the numbers of the run's files."""
    trials, seeds, table = run.trials(), run.seeds(), run.table()
    assert len(trials) == 3 * (4 + 3)
    assert set(trials.study) == {f"synthetic-1.00-{method}" for method in ("fine_tune", "bss", "co_tuning")}
    assert trials.confirms.notna().sum() == 9
    one = trials[(trials.method == "bss") & (trials.trial == 1)].iloc[0]
    files = run.folder.study(one.study).trial(1)
    assert one.val_score == json.loads(files.result.read_text())["value"]
    assert one["bss/weight"] == json.loads(files.config.read_text())["values"]["bss/weight"]
    assert len(seeds) == 9
    for row in table.itertuples():
        scores = seeds[seeds.study == row.study].test_score
        assert row.test_score == pytest.approx(scores.mean())
        assert row.test_std == pytest.approx(scores.std())
        assert (row.trials, row.seeds) == (4, 3)
    epochs = run.epochs()
    assert len(epochs) == 3 * (4 + 3 + 3) * 3
    assert epochs.trial.isna().sum() == 27


def test_without_pandas(run: ct.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows as dictionaries."""
    frame = run.table()
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert run.table() == frame.to_dict("records")


def test_status_and_representation(run: ct.Run) -> None:
    now = run.status
    assert (now.state, now.done, now.budget, now.retrained) == ("done", 21, 21, 9)
    assert repr(run) == f"Run('{run.path}', done, 21/21 trials)"
    page = run._repr_html_()
    assert page.startswith("<p>Take ")
    assert page.count("<tr>") == 4
    assert "&#x27;" in page
    assert run.experiment.studies == run.table().study.tolist()


def test_statistics(run: ct.Run) -> None:
    """The report's answer, and its tables."""
    told = run.statistics()
    assert told.lines == run.report().answer.lines
    assert set(told.may_be_best) == {"fine_tune", "bss", "co_tuning"}
    assert "models" in told.tables


def test_the_best_is_the_report_s(run: ct.Run) -> None:
    best, taken = run.best(), run.report().answer.content["take"][0]
    assert (best.study, best.test_score, best.val_score) == (taken["study"], taken["test_score"], taken["val_score"])
    assert list(best.interval or ()) == taken["interval"]
    assert best.values == json.loads(run.folder.study(best.study).selection.read_text())["values"]
    assert repr(best).startswith(f"Best({best.study}: test ")
    assert run.best(study="synthetic-1.00-bss", seed=2).winner.seed == 2
    with pytest.raises(ct.UserError, match=r"has none for the task 'birds': best.* takes one of synthetic"):
        run.best("birds")
    with pytest.raises(ct.UserError, match="no study 'bss'"):
        run.best(study="bss")


@pytest.mark.parametrize("method", ["fine_tune", "bss", "co_tuning"])
def test_the_model_says_what_was_tested(run: ct.Run, method: str) -> None:
    """The loaded module gives each test image the class that the test evaluation gave it."""
    best = run.best(study=f"synthetic-1.00-{method}")
    task, model = task_of(TrainingSpec.from_json(best.winner.spec)), best.load()
    tested = Predictions.unpacked(best.winner.folder.predictions.read_bytes())
    test = task.open_test()
    stored = test.stored(list(range(len(test)))).numpy()
    seen = torch.from_numpy(np.stack([centre_crop(image, model.size) for image in stored]))
    with torch.no_grad():
        assert model(seen).argmax(1).tolist() == list(tested.predicted_N)
    assert model.classes == tuple(task.class_names)
    assert not model.training


def test_predictions_of_files(run: ct.Run, tmp_path: Path) -> None:
    """A file, its open image and a list of them; probabilities add up; what cannot be read is one line."""
    path = tmp_path / "one.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)).save(path)
    best = run.best()
    found = best.predict([path, path])
    assert [one.image for one in found] == [str(path)] * 2
    assert sum(found[0].probabilities.values()) == pytest.approx(1)
    assert found[0].probability == max(found[0].probabilities.values()) == found[0].probabilities[found[0].label]
    with Image.open(path) as opened:
        assert best.predict(opened)[0].probabilities == pytest.approx(found[0].probabilities)
    assert best.predict([]) == []
    with pytest.raises(ct.UserError, match=r"none.png cannot be read: No such file"):
        best.predict(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ct.UserError, match=r"text.png cannot be read: "):
        best.predict(str(tmp_path / "text.png"))


def test_exported(run: ct.Run, tmp_path: Path) -> None:
    assert (run.best().export("safetensors", tmp_path / "out") / "model.safetensors").exists()
    with pytest.raises(ct.UserError, match="--format gguf: a model of images is written as"):
        run.best().export("gguf")


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ct.UserError, match="no run in"):
        ct.open_run(tmp_path)


def test_stopped_and_continued(script: Script, tmp_path: Path) -> None:
    """An interrupt leaves a run that ``resume`` and ``extend`` continue."""
    stopped = script(SEARCH.format(stop="Selected", storage=str(tmp_path)))
    assert "event TrialEnded" in stopped.stdout
    assert "KeyboardInterrupt" in stopped.stderr
    run = ct.open_run(tmp_path / "small")
    assert run.status.state == "unfinished"
    assert len(run.trials()) == 4
    with pytest.raises(ct.UserError, match=r"extend.trials=N."):
        run.extend()
    text = "import cotuning_tune as ct; run = ct.open_run('small').resume(cpus=2); print(run, run.best())"
    text += "; print(run.extend(1, cpus=2, progress=False), len(run.trials()))"
    done = script(text)
    assert done.returncode == 0, done.stderr
    *_, first, second = done.stdout.splitlines()
    assert first.startswith(f"Run('{tmp_path / 'small'}', done, 4/4 trials) Best(synthetic-1.00-")
    assert second == f"Run('{tmp_path / 'small'}', done, 6/6 trials) 6"


@pytest.mark.parametrize("name", ["pandas_on_a_run"])
def test_examples_on_a_run(run: ct.Run, name: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py", run.path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "synthetic-1.00-co_tuning" in done.stdout
