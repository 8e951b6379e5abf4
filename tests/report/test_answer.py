"""A report opens with its answer: which model, how good, how sure, what it cost, what next; it says nothing twice."""

import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json, write_bytes, write_json
from cotuning_tune.base.toml_text import set_key
from cotuning_tune.cli import main
from cotuning_tune.export.chosen import best_study
from cotuning_tune.pipeline.road import _report
from cotuning_tune.report import build_report, write_report
from cotuning_tune.report.answer import Answer, picks
from cotuning_tune.report.forest import Forest, Row
from cotuning_tune.report.models import example_z, read_models
from cotuning_tune.report.page import page_html
from cotuning_tune.report.results import StudyResult, read_studies
from cotuning_tune.runs.events import Checked, Ended, Standing
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.stream import Stream
from cotuning_tune.runs.summary import Summary
from cotuning_tune.scores import ACCURACY, METRICS
from tests.report.synthetic import write_run, write_searches

RUN = RunDir(Path("runs/made"))
SMALL: dict[str, Any] = {"tasks": ("birds",), "rates": (1.0,), "methods": 4, "epochs": 2, "files": False}
DATA_SETS = ("birds", "cars", "dogs", "pets", "planes", "flowers")


def study(
    method: str, validation: float, test: float, task: str = "birds", rate: float = 1.0, images: int = 400
) -> StudyResult:
    """A study that chose a model of these accuracies, retrained once."""
    seed = {"seed": 0, "state": "COMPLETE", "test_score": test, "test_count": images, "seconds": 1.0}
    return StudyResult(task, rate, method, 4, [], {"val_score": validation}, [seed])


def sentences(studies: list[StudyResult]) -> list[str]:
    found = picks([(RUN, studies)])
    return [pick.sentence(named=len(found) > 1) + pick.surer() for pick in found]


def test_validation_names_the_model() -> None:
    """The model is the one that validation puts first, though another one is 20 points better on the test split."""
    (sentence,) = sentences([study("bss", 79.0, 90.0), study("fine_tune", 80.0, 70.0)])
    assert sentence.startswith("Take fine_tune: 70.0 % on new images")


def test_the_first_of_equals() -> None:
    """Of equal validation accuracies the earlier study in the report's order is taken, whatever the test says."""
    assert sentences([study("a", 80.0, 70.0), study("b", 80.0, 90.0)])[0].startswith("Take a: ")


@pytest.mark.parametrize(
    ("validation", "told"),
    [(80.0, "of 80.0 % flatters it by 10.0."), (65.0, "of 65.0 % is 5.0 points lower.")],
)
def test_interval_and_flattery_by_hand(validation: float, told: str) -> None:
    """280 of 400 images right is 65.3 to 74.3 % by Wilson; what validation showed beyond that is flattery."""
    assert sentences([study("bss", validation, 70.0)]) == [
        f"Take bss: 70.0 % on new images like the test split's (65 to 74); its validation accuracy {told}"
    ]


def test_the_highest_rate_alone() -> None:
    """A model of less training data is not taken, however well it validates."""
    (sentence,) = sentences([study("bss", 95.0, 90.0, rate=0.15), study("bss", 80.0, 70.0)])
    assert "70.0 %" in sentence


def test_nothing_retrained_nothing_to_take() -> None:
    """Without a test accuracy there is no model to take, and nothing to do next with it."""
    lost = StudyResult("birds", 1.0, "bss", 4, [], {"val_score": 80.0}, [])
    assert sentences([lost, StudyResult("cars", 1.0, "bss", 4, [], None, [])]) == []


def test_the_runner_up_is_of_the_validation(tmp_path: Path) -> None:
    """The second by validation is compared, on the test images and two-sided; the interval is the model's own."""
    run = write_run(tmp_path / "run", **SMALL, trials=6)
    studies = read_studies(run)
    ranked = sorted(studies, key=lambda s: -(s.selection or {})["val_score"])
    (pick,), (setting,) = picks([(run, studies)]), read_models(studies)
    assert [pick.study, pick.rival] == ranked[:2]
    one, other = (setting.models[s.method] for s in ranked[:2])
    p = math.erfc(abs(example_z(one.values, other.values)) / math.sqrt(2))
    assert pick.rival_p == p
    assert pick.interval == one.interval
    words = "differ" if p <= 0.05 else "are not told apart"
    told = f"It and the next model by validation, {ranked[1].method}, {words} on such images (p = {p:.2g})."
    assert build_report(run).answer.lines[0].endswith(told)


@pytest.mark.parametrize("p", [0.05, 0.051])
def test_told_apart_or_not(p: float) -> None:
    """Two models are said to differ up to p = 0.05."""
    (pick,) = picks([(RUN, [study("a", 80.0, 70.0)])])
    pick = type(pick)(pick.run, pick.study, pick.interval, study("b", 79.0, 60.0), p)
    assert ("b, differ on" in pick.surer(), "b, are not told apart on" in pick.surer()) == (p <= 0.05, p > 0.05)


@pytest.mark.parametrize(("count", "lines"), [(1, 1), (3, 3), (6, 3)])
def test_a_line_a_data_set_up_to_three(tmp_path: Path, count: int, lines: int) -> None:
    """Each data set has its model's line, of more than three the first ones; the others are counted."""
    shape = {**SMALL, "tasks": DATA_SETS[:count], "methods": 2}
    answer = build_report(write_run(tmp_path / "run", **shape, trials=3)).answer
    taken = [line for line in answer.lines if line.startswith("Take ")]
    named = [task for line in taken for task in DATA_SETS if f" on {task} at 100 %: " in line]
    assert (len(taken), len(named)) == (lines, lines if count > 1 else 0)
    assert (answer.lines[3] == "3 more data sets: see the table of models.") == (count == 6)
    assert len(answer.content["take"]) == count


def test_cost_and_next_step_by_hand(tmp_path: Path) -> None:
    """Two methods of 6 trials, 3 confirmations and 3 seeds are 24 trainings; next come the commands, quoted."""
    run = write_run(tmp_path / "a run", **{**SMALL, "methods": 2}, trials=6)
    studies, lines = read_studies(run), build_report(run).answer.lines
    hours = sum(s.search_seconds + s.retrain_seconds for s in studies) / 3600
    assert lines[-2] == f"It took 24 trainings, {hours:.3g} trial-hours."
    assert lines[-1] == (
        f"Next: cotuning-tune export '{run.path}' --format torchscript; then cotuning-tune predict"
        f" EXPORT FOLDER. To compare the methods: cotuning-tune resume '{run.path}' --aim methods."
    )


def test_one_method_leaves_nothing_open(tmp_path: Path) -> None:
    """A run of one method has no line about methods, and ``report --aim methods`` says that there is one."""
    run = write_run(tmp_path / "run", **{**SMALL, "methods": 1}, trials=4)
    lines = build_report(run).answer.lines
    assert [line.split()[0] for line in lines] == ["Take", "It", "Next:"]
    assert "To compare" not in lines[-1]
    with pytest.raises(UserError, match="has one method: there is nothing to compare"):
        build_report(run, "methods")


@pytest.fixture
def shared(tmp_path: Path) -> RunDir:
    """Eight small searches of four trials each that compare four methods."""
    return write_searches(tmp_path / "run", small=8, aim="methods", **SMALL)


def best_search(run: RunDir) -> tuple[RunDir, StudyResult]:
    """The search and study of the highest validation accuracy, read from all files."""
    every = [(one, s) for one in (run, *run.repeats()) for s in read_studies(one)]
    return max(every, key=lambda found: (found[1].selection or {"val_score": 0.0})["val_score"])


def test_methods_lead_where_they_were_asked_for(shared: RunDir) -> None:
    """The set of possible bests with its unit opens the answer; the model is that of the best validation of all."""
    lines = build_report(shared).answer.lines
    assert lines[0].startswith("Of 4 methods, ")
    assert " may be the best on birds, over 8 searches of 4 trials, each with its own validation split: " in lines[0]
    owner, chosen = best_search(shared)
    assert owner.path != shared.path
    taken = next(line for line in lines if line.startswith("Take "))
    assert taken.startswith(f"Take {chosen.method}: {fmean(chosen.scores):.1f} %")
    assert lines[-1].startswith(f"Next: cotuning-tune export {shared.path} --format torchscript; ")
    assert best_study(shared)[:2] == (owner, chosen.name)  # what that command exports
    assert lines[-2].startswith("It took 160 trainings, ")  # 8 searches x 4 methods x (4 trials + 1 retraining)
    assert build_report(shared, "model").answer.lines[0] == taken


def test_the_main_table_pools_small_searches(shared: RunDir) -> None:
    """Each method's mean is over its eight searches, and the note says so; the budgets are those of all."""
    tables = {table.name: table for table in build_report(shared).tables}
    for row in tables["main"].rows:
        files = [p for one in (shared, *shared.repeats()) for p in one.path.glob(f"studies/*-{row[0]}/retrain/*/re*")]
        assert len(files) == 8
        assert row[1].startswith(f"{fmean(read_json(path)['test_score'] for path in files):.2f} ± ")
    assert "over 8 searches, each retrained once." in tables["main"].note
    assert {row[1] for row in tables["budget"].rows} == {"32"}
    assert {row[-2] for row in tables["budget"].rows} == {"8"}


def test_the_configuration_is_that_of_the_model_to_take(shared: RunDir) -> None:
    """Models, configurations and commands are those of the search whose model is taken, and the notes name it."""
    owner, chosen = best_search(shared)
    tables = {table.name: table for table in build_report(shared).tables}
    row = next(row for row in tables["configurations"].rows if row[0] == chosen.method)
    assert row[3] == f"{(chosen.selection or {})['val_score']:.2f}"
    number = 2 + [one.path for one in shared.repeats()].index(owner.path)
    assert tables["models"].note.endswith(f"Of search {number}, whose model is the one to take.")
    assert tables["configurations"].note.startswith(f"Chosen in search {number} by: best validation accuracy")
    assert all(str(owner.experiment_file) in row[-1] for row in tables["reproduce"].rows)


def test_methods_asked_for_where_they_are_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``report --aim methods`` of one search on one data set is one line that says what to do; exit code 2."""
    run = write_run(tmp_path / "run", **SMALL, trials=3)
    assert main(["report", str(run.path), "--aim", "methods"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "one data set searched once is one unit" in line
    assert line.endswith(f"To compare them: cotuning-tune resume {run.path} --aim methods, or more data sets")


def test_methods_lead_over_data_sets_when_asked(tmp_path: Path) -> None:
    """A run over data sets opens with its models, and with its methods by ``report --aim methods``."""
    run = write_run(tmp_path / "run", **{**SMALL, "tasks": DATA_SETS[:3]}, trials=4)
    plain, asked = build_report(run).answer.lines, build_report(run, "methods").answer.lines
    assert plain[0].startswith("Take ")
    assert asked[0].startswith("Of 4 methods, ")
    assert "on these 3 data sets" in asked[0]
    assert sorted(plain) == sorted(asked)


def test_small_searches_beside_a_models_run(tmp_path: Path) -> None:
    """They are the units, and fill the main table; the model, its configuration and commands stay the run's own."""
    run = write_searches(tmp_path / "run", small=8, **SMALL, trials=6)
    report, own = build_report(run), max(read_studies(run), key=lambda s: (s.selection or {})["val_score"])
    lines = report.answer.lines
    assert lines[0].startswith(f"Take {own.method}: {fmean(own.scores):.1f} %")
    assert "on birds, over 8 searches of 4 trials, each with its own validation split" in lines[1]
    assert "To compare the methods" not in lines[-1]
    tables = {table.name: table for table in report.tables}
    assert {row[1] for row in tables["statistics"].rows} == {"8"}
    assert "over 8 searches, each retrained once" in tables["main"].note
    row = next(row for row in tables["configurations"].rows if row[0] == own.method)
    assert row[3] == f"{(own.selection or {})['val_score']:.2f}"
    assert tables["configurations"].note.startswith("Chosen by: of the 3 best, once more on another split")
    assert "whose model" not in tables["models"].note
    assert not [remark for remark in report.remarks if remark.startswith(("WARNING", "UNEQUAL"))]


def test_searches_that_have_not_ended_are_not_asked_for_again(tmp_path: Path) -> None:
    """Where small searches are under way the answer names no further command to compare: the run goes on by itself."""
    run = write_searches(tmp_path / "run", small=2, aim="methods", **SMALL)
    for path in run.repeats()[0].path.glob("studies/*/retrain/*/result.json"):
        path.unlink()
    report = build_report(run)
    assert report.answer.content["unit"] == ""
    assert "To compare the methods" not in report.answer.lines[-1]
    assert any(remark.startswith("Search 2 of 2 has not ended: cotuning-tune resume") for remark in report.remarks)
    with pytest.raises(UserError, match=f"To compare them: cotuning-tune resume {run.path}, or more"):
        build_report(run, "methods")


def test_stopped_trials_are_judged(tmp_path: Path) -> None:
    """With early stopping a method that is better by far is called so, and the remark on equal terms names the rule."""
    run = write_run(tmp_path / "run", DATA_SETS, (1.0,), 5, 3, 12, epochs=4, pruned=0.8, files=False)
    report = build_report(run)
    assert sum(s.count("PRUNED") for s in report.studies) > 20
    verdicts = {row[0]: row[-1] for table in report.tables if table.name == "statistics" for row in table.rows}
    assert verdicts["co_tuning"] == "better on these 6 data sets"
    assert "Better than fine_tune on these 6 data sets, in points: co_tuning +" in "\n".join(report.answer.lines)
    (equal,) = [remark for remark in report.remarks if remark.startswith("Equal terms")]
    told = re.search(r"by the same rule \(asha\) some were stopped early \((.*)\)\.$", equal)
    assert told
    counts = {m: sum(s.count("PRUNED") for s in report.studies if s.method == m) for m in verdicts | {"fine_tune": ""}}
    assert dict(one.split() for one in told[1].split(", ")) == {m: str(n) for m, n in counts.items() if n}


def test_summary_json_holds_the_answer(tmp_path: Path) -> None:
    """What a program asks for: the models to take with their figures, the methods that may be the best, the unit."""
    run = write_run(tmp_path / "run", **{**SMALL, "tasks": DATA_SETS[:2]}, trials=4)
    run.raise_incarnation()
    stream = Stream(run, [Summary()])
    stream.tell(Checked({run.name: Standing()}))
    report = _report(run, stream)
    stream.tell(Ended("complete", ""))
    answer = read_json(run.summary)["answer"]
    assert answer == report.answer.content
    assert set(answer["may_be_best"]) <= {"fine_tune", "l2_sp", "delta", "bss"}
    assert len(answer["may_be_best"]) >= 1
    assert answer["unit"] == "on these 2 data sets"
    assert answer["least_difference"] > 0
    first = answer["take"][0]
    assert first["run"] == str(run.path)
    assert first["interval"][0] < first["test_score"] < first["interval"][1]
    assert run.study(first["study"]).selection.exists()


def test_all_may_be_best_where_nothing_is_known(tmp_path: Path) -> None:
    """One data set searched once excludes no method, and has no unit."""
    answer = build_report(write_run(tmp_path / "run", **SMALL, trials=3)).answer.content
    assert answer["may_be_best"] == ["fine_tune", "l2_sp", "delta", "bss"]
    assert (answer["unit"], answer["least_difference"]) == ("", None)


def _grown(folder: Path) -> RunDir:
    run = write_run(folder, **SMALL, trials=4)
    write_json(run.budget, {"trials": 4, "grown": [{"from": 2, "to": 4}]})
    return run


def test_what_the_hours_gave(tmp_path: Path) -> None:
    """The report says how many trials a search of hours had, and by how much it was extended."""
    run = write_run(tmp_path / "run", **SMALL, trials=4)
    text = run.experiment_file.read_text()
    run.experiment_file.write_text(set_key(text, ["experiment", "hours"], 8))
    assert not any("hours of" in remark for remark in build_report(run).remarks)
    write_json(run.budget, {"hours": 10.5, "grown": [{"from": 8.0, "to": 10.5, "of": "hours"}]})
    write_json(run.time_used, {"hours": 10.5, "trials": 4, "time": 0.0})
    remarks = build_report(run).remarks
    assert "The 10.5 hours of the search gave every study 4 trial(s): a round that has begun is finished." in remarks
    assert "The run was extended: 8 -> 10.5 hours of search." in remarks


def _faulty(folder: Path) -> RunDir:
    """Validation unlike test at two rates, edited results, a seed lost, an edited ledger."""
    run = write_run(folder, **{**SMALL, "tasks": DATA_SETS[:2], "rates": (0.15, 1.0)}, trials=4)
    for path in run.path.glob("studies/birds-*/retrain/seed*/result.json"):
        write_json(path, {**read_json(path), "test_score": 20.0}, durable=False)
    path = run.study("cars-1.00-bss").retrain(1).result
    write_json(path, {**read_json(path), "state": "FAIL", "reason": "not finite"})
    write_bytes(run.ledger, run.ledger.read_bytes().replace(b'"rate": 1.0', b'"rate": 0.5', 1))
    return run


def test_the_page_marks_what_the_answer_says() -> None:
    """A warning in the answer looks like one; code and options are elements; signs of a name stay text."""
    page = page_html("made", Answer(["WARNING: see `data verify`", "Take <b>: export --format x"], {}), [], [], [], [])
    assert '<li class="warning">WARNING: see <code>data verify</code></li>' in page
    assert '<li class="plain">Take &lt;b&gt;: export <span class="option">--format</span> x</li>' in page


def test_the_picture_shows_the_models_at_hand(tmp_path: Path) -> None:
    """One picture a data set: a row a model with the interval of the table of models, the one to take marked."""
    run = write_run(tmp_path / "run", **{**SMALL, "tasks": DATA_SETS[:2]}, trials=6)
    report = build_report(run)
    table = next(table for table in report.tables if table.name == "models")
    drawn = [
        [row.name, forest.title, f"{row.score:.2f}", "{:.1f} to {:.1f}".format(*(row.interval or ()))]
        for forest in report.answer.pictures
        for row in forest.rows
    ]
    assert drawn == [row[:4] for row in table.rows]
    for forest, line in zip(report.answer.pictures, report.answer.lines, strict=False):
        assert [f"Take {row.name} on " in line for row in forest.rows] == [row.taken for row in forest.rows]
    write_report(run)
    page = (run.report / "index.html").read_text(encoding="utf-8")
    assert page.count('<circle cx="') == len(table.rows)
    assert page.count('<span class="taken">') == 2


def test_one_model_has_no_picture(tmp_path: Path) -> None:
    """There is nothing to compare it with: the sentence says it all."""
    assert build_report(write_run(tmp_path / "run", **{**SMALL, "methods": 1}, trials=4)).answer.pictures == []


def test_an_axis_by_hand() -> None:
    """Round ticks around all rows, the places in between in proportion; equal scores and no interval have an axis."""
    forest = Forest("", ACCURACY, [Row("a", 75.0, (71.5, 78.2)), Row("b", 70.0, (66.1, 73.5), taken=True)])
    assert forest.ticks == [65.0, 70.0, 75.0, 80.0]
    assert [forest.at(value) for value in (65.0, 72.5, 80.0)] == ["0.00%", "50.00%", "100.00%"]
    assert forest.text(forest.rows[1]) == "b: 70.0 % (66.1 to 73.5)"
    alone = Forest("", METRICS["nll"], [Row("a", 0.25, None)])
    assert len(alone.ticks) > 1
    assert alone.text(alone.rows[0]) == "a: 0.250"


MADE: dict[str, Callable[[Path], RunDir]] = {
    "one data set": lambda folder: write_run(folder, **SMALL, trials=12, pruned=0.0),
    "six data sets": lambda folder: write_run(folder, DATA_SETS, (0.15, 1.0), 4, 3, 12, epochs=3, files=False),
    "asha": lambda folder: write_run(folder, ("birds",), (0.15, 1.0), 5, 3, 16, pruned=0.9, files=False),
    "repeats": lambda folder: write_searches(folder, repeats=2, **SMALL, trials=8),
    "small searches": lambda folder: write_searches(folder, small=8, aim="methods", **SMALL),
    "small searches beside": lambda folder: write_searches(folder, small=8, **SMALL, trials=8),
    "grown": _grown,
    "faulty": _faulty,
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_nothing_is_said_twice(tmp_path: Path, make: Callable[[Path], RunDir]) -> None:
    """No sentence of report.md stands in it twice, whether of the answer, a table's note or a remark."""
    lines = build_report(make(tmp_path / "run")).markdown().splitlines()
    told = [line.removeprefix("- ") for line in lines if line and not line.startswith(("|", "#"))]
    said = [sentence for line in told for sentence in re.split(r"(?<=[.]) ", line) if len(sentence.split()) > 2]
    assert len(said) > 15
    assert {sentence: count for sentence, count in Counter(said).items() if count > 1} == {}
