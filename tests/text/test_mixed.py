"""Images and tagged sentences in one experiment, one report, one TensorBoard; and a model of each taken out."""

import json
from pathlib import Path

import pytest
import transformers

from cotuning_tune import cli
from cotuning_tune.report.results import read_studies
from cotuning_tune.report.write import build_report
from cotuning_tune.runs.folder import RunDir
from tests.boards import board_of

Run = tuple[Path, str]
TWO = 'backbones = ["tiny_cnn", "tiny_bert"]'
OWN = '[backbones.tiny_bert.train.optim]\nname = "adamw"\n'
TEXT = "Badoan went to Keliville\n\nshares of Moracorp fell\n"
NER = "synthetic_ner-1.00-tiny_bert-co_tuning"


def test_each_task_has_its_backbone_and_its_metric(mixed: Run) -> None:
    """Four studies: no backbone meets what it does not take."""
    studies = {study.name: study for study in read_studies(RunDir.open(mixed[0]))}
    assert set(studies) == {
        f"{task}-{method}"
        for task in ("synthetic-1.00-tiny_cnn", "synthetic_ner-1.00-tiny_bert")
        for method in ("fine_tune", "co_tuning")
    }
    assert (studies[NER].metric.name, studies[NER].examples) == ("entity_f1", "sentences")
    assert studies["synthetic-1.00-tiny_cnn-fine_tune"].metric.name == "accuracy"
    (seed, _) = studies[NER].seeds
    assert {"test_score", "test_precision", "test_recall", "test_accuracy", "predictions"} <= set(seed)
    assert (seed["metric"], seed["test_crops"]) == ("entity_f1", "")


def test_one_report(mixed: Run) -> None:
    """One table over both with each one's metric; what a model does on new examples by its own; the audit fits."""
    report = build_report(RunDir.open(mixed[0]))
    tables = {table.name: table for table in report.tables}
    assert tables["main"].title == "Test score"
    assert "(synthetic: accuracy; synthetic_ner: entity F1)" in tables["main"].note
    assert len(tables["models"].rows) == 4
    assert any("no edit was found" in remark for remark in report.remarks)
    assert "entity F1 on new sentences like the test split's" in mixed[1]


def test_one_tensorboard(mixed: Run) -> None:
    """Scores under their metrics' names, side by side."""
    with board_of(mixed[0], at_least=10) as board:
        tags = {tag for run in board.ask("/data/plugin/scalars/tags").values() for tag in run}
        assert {"val/accuracy", "val/entity_f1", "val/best_entity_f1", "test/entity_f1", "test/recall"} <= tags


def test_the_summary_names_the_metrics(mixed: Run) -> None:
    """Programs read which figure is what."""
    summary = json.loads((mixed[0] / "summary.json").read_text())
    assert summary["metrics"][NER] == "entity_f1"
    assert {take["metric"] for take in summary["answer"]["take"]} == {"accuracy", "entity_f1"}


def test_what_is_written_loads_in_transformers(mixed: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """from_pretrained takes it, pipeline("ner") gives the tags that predict gives."""
    words = ["export", str(mixed[0]), "--study", NER, "--format", "transformers", "--out", str(tmp_path / "x")]
    assert cli.main(words) == 0
    assert "logits differ by 0 at most" in capsys.readouterr().out
    (tmp_path / "texts").write_text(TEXT)
    assert cli.main(["predict", str(tmp_path / "x"), str(tmp_path / "texts")]) == 0
    told = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in told if len(line) > 1] == TEXT.split()
    tagger = transformers.pipeline("ner", model=str(tmp_path / "x"), aggregation_strategy="none", ignore_labels=[])
    found = tagger("Badoan went to Keliville")
    first = {entry["start"]: entry["entity"] for entry in reversed(found)}
    assert [first[start] for start in (0, 7, 12, 15)] == [line[1] for line in told[:4]]
    model = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "x")
    assert model.config.id2label[1] == "B-LOC"


def test_formats_of_the_other_kind_are_refused(mixed: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says in what the model is written."""
    assert cli.main(["export", str(mixed[0]), "--study", NER, "--format", "onnx"]) == 2
    assert "a model of sentences is written as transformers" in capsys.readouterr().err
    study = "synthetic-1.00-tiny_cnn-fine_tune"
    assert cli.main(["export", str(mixed[0]), "--study", study, "--format", "transformers"]) == 2
    assert "a model of images is written as safetensors, torchscript, onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"tiny_bert"]', '"tiny_cnn"]', "lists something twice"),
        (TWO, 'backbone = "tiny_cnn"', "consists of text, and tiny_cnn takes none"),
        (TWO, 'backbone = "tiny_bert"', "consists of images, and tiny_bert takes none"),
        ('name = "adamw"', 'name = "adamw"\n[backbones.tiny_bert.train]\nmixup = 0.2', "and tiny_bert takes texts"),
        ("trials = 2", 'trials = 2\nmetric = "entity_f1"', "the task synthetic cannot be judged by entity_f1"),
        ("trials = 2", 'trials = 2\nmetric = "f2"', "metric 'f2'"),
        ("trials = 2", 'trials = 2\nsource_val = "x"', "and a backbone here takes texts"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    """With file and line, before anything runs."""
    from tests.text.conftest import MIXED

    assert old in MIXED
    text = MIXED.replace(old, new)
    (tmp_path / "a.toml").write_text(text.replace(OWN, "") if old == TWO else text)
    assert cli.main(["run", str(tmp_path / "a.toml"), "--storage", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_a_plan_of_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images are probed by one backbone, texts by the other; without a probe the sizes alone are told."""
    from tests.text.conftest import MIXED

    (tmp_path / "a.toml").write_text(MIXED)
    assert cli.main(["plan", str(tmp_path / "a.toml")]) == 0
    told = capsys.readouterr().out
    assert "on synthetic at 100 % and synthetic_ner at 100 %" in told
    assert "co_tuning (tiny_bert)" in told
    assert cli.main(["plan", str(tmp_path / "a.toml"), "--no-probe"]) == 0
    missing = MIXED.replace('"synthetic_ner"]', '"mine"]') + '[data.mine]\nformat = "column_files"\nroot = "none"\n'
    (tmp_path / "b.toml").write_text(missing)
    assert cli.main(["plan", str(tmp_path / "b.toml")]) == 2
    assert "there is no file or folder" in capsys.readouterr().err
