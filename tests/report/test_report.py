"""The report says what the files say, in numbers worked out by hand, and hides no loss."""

import csv
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune import cli
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import write_json
from cotuning_tune.report import build_report, write, write_report
from cotuning_tune.report.results import mean_std
from cotuning_tune.runs import ledger
from cotuning_tune.runs.choice import choose, rule_text
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.scores import ACCURACY
from tests.report.synthetic import write_run

METHODS = ("fine_tune", "bss")


def trial(
    number: int, value: float | None, state: str = "COMPLETE", epochs: int = 3, reason: str = "", **more: Any
) -> dict[str, Any]:
    """A row of ``study.json``; ``more``: other values than those of a drawn trial without terms."""
    row = {
        "number": number,
        "state": state,
        "value": value,
        "score": value,
        "loss": None if value is None else 1 - value / 100,
        "share": 0.0,
        "fixed": "",
        "values": {"optim/lr": 0.01},
        "epochs": epochs,
        "seconds": 36.0,
        "reason": reason,
        "reissued": 0,
    }
    return row | more


def seed(number: int, accuracy: float | None) -> dict[str, Any]:
    state = "FAIL" if accuracy is None else "COMPLETE"
    return {
        "seed": number,
        "state": state,
        "test_score": accuracy,
        "test_count": 400,
        "seconds": 72.0,
        "reason": "lr too high",
    }


def write_study(
    run: RunDir, method: str, rate: float, trials: list[dict[str, Any]], seeds: list[dict[str, Any]], rule: str = "max"
) -> None:
    """A study's files as search and retraining leave them, with the hashes that belong to them."""
    folder = run.study(f"birds-{rate:.2f}-{method}")
    study = {"task": "birds", "rate": rate, "method": method}
    facts = {"budget": 2, "val_count": 100, "chance": 10.0}
    summary = {**study, **facts, "trials": trials, "confirmations": []}
    write_json(folder.summary, summary)
    spec = {**study, "seed": 100, "task_config": {}}
    config = ledger.config_hash(spec)
    if best := choose(trials, [], rule, ACCURACY):  # type: ignore[arg-type]  # rows as a file has them
        chosen = {"trial": best["number"], "val_score": best["score"], "values": best["values"]}
        hashes = {"spec": spec, "config": config, "study_hash": ledger.content_hash(summary)}
        write_json(
            folder.selection,
            {**study, **chosen, "state": best["state"], "rule": rule_text(best, rule, ACCURACY), **hashes},
        )
    for result in ({**one, "config": config} for one in seeds):
        files, entry = folder.retrain(result["seed"]), {"study": folder.name, "seed": result["seed"], "config": config}
        write_json(files.config, {"config": config, "seed": result["seed"], "spec": spec | {"seed": result["seed"]}})
        write_json(files.result, result)
        if result["state"] == "COMPLETE":
            ledger.append(run.ledger, {"event": "test_evaluation", **entry})
            digest = {"test_score": result["test_score"], "result": ledger.content_hash(result)}
            ledger.append(run.ledger, {"event": "result", **entry, **digest})


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Two methods at two rates, two trials each, seeds 60, 62, 64 and 50, 50, 56."""
    made = RunDir(tmp_path / "birds")
    write_json(made.environment, {"gpus": []})
    made.experiment_file.write_text(
        f'[experiment]\nmethods = {json.dumps(list(METHODS))}\nbackbone = "resnet50"\ntasks = ["birds"]\n'
    )
    for rate in (0.15, 1.0):
        for method, accuracies in zip(METHODS, ((60, 62, 64), (50, 50, 56)), strict=True):
            seeds = [seed(n, float(a)) for n, a in enumerate(accuracies)]
            write_study(made, method, rate, [trial(0, 70.0), trial(1, 80.0)], seeds)
    return made


def table(run: RunDir, name: str) -> list[dict[str, str]]:
    """A table of the written report, read back from its CSV file."""
    write_report(run)
    return list(csv.DictReader(io.StringIO((run.report / f"{name}.csv").read_text())))


def test_mean_and_deviation_by_hand() -> None:
    """60, 62, 64 have mean 62 and sample deviation 2; one value has no deviation, none is a dash."""
    assert mean_std([60.0, 62.0, 64.0], ACCURACY) == "62.00 ± 2.00"
    assert mean_std([60.0], ACCURACY) == "60.00 (n = 1)"
    assert mean_std([], ACCURACY) == "-"


def test_main_table(run: RunDir) -> None:
    """Methods in the experiment's order, columns by rate, the mean over studies at the end."""
    rows = table(run, "main")
    assert [row["method"] for row in rows] == ["fine_tune", "bss"]
    assert rows[0] == {
        "method": "fine_tune",
        "birds 15 %": "62.00 ± 2.00",
        "birds 100 %": "62.00 ± 2.00",
        "average": "62.00",
    }
    assert rows[1]["average"] == "52.00"


def test_budget_table(run: RunDir) -> None:
    """Trials, epochs and hours are sums over a method's studies."""
    row = table(run, "budget")[0]
    assert row["trials"] == row["complete"] == "4"
    assert (row["fixed"], row["nearly off"], row["confirmed"]) == ("0", "-", "0")
    assert row["epochs"] == "12"
    assert row["search trial-h"] == "0.040"
    assert row["retrain trial-h"] == "0.120"


def test_what_was_fixed_and_nearly_off(run: RunDir) -> None:
    """Fixed trials are counted as they were fixed; of two drawn ones that ended, one changes the loss by below 5 %."""
    rows = [trial(0, 70.0, fixed="published", share=0.3), trial(1, 60.0, fixed="off"), trial(2, 80.0, share=0.5)]
    rows += [trial(3, 75.0, share=-0.049), trial(4, None, "FAIL", share=0.0), trial(5, 60.0, "PRUNED", share=0.01)]
    for rate in (0.15, 1.0):
        write_study(run, "bss", rate, rows, [])
    row = table(run, "budget")[1]
    assert (row["fixed"], row["nearly off"]) == ("4", "50 %")


def test_what_was_confirmed(run: RunDir) -> None:
    """Confirmations are counted beside the trials, and their epochs and hours are the search's."""
    path = run.study("birds-1.00-bss").summary
    again = {"confirms": 1, "state": "COMPLETE", "score": 78.0, "epochs": 3, "seconds": 36.0, "reason": ""}
    write_json(path, {**json.loads(path.read_text()), "confirmations": [again]})
    before, row = table(run, "budget")
    assert (row["confirmed"], row["epochs"], row["search trial-h"]) == ("1", "15", "0.050")
    assert (before["confirmed"], before["epochs"]) == ("0", "12")


def test_the_chosen_configuration_and_how_sharply_it_was_chosen(run: RunDir) -> None:
    """80 % of 100 images has a standard error of 4.0 points: of three full trials 77 lies within one, 75 does not."""
    row = table(run, "configurations")[0]
    assert (row["trial"], row["val. accuracy"], row["configuration"]) == ("1", "80.00", "optim/lr = 0.01")
    three = [trial(0, 75.0), trial(1, 80.0, fixed="off"), trial(2, 77.0), trial(3, 79.0, "PRUNED")]
    write_study(run, "fine_tune", 0.15, three, [])
    row = table(run, "configurations")[0]
    assert (row["trial"], row["±"], row["within"]) == ("1 (off)", "4.0", "2 of 3")
    note = next(t.note for t in build_report(run).tables if t.name == "configurations")
    assert note.startswith("Chosen by: best validation accuracy among trials of full length; the earliest of equals.")
    assert "100 validation images." in note


def test_an_accuracy_of_all_or_nothing_has_an_error_too(run: RunDir) -> None:
    """All of 100 images right is not known without error: as one wrong, 1.0 points."""
    write_study(run, "fine_tune", 0.15, [trial(0, 100.0), trial(1, 98.5)], [])
    row = table(run, "configurations")[0]
    assert (row["±"], row["within"]) == ("1.0", "1 of 2")


def test_equal_terms_are_stated_only_when_true(run: RunDir) -> None:
    """A study whose trials are given fewer epochs turns the remark into a warning, and is not named equal."""
    assert any(r.startswith("Equal terms") for r in build_report(run).remarks)
    write_study(run, "bss", 1.0, [trial(0, 70.0, epochs=2), trial(1, 80.0, epochs=2)], [])
    remarks = build_report(run).remarks
    assert any(r.startswith("UNEQUAL TERMS: studies had 2 to 2 trials of 2 to 3 epochs") for r in remarks)
    assert not any(r.startswith("Equal terms") for r in remarks)


def test_early_stopping_is_equal_terms(run: RunDir) -> None:
    """Stopped trials are judged as asked: the remark names the rule and sums the stopped trials of each method."""
    text = run.experiment_file.read_text()
    run.experiment_file.write_text(text.replace("[experiment]", '[experiment]\npruner = "asha"'))
    for rate in (0.15, 1.0):
        write_study(run, "bss", rate, [trial(0, 70.0), trial(1, 40.0, "PRUNED", epochs=1)], [])
    remarks = build_report(run).remarks
    told = "Equal terms: every study had 2 trials of 3 epochs; by the same rule (asha) some were stopped early (bss 2)."
    assert told in remarks
    assert not any("not judged" in remark for remark in remarks)


def test_warnings_come_first(run: RunDir) -> None:
    """Whatever they are of, the warnings stand before all other remarks."""
    write_study(run, "bss", 1.0, [trial(0, 70.0), trial(1, None, "FAIL", 1, "nan")], [seed(2, None)])
    run.ledger.write_text(run.ledger.read_text().replace('"rate": 1.0', '"rate": 2.0').replace("62.0", "63.0", 1))
    remarks = build_report(run).remarks
    first = [remark.startswith(("WARNING", "UNEQUAL")) for remark in remarks]
    assert first == sorted(first, reverse=True)
    assert 2 < sum(first) < len(first)


def test_failures_are_told_with_their_reason(run: RunDir) -> None:
    """Failed trials and failed seeds stand in the remarks, and the mean counts the others only."""
    failed = [trial(0, 70.0), trial(1, 80.0), trial(2, None, "FAIL", 1, "not finite in epoch 1")]
    write_study(run, "bss", 1.0, failed, [seed(2, None)])
    report = build_report(run)
    assert "bss on birds at 100 %: 1 trial(s) failed: not finite in epoch 1" in report.remarks
    assert "WARNING: bss on birds at 100 %: seed 2 failed: lr too high" in report.remarks
    assert report.tables[0].rows[1][2] == "50.00 ± 0.00"


def test_a_study_without_success_is_shown(run: RunDir) -> None:
    """A method whose every trial failed keeps its row."""
    run.study("birds-1.00-bss").selection.unlink()
    rows = table(run, "configurations")
    assert [row["configuration"] for row in rows].count("no trial succeeded") == 1


def test_many_failures_are_one_line(run: RunDir) -> None:
    """The same reason in several studies of a method is told once, with their number."""
    failed = [trial(0, 70.0), trial(1, 80.0), trial(2, None, "FAIL", 1, "not finite")]
    for rate in (0.15, 1.0):
        write_study(run, "bss", rate, failed, [])
    assert "bss in 2 studies: 2 trial(s) failed: not finite" in build_report(run).remarks


def test_the_terminal_shows_what_matters(run: RunDir) -> None:
    """Few tables and remarks; every warning; and what else the report holds."""
    failed = [trial(0, 70.0), *(trial(n, None, "FAIL", 1, f"reason {n}") for n in range(1, 30))]
    first = build_report(run).terminal().splitlines()[0]
    assert first.startswith("Take fine_tune: 62.0 % on new images")
    write_study(run, "bss", 1.0, failed, [seed(2, None)])
    report = build_report(run)
    shown = report.terminal()
    warnings = [remark for remark in report.remarks if remark.startswith(("WARNING", "UNEQUAL"))]
    assert len(warnings) >= 2
    assert [warning for warning in warnings if warning not in shown] == []
    assert "more remarks in the report" in shown
    assert shown.count("reason") < 20
    assert "also in the report: gap, audit, reproduce, environment" in shown


def test_nothing_to_report_yet(tmp_path: Path) -> None:
    """A run whose search has not ended is said to be so."""
    made = RunDir(tmp_path)
    made.experiment_file.write_text('[experiment]\nmethods = ["bss"]\nbackbone = "x"\n')
    with pytest.raises(UserError, match="nothing to report yet"):
        build_report(made)


def test_a_large_run(tmp_path: Path) -> None:
    """63 studies with 32 trials and three seeds each are reported whole; one data set is one unit."""
    rates = (0.1, 0.15, 0.3, 0.4, 0.5, 0.75, 1.0)
    report = build_report(write_run(tmp_path / "large", ("birds",), rates, epochs=3, files=False))
    by_name = {table.name: table for table in report.tables}
    assert [len(by_name[name].rows) for name in ("main", "audit")] == [9, 63]
    assert not {"statistics", "possible_bests"} & set(by_name)
    assert "fits" in {row[-1] for row in by_name["audit"].rows}
    assert len(report.terminal().splitlines()) < 50


def test_the_report_can_be_deleted(run: RunDir) -> None:
    """``report`` rebuilds the same files."""
    write_report(run)
    first = {p.name: p.read_bytes() for p in run.report.iterdir()}
    for path in run.report.iterdir():
        path.unlink()
    write_report(run)
    assert {p.name: p.read_bytes() for p in run.report.iterdir()} == first
    names = ["audit", "budget", "configurations", "environment", "gap", "main"]
    names += ["reproduce"]
    files = {f"{name}.{kind}" for name in names for kind in ("csv", "tex")}
    assert {"report.md", "index.html"} | files == set(first)


def test_the_report_loads_no_heavy_package(run: RunDir) -> None:
    """``report`` imports neither torch, ray nor optuna."""
    script = (
        "import sys\nfrom cotuning_tune.cli import main\n"
        f"code = main(['report', {str(run.path)!r}])\n"
        "print([m for m in ('torch', 'ray', 'optuna') if m in sys.modules], code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_a_choice_among_stopped_trials_is_told(run: RunDir) -> None:
    """Where no trial ran to its end, the report says that the chosen one was stopped early; else it does not."""
    path = run.study("birds-1.00-bss").selection
    told = "bss on birds at 100 %: no trial ran to its end; the chosen one was stopped early."
    assert told not in build_report(run).remarks
    write_json(path, {**json.loads(path.read_text()), "state": "PRUNED"})
    assert told in build_report(run).remarks


@pytest.mark.parametrize("how", ["a file stands there", "read-only"])
def test_a_folder_that_cannot_be_written(
    run: RunDir, how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report is shown all the same, and one line says that it was not written; 0."""
    if how == "read-only":
        monkeypatch.setattr(write, "write_files", _refuse)
    else:
        run.report.touch()
    assert cli.main(["report", str(run.path)]) == 0
    out, err = capsys.readouterr()
    assert "| fine_tune" in out
    assert "report.md" not in out
    (line,) = err.splitlines()
    assert line.startswith("cotuning-tune: shown only, not written: ")
    assert str(run.path) in line


def _refuse(folder: Path, *_: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))
