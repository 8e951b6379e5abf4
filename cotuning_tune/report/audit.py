"""Whether a run's files still say what search, retraining and test ledger wrote; how many test evaluations there were.

Every file that does not fit is named. Damage, careless edits and lines cut off the ledger's end show (how far it went
is kept with the trials too); an owner who rewrites the files, all hashes and the studies alike is not found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json
from cotuning_tune.base.tables import Table
from cotuning_tune.report.results import StudyResult
from cotuning_tune.runs import ledger
from cotuning_tune.runs.choice import choose, judged, rule_of
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.predictions import file_hash
from cotuning_tune.runs.records import Confirmation, TrialRow, present
from cotuning_tune.runs.snapshot import DataRecord, read_record

HeadOf = Callable[[RunDir], ledger.Head | None]
EDITED = "damaged or edited"
NAMED = 3


@dataclass(frozen=True)
class StudyAudit:
    """The evaluations of a study's test split, the models that need one each, and what does not fit."""

    study: StudyResult
    evaluations: int
    needed: int
    configurations: int
    problems: list[str]

    @property
    def too_often(self) -> bool:
        return self.evaluations > self.needed


def _name(study: StudyResult) -> str:
    assert study.folder is not None
    return f"studies/{study.folder.name}"


def _selection_problems(study: StudyResult) -> list[str]:
    """``selection.json`` against ``study.json``, its own hash, and the chosen trial's ``result.json``."""
    chosen, where = study.selection, f"{_name(study)}/selection.json"
    rows, again = cast(list[TrialRow], study.trials), cast(list[Confirmation], study.confirmations)
    rule = rule_of(chosen["rule"] if chosen else "", study.metric)
    best = choose(rows, again, rule, study.metric)
    assert study.folder is not None
    if chosen is None:
        return [f"{where} is missing: study.json has a trial to choose"] if best else []
    problems = []
    if chosen.get("study_hash") != ledger.content_hash(read_json(study.folder.summary)):
        problems.append(f"{_name(study)}/study.json is not the one that the selection was made from: {EDITED}")
    if best is None or chosen["trial"] != best["number"]:
        rule = f"trial {best['number']} is the best by the rule" if best else "no trial can be chosen"
        problems.append(f"{where} names trial {chosen['trial']}, but in study.json {rule}")
    elif chosen["values"] != best["values"] or chosen["val_score"] != judged(best, again, rows, rule, study.metric):
        problems.append(f"{where} gives trial {best['number']} other values than study.json: {EDITED}")
    if chosen.get("config") != ledger.config_hash(chosen["spec"]):
        problems.append(f"{where}: its configuration does not have the hash beside it: {EDITED}")
    result = study.folder.trial(chosen["trial"]).result
    if best and result.exists() and read_json(result)["value"] != best["score"]:
        problems.append(f"{_name(study)}/trials/{chosen['trial']:04d}/result.json gives another score: {EDITED}")
    return problems


def _configuration_problem(study: StudyResult, result: dict[str, Any], where: str) -> str:
    """A retraining's own configuration against the selection's."""
    assert study.folder is not None
    config, chosen = study.folder.retrain(result["seed"]).config, study.selection or {}
    if chosen and result.get("config") != chosen.get("config"):
        return f"{where} is of another configuration than the selection: retrain again (cotuning-tune retrain)"
    if not config.exists():
        return f"{where}: its config.json is missing"
    kept = read_json(config)
    spec = kept["spec"] | {"seed": chosen.get("spec", kept["spec"])["seed"]}
    fits = kept["seed"] == result["seed"] and kept["config"] == result.get("config") == ledger.config_hash(spec)
    return "" if fits else f"{where}: config.json beside it does not have the configuration's hash: {EDITED}"


def _predictions_problem(study: StudyResult, result: dict[str, Any]) -> str:
    """``predictions.npz`` against the hash in the result beside it; earlier versions kept none."""
    assert study.folder is not None
    file = study.folder.retrain(result["seed"]).predictions
    where = f"{_name(study)}/retrain/seed{result['seed']}/{file.name}"
    if "predictions" not in result:
        return ""
    try:
        same = file_hash(file.read_bytes()) == result["predictions"]
    except FileNotFoundError:
        return f"{where} is missing: result.json knows its hash"
    return "" if same else f"{where} does not have the hash that result.json records: {EDITED}"


def _data_problem(study: StudyResult, result: dict[str, Any], where: str, data: DataRecord) -> str:
    """The test images of a result against those that the run has recorded; earlier versions recorded none."""
    known = data["tasks"].get(study.task)
    if known is None or "data" not in result or result["data"] == known["keys"]["test"]:
        return ""
    return f"{where} was tested on other images than those in data.json"


def _as_written(study: StudyResult, result: dict[str, Any]) -> Any:
    """A result as its file has it: its hash is that of the names that its version wrote."""
    assert study.folder is not None
    return read_json(study.folder.retrain(result["seed"]).result)


def _result_problems(study: StudyResult, entries: list[tuple[int, dict[str, Any]]], data: DataRecord) -> list[str]:
    """Every ``result.json`` against the ledger's line of it; ``entries``: the study's, with their line numbers."""
    problems, name = [], _name(study)
    written = {(e.get("seed"), e.get("config")): (n, e) for n, e in entries if e.get("event") == "result"}
    tested = {(e.get("seed"), e.get("config")) for _, e in entries if e.get("event") == "test_evaluation"}
    for result in study.seeds:
        where, key = f"{name}/retrain/seed{result['seed']}/result.json", (result["seed"], result.get("config"))
        if key in written:
            line, entry = written[key]
            same = present(entry).get("test_score") == result.get("test_score")
            if entry.get("result") != ledger.content_hash(_as_written(study, result)) or not same:
                problems.append(f"{where} is not what line {line} of the test ledger recorded: {EDITED}")
        elif result["state"] == "COMPLETE":
            problems.append(f"{where} has a test score that the test ledger does not know: {EDITED}")
        if result["state"] == "COMPLETE" and key not in tested:
            problems.append(f"{where} was tested without a test evaluation in the test ledger")
        found = (
            _configuration_problem(study, result, where),
            _predictions_problem(study, result),
            _data_problem(study, result, where, data),
        )
        problems += [problem for problem in found if problem]
    there = {result["seed"] for result in study.seeds}
    lost = sorted(str(seed) for seed, _ in written if seed not in there)
    problems += [f"{name}/retrain/seed{seed}/result.json is missing: the test ledger knows its test" for seed in lost]
    return problems


def _pending(study: StudyResult, entries: list[tuple[int, dict[str, Any]]]) -> int:
    """Seeds whose test evaluation has begun and that have no result yet."""
    return len(
        {e.get("seed") for _, e in entries if e.get("event") == "test_evaluation"} - {s["seed"] for s in study.seeds}
    )


def audit_studies(run: RunDir, studies: list[StudyResult]) -> list[StudyAudit]:
    """Every study against the ledger, the files of its search and the data that the run has recorded."""
    data = read_record(run)
    by_study: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for number, entry in enumerate(ledger.read(run.ledger), 1):
        by_study.setdefault(str(entry.get("study")) if isinstance(entry, dict) else "", []).append((number, entry))
    audits = []
    for study in (c for c in studies if c.folder is not None):
        assert study.folder is not None
        entries = by_study.pop(study.folder.name, [])
        tested = [e.get("config") for _, e in entries if e.get("event") == "test_evaluation"]
        problems = _selection_problems(study) + _result_problems(study, entries, data)
        needed = len(study.scores) + _pending(study, entries)
        audits.append(StudyAudit(study, len(tested), needed, len(set(tested)), problems))
    return audits


def _numbered(lines: list[int]) -> str:
    more = f" and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    return f"line {', '.join(map(str, lines[:NAMED]))}{more}"


def _head_problem(run: RunDir, head_of: HeadOf | None) -> str:
    """The ledger's end against how far it went as the studies know it."""
    try:
        head = head_of(run) if head_of else None
    except UserError as problem:
        return f"whether {run.ledger.name} is whole at its end is not known: {problem}"
    if head is None or not ledger.is_cut(run.ledger, head):
        return ""
    return f"{run.ledger.name} ends too early: its studies know of {head['lines']} lines: some were taken out"


def _ledger_problems(run: RunDir, studies: list[StudyResult], head_of: HeadOf | None) -> list[str]:
    """Lines that break the chain, that no study of the run knows, or that were there."""
    name = run.ledger.name
    problems = [found] if (found := _head_problem(run, head_of)) else []
    if altered := ledger.altered_lines(run.ledger):
        problems.append(f"{name}: {_numbered(altered)} does not have its own hash: {EDITED}")
    if broken := ledger.broken_lines(run.ledger):
        problems.append(
            f"the chain of {name} is broken at {_numbered(broken)}: what stands before was edited or taken out"
        )
    known = {study.folder.name for study in studies if study.folder is not None}
    for number, entry in enumerate(ledger.read(run.ledger), 1):
        if not isinstance(entry, dict) or entry.get("study") not in known:
            problems.append(f"{name} line {number} belongs to no study of the run: {EDITED}")
    return problems


def audit_remarks(
    run: RunDir, studies: list[StudyResult], audits: list[StudyAudit], head_of: HeadOf | None = None
) -> list[str]:
    """How many test evaluations there were and for how many models; a warning for all that does not fit.

    ``head_of``: how far a search's ledger went, as its studies know it.
    """
    evaluations, needed = sum(a.evaluations for a in audits), sum(a.needed for a in audits)
    remarks = []
    if often := [a for a in audits if a.too_often]:
        named = [f"{a.study.shown} {a.evaluations} for {a.needed}" for a in often[:NAMED]]
        named += [f"{len(often) - NAMED} more studies (table audit)"] if len(often) > NAMED else []
        earlier = any(a.configurations > 1 for a in often)
        why = "earlier selections were tested too" if earlier else "a test was interrupted and done again, or repeated"
        remarks.append(f"WARNING: there are more test evaluations than models: {'; '.join(named)}: {why}.")
    problems = _ledger_problems(run, studies, head_of) + [problem for a in audits for problem in a.problems]
    remarks += [f"WARNING: {problem}." for problem in problems]
    tests = f"{evaluations} test evaluations for {needed} retrained models ({run.ledger.name})"
    fits = "" if problems else "; ledger, selections, configurations and results fit together, no edit was found"
    return [*remarks, f"Audit: {tests}{fits}."]


def audit_table(audits: list[StudyAudit]) -> Table:
    """Test evaluations and fit of every study."""
    rows = [
        [
            a.study.method,
            a.study.setting,
            str(a.needed),
            str(a.evaluations),
            str(a.configurations),
            "; ".join(a.problems) or "fits",
        ]
        for a in audits
    ]
    header = ["method", "study", "tested models", "test evaluations", "configurations", "files"]
    return Table("audit", "Audit", header, rows, "Each tested model needs one test evaluation.")
