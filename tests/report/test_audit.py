"""Every planted edit is named by the report; a run that nobody touched fits together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.report import build_report
from cotuning_tune.report.audit import audit_remarks, audit_studies
from cotuning_tune.report.results import read_studies
from cotuning_tune.runs import ledger
from cotuning_tune.runs.folder import RunDir
from tests.report.synthetic import write_run

CELL = "birds-1.00-bss"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Fine-tuning, L2-SP, DELTA and BSS on one task: 12 tested models."""
    return write_run(tmp_path / "run", ("birds",), (1.0,), methods=4, trials=4, epochs=2)


def remarks(run: RunDir) -> list[str]:
    """What the audit says."""
    studies = read_studies(run)
    return audit_remarks(run, studies, audit_studies(run, studies))


def warnings(run: RunDir) -> list[str]:
    """What the audit warns of."""
    return [remark for remark in remarks(run) if remark.startswith("WARNING")]


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_line(run: RunDir, number: int, old: str, new: str) -> None:
    lines = run.ledger.read_text().splitlines()
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new)
    run.ledger.write_text("\n".join(lines) + "\n")


def test_an_untouched_run_fits(run: RunDir) -> None:
    """Nothing is named, and the report says that it looked."""
    assert remarks(run) == [
        "Audit: 12 test evaluations for 12 retrained models (test_ledger.jsonl); ledger, selections, configurations and"
        " results fit together, no edit was found."
    ]


@pytest.mark.parametrize("number", [5, 24], ids=["in the middle", "the last line"])
@pytest.mark.parametrize("old", ['"rate": 1.0', '"purpose": "retrain"', '"time": 1'])
def test_a_changed_ledger_line(run: RunDir, number: int, old: str) -> None:
    """A line changed anywhere, the last one too, does not have its own hash: it is named by its number."""
    edit_line(run, number, old, f"{old[:-1]}9{old[-1]}")
    found = warnings(run)
    assert any(f"test_ledger.jsonl: line {number} does not have its own hash" in w for w in found)
    assert any(f"broken at line {number + 1}" in w for w in found) == (number < 24)


def test_a_removed_ledger_line(run: RunDir) -> None:
    """Without a line the chain is broken, and the model that it told of has no record."""
    lines = run.ledger.read_text().splitlines()
    gone = json.loads(lines.pop(3))
    run.ledger.write_text("\n".join(lines) + "\n")
    found = warnings(run)
    assert any("broken at line 4" in w for w in found)
    result = f"studies/{gone['study']}/retrain/seed{gone['seed']}/result.json"
    assert any(result in w and "does not know" in w for w in found)


def test_a_ledger_cut_short(run: RunDir) -> None:
    """A cut end leaves the chain whole: the tested models without record show it."""
    lines = run.ledger.read_text().splitlines()
    run.ledger.write_text("\n".join(lines[:-2]) + "\n")
    assert ledger.broken_lines(run.ledger) == []
    assert any("retrain/seed2/result.json" in w for w in warnings(run))


def test_a_ledger_whose_end_was_taken_out_with_its_seeds(run: RunDir) -> None:
    """Where line and folder of a test are gone together, the studies still know how far the ledger went."""
    lines = run.ledger.read_text().splitlines()
    head: ledger.Head = {"lines": len(lines), "hash": ledger.line_hash(lines[-1])}
    studies = read_studies(run)

    def said(kept: ledger.Head | None) -> list[str]:
        return audit_remarks(run, studies, audit_studies(run, studies), lambda _: kept)

    assert said(head) == said(None) == remarks(run)
    run.ledger.write_text("\n".join(lines[:-2]) + "\n")
    told = "WARNING: test_ledger.jsonl ends too early: its studies know of 24 lines: some were taken out."
    assert told in said(head)
    run.ledger.write_text("\n".join([*lines[:-1], lines[0]]) + "\n")
    assert told in said(head)

    def unreachable(_: RunDir) -> None:
        raise UserError("the storage of the studies cannot be read: no answer")

    found = audit_remarks(run, studies, audit_studies(run, studies), unreachable)
    assert any("is whole at its end is not known: the storage of the studies cannot be read" in one for one in found)


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("retrain/seed1/result.json", lambda c: c.update(test_score=99.0), "is not what line"),
        ("retrain/seed1/result.json", lambda c: c.update(state="FAIL", reason=""), "is not what line"),
        ("retrain/seed1/result.json", lambda c: c.update(kept_epoch=1, val_score=1.0), "is not what line"),
        ("retrain/seed1/result.json", lambda c: c.update(config="0" * 16), "another configuration"),
        ("retrain/seed1/config.json", lambda c: c["spec"]["train"].update(epochs=99), "configuration's hash"),
        ("selection.json", lambda c: c.update(val_score=99.0), "other values than study.json"),
        ("selection.json", lambda c: c["values"].update({"optim/lr": 0.1}), "other values than study.json"),
        ("selection.json", lambda c: c.update(trial=c["trial"] + 1), "is the best by the rule"),
        ("selection.json", lambda c: c["spec"].update(backbone="other"), "does not have the hash beside it"),
        ("study.json", lambda c: c["trials"][0].update(value=99.0), "study.json is not the one"),
        ("study.json", lambda c: c["trials"].pop(), "study.json is not the one"),
    ],
)
def test_an_edited_file(run: RunDir, file: str, change: Callable[[dict[str, Any]], object], named: str) -> None:
    """An edit of a result, a configuration, a selection or a study is named with its file."""
    edit(run.study(CELL).path / file, change)
    found = warnings(run)
    assert any(named in w and f"studies/{CELL}/" in w for w in found)
    assert [w for w in found if "studies/" in w and CELL not in w] == []
    assert remarks(run)[-1].startswith("Audit: 12 test evaluations for 1")
    assert remarks(run)[-1].endswith(" retrained models (test_ledger.jsonl).")


def test_predictions_of_another_hash(run: RunDir) -> None:
    """The predictions of each seed belong to its result: an edited file and a missing one are named, each once."""
    files = [run.study(CELL).retrain(seed).predictions for seed in (0, 1)]
    files[0].write_bytes(files[1].read_bytes())
    files[1].unlink()
    assert [w for w in warnings(run) if "predictions.npz" in w] == warnings(run)
    edited, missing = warnings(run)
    assert f"studies/{CELL}/retrain/seed0/predictions.npz does not have the hash" in edited
    assert f"studies/{CELL}/retrain/seed1/predictions.npz is missing" in missing


def test_an_earlier_versions_results(tmp_path: Path) -> None:
    """Results that name no predictions need none."""
    old = write_run(tmp_path / "old", ("birds",), (1.0,), methods=2, trials=4, epochs=2, images=0)
    assert not list(old.path.rglob("predictions.npz"))
    assert warnings(old) == []


def test_a_trial_of_another_accuracy(run: RunDir) -> None:
    """The chosen trial's own result stands against the selection."""
    chosen = json.loads(run.study(CELL).selection.read_text())["trial"]
    edit(run.study(CELL).trial(chosen).result, lambda c: c.update(value=1.0))
    assert any(f"trials/{chosen:04d}/result.json gives another score" in w for w in warnings(run))


def test_a_deleted_result(run: RunDir) -> None:
    """A tested model whose result is gone is named: bad seeds cannot be dropped unseen."""
    run.study(CELL).retrain(2).result.unlink()
    named = f"studies/{CELL}/retrain/seed2/result.json is missing"
    assert any(named in w for w in warnings(run))
    assert any(named in remark for remark in build_report(run).remarks)
    assert named in build_report(run).terminal()


def test_a_deleted_selection(run: RunDir) -> None:
    """A study that has a trial to choose needs its selection."""
    run.study(CELL).selection.unlink()
    assert any(f"studies/{CELL}/selection.json is missing" in w for w in warnings(run))


def test_a_line_of_no_study(run: RunDir) -> None:
    """A ledger line that belongs to none of the run's studies is named."""
    ledger.append(run.ledger, {"event": "test_evaluation", "study": "cars-1.00-bss", "seed": 0, "config": "x"})
    assert any("line 25 belongs to no study" in w for w in warnings(run))


def test_too_many_openings(run: RunDir) -> None:
    """A test split opened more often than there are models is a warning with study and numbers."""
    entry = json.loads(run.ledger.read_text().splitlines()[-2])
    ledger.append(run.ledger, {key: entry[key] for key in ("event", "study", "seed", "config")})
    found = warnings(run)
    assert len(found) == 1
    assert "bss on birds at 100 % 4 for 3" in found[0]
    assert "interrupted and done again" in found[0]
    audit = next(table for table in build_report(run).tables if table.name == "audit")
    assert [row[2:5] for row in audit.rows] == [["3", "3", "1"]] * 3 + [["3", "4", "1"]]


def test_openings_of_earlier_selections(run: RunDir) -> None:
    """After an extension the earlier choice has seen the test split too: said as such."""
    ledger.append(run.ledger, {"event": "test_evaluation", "study": CELL, "seed": 0, "config": "earlier"})
    assert any("earlier selections were tested too" in w for w in warnings(run))


def test_a_retraining_under_way(run: RunDir) -> None:
    """A model that is being tested has its opening and no result yet: that is no warning."""
    ledger.append(
        run.ledger, {"event": "test_evaluation", "study": CELL, "seed": 3, "config": "x", "purpose": "retrain"}
    )
    assert warnings(run) == []
