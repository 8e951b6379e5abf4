"""How good a model is on a folder with classes; which model is exported where none is named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.export.chosen import best_study
from cotuning_tune.export.labelled import PAIRS, Labelled, labelled, needed
from cotuning_tune.report.statistics import wilson_interval
from cotuning_tune.runs.folder import RunDir
from tests.export.conftest import CELL

Call = Callable[..., tuple[int, list[str], list[str]]]


def test_accuracy_of_a_labelled_folder(
    exports: dict[str, Path], clothes: Path, small_run: RunDir, tmp_path: Path, call: Call
) -> None:
    """The test images' accuracy is the run's own, with Wilson's interval and the confusions; the file has the same."""
    table, facts = tmp_path / "t.csv", tmp_path / "facts.json"
    code, out, err = call("predict", exports["safetensors"], clothes / "test", "--out", table, "--json", facts)
    assert (code, err) == (0, [])
    tested, found = read_json(small_run.study(CELL).retrain(0).result)["test_score"], read_json(facts)
    low, high = (100 * end for end in wilson_interval(found["right"], 27))
    assert out[0] == f"accuracy {tested:.2f} % ({found['right']} of 27 images; {low:.1f} to {high:.1f} at 95 %, Wilson)"
    assert (found["images"], found["accuracy"], found["interval"]) == (27, tested, [low, high])
    assert sum(one["images"] for one in found["confusions"]) == 27
    words = ["predict", exports["safetensors"], clothes / "test", "--out", table, "--json", tmp_path]
    assert call(*words)[::2] == (2, [f"cotuning-tune: {tmp_path} cannot be written: Is a directory"])
    rows = [line.strip("| ").split("|") for line in out[1:-1]]
    assert [cell.strip() for cell in rows[0]] == ["folder \\ predicted", "bag", "pullover", "trouser"]
    counts = {row[0].strip(): [int(text) for text in row[1:]] for row in rows[2:]}
    assert counts.keys() == {"bag", "pullover", "trouser"}
    assert sum(counts[name][place] for place, name in enumerate(counts)) == found["right"]
    assert all(sum(row) == 9 for row in counts.values())


def test_folders_and_classes_that_do_not_meet(
    exports: dict[str, Path], clothes: Path, tmp_path: Path, call: Call
) -> None:
    """A folder that is no class, images beside the folders, a class without a folder: a line each; the printed table
    stays a table."""
    shutil.copytree(clothes / "test" / "bag", tmp_path / "bag")
    for number, path in enumerate(sorted((clothes / "test" / "pullover").iterdir())[:4]):
        shutil.copy(path, tmp_path / f"{number}{path.suffix}")
    shutil.copytree(clothes / "test" / "trouser", tmp_path / "hat")
    code, out, err = call("predict", exports["safetensors"], tmp_path)
    assert (code, len(out)) == (0, 23)
    assert " of 9 images; " in err[0]
    assert err[1:4] == [
        "not counted, no class of the model: hat",
        "not counted, beside the class folders, not in one: 0.png, 1.jpg, 2.png and 1 more",
        "classes of the model without a folder: pullover, trouser",
    ]


def test_without_classes(exports: dict[str, Path], clothes: Path, tmp_path: Path, call: Call) -> None:
    """A folder of other folders has no accuracy; asked for it, one line says why, and nothing is written."""
    assert labelled(clothes, ["bag", "pullover", "trouser"]) is None
    assert labelled(tmp_path / "none", ["bag"]) is None
    code, out, err = call("predict", exports["safetensors"], clothes, "--json", tmp_path / "facts.json")
    line = f"cotuning-tune: --json: no folder in {clothes} is a class of the model (bag, pullover, trouser)"
    assert (code, out, err) == (2, [], [line])
    assert not (tmp_path / "facts.json").exists()
    with pytest.raises(UserError, match="no folder in"):
        needed(tmp_path, ["bag"])


def test_of_many_classes_the_most_confused() -> None:
    """Of more classes than a table shows, the most frequent mistakes alone; names are compared as composed (NFC)."""
    classes = [f"c{number:02}" for number in range(19)] + ["caf\u00e9"]
    score = Labelled(classes, classes, [])
    rows = [["path", "class"], ["cafe\u0301/x.png", "caf\u00e9"], ["c00/1.png", "c01"], ["c00/2.png", "c01"]]
    rows += [[f"c{number:02}/1.png", "c18"] for number in range(1, 18)] + [["beside.png", "c00"]]
    assert list(score.watched(iter(rows))) == rows
    assert (score.count, score.right, score.facts()["beside"]) == (20, 1, ["beside.png"])
    table = score.lines()[-1].splitlines()
    assert len(table) == 2 + PAIRS
    assert [text.strip() for text in table[2].strip("|").split("|")] == ["c00", "c01", "2"]
    assert score.facts()["confusions"][0] == {"class": "c00", "predicted": "c01", "images": 2}


def test_the_study_that_the_report_takes(small_run: RunDir, tmp_path: Path, call: Call) -> None:
    """Without ``--study`` the highest validation score decides, not the test score, and one line says so."""
    run = RunDir(shutil.copytree(small_run.path, tmp_path / "small", ignore=shutil.ignore_patterns("export")))
    chosen = run.study("clothes-1.00-fine_tune")
    write_json(chosen.selection, read_json(chosen.selection) | {"val_score": 83.3})
    for seed in (0, 1):
        result = chosen.retrain(seed).result
        write_json(result, read_json(result) | {"test_score": 1.0})
    code, out, err = call("export", run.path, "--format", "safetensors")
    assert (code, err) == (0, [])
    assert out[0] == (
        "clothes-1.00-fine_tune: of 2 studies the report's choice, by its validation accuracy (83.30 %);"
        " --study names another"
    )
    assert out[2].startswith(f"written to {run.path}/export/clothes-1.00-fine_tune-seed0-safetensors")
    shutil.rmtree(chosen.path)
    assert best_study(run) == (run, CELL, "")
    other = RunDir(shutil.copytree(small_run.path, tmp_path / "untrained", ignore=shutil.ignore_patterns("retrain")))
    code, out, err = call("export", other.path, "--format", "safetensors")
    assert (code, out) == (2, [])
    assert err[0].startswith(f"cotuning-tune: {other.path} has no retrained model that the report could name")
