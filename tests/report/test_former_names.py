"""A run that was written before scores had names of their own: it opens, its audit fits, and it continues."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from cotuning_tune import cli
from cotuning_tune.report.compare import comparison_report, read_runs
from cotuning_tune.report.results import read_studies
from cotuning_tune.report.write import build_report
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.ledger import config_hash
from cotuning_tune.runs.records import present, read_facts
from cotuning_tune.search.driver import load_experiment

GOLDEN = Path(__file__).parents[1] / "golden" / "run_before_scores.zip"
KEPT = {"fine_tune": 36.81, "bss": 36.81, "co_tuning": 36.81}


@pytest.fixture
def former(tmp_path: Path) -> RunDir:
    """The run of ``search_spaces/tiny.toml`` as the version before wrote it, without models."""
    with zipfile.ZipFile(GOLDEN) as packed:
        packed.extractall(tmp_path / "tiny")
    return RunDir.open(tmp_path / "tiny")


def test_its_files_have_former_names(former: RunDir) -> None:
    """The case is what it says: accuracies under their own names."""
    result = json.loads(former.study("synthetic-1.00-bss").retrain(0).result.read_text())
    assert "test_accuracy" in result
    assert "test_score" not in result


def test_it_is_reported_as_it_was(former: RunDir) -> None:
    """The same means, by accuracy; ledger, selections and results fit together: hashes are of what was written."""
    report = build_report(former)
    tables = {table.name: table for table in report.tables}
    assert tables["main"].title == "Test accuracy"
    assert {row[0]: float(row[1].split(" ")[0]) for row in tables["main"].rows} == KEPT
    assert {study.metric.name for study in read_studies(former)} == {"accuracy"}
    assert [line for line in report.remarks if line.startswith("Audit:") and "no edit was found" in line]
    assert len(tables["configurations"].rows) == 3


def test_its_status_is_shown(former: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    """From its journal, whose trials have former names too."""
    assert cli.main(["status", str(former.path)]) == 0
    assert "3/3" in capsys.readouterr().out


def test_it_is_compared_with_itself(former: RunDir, tmp_path: Path) -> None:
    """Two runs of that version in one table."""
    shutil.copytree(former.path, tmp_path / "other")
    table = comparison_report(read_runs([former, RunDir.open(tmp_path / "other")])).tables[0]
    assert all(row[1] == row[2] for row in table.rows)


def test_its_tasks_keep_their_metric(former: RunDir) -> None:
    """What a run began with is not changed by a new default."""
    assert load_experiment(former).metric("synthetic").name == "accuracy"


def test_present_names_win() -> None:
    """A record of today that has an accuracy beside its score keeps both."""
    today = {"test_score": 50.0, "test_accuracy": 60.0}
    assert present(today) == today
    assert present({"trials": [{"accuracy": 1.0}]}) == {"trials": [{"score": 1.0}]}


def test_run_does_not_change_its_metric(former: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a data set's default is another one by now, ``run`` refuses, and names what continues it as it began."""
    file = former.experiment_file
    (former.path.parent / "tiny.toml").write_text(file.read_text())
    environment = json.loads(former.environment.read_text()) | {"metrics": {"synthetic": "macro_f1"}}
    former.environment.write_text(json.dumps(environment))
    words = ["run", str(former.path.parent / "tiny.toml"), "--storage", str(former.path.parent)]
    assert cli.main(words) == 2
    assert "began with macro_f1 for synthetic, and this version takes accuracy" in capsys.readouterr().err
    assert load_experiment(former).metric("synthetic").name == "macro_f1"


def test_its_trainings_are_those_of_today(former: RunDir) -> None:
    """The chosen configurations have the hashes that they had: what was retrained is not retrained again."""
    experiment = load_experiment(former)
    for study in experiment.studies:
        chosen = read_facts(former.study(study.name).selection)
        spec = experiment.spec(study, chosen["values"], experiment.config.search_seed)
        assert config_hash(spec.to_json()) == chosen["config"]
