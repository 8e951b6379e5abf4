"""How far a run is, read from its studies; what they have lost, from the folders, as the next driver will find it."""

from typing import TypedDict

from optuna.trial import TrialState

from cotuning_tune.base.tables import Table
from cotuning_tune.experiment import Experiment
from cotuning_tune.runs.budget import Budget
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.records import Owner
from cotuning_tune.scores import common, metric_of
from cotuning_tune.search.driver import load_experiment
from cotuning_tune.search.repair import adopt_lost
from cotuning_tune.search.storage import close, read_storage
from cotuning_tune.search.study import Studies

COUNTED = ("budget", "complete", "pruned", "running", "failed")
STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)


class StudyStatus(TypedDict):
    """How far a study is: trials by state, confirmations and seeds done and in all."""

    study: str
    budget: int
    complete: int
    pruned: int
    running: int
    failed: int
    confirmed: int
    confirmations: int
    metric: str
    best_val_score: float | None
    retrained: int
    seeds: int


def studies_status(run: RunDir, experiment: Experiment) -> list[StudyStatus]:
    """How far each study of a search is; nothing is written."""
    storage = read_storage(run)
    studies = Studies(experiment, storage, run, reading=True)
    close(storage)
    adopt_lost(run, studies)
    found = list[StudyStatus]()
    for name, study in studies.by_name.items():
        counts, best = study.counts(), study.best()
        complete, pruned, running, failed = (counts[state] for state in STATES)
        found.append(
            StudyStatus(
                study=name,
                budget=study.budget,
                complete=complete,
                pruned=pruned,
                running=running,
                failed=failed,
                confirmed=sum(t.state.is_finished() for t in study.confirming()),
                confirmations=study.total - study.budget,
                metric=study.metric.name,
                best_val_score=best["score"] if best and best["state"] == "COMPLETE" else None,
                retrained=sum(run.study(name).retrain(seed).result.exists() for seed in experiment.seeds),
                seeds=len(experiment.seeds),
            )
        )
    return found


def status_table(run: RunDir, experiment: Experiment) -> Table:
    """Trials by state and best validation score of each study, and how many seeds are retrained."""
    rows, studies = [], studies_status(run, experiment)
    for one in studies:
        best = one["best_val_score"]
        score = "-" if best is None else metric_of(one["metric"]).text(best)
        numbers = [
            str(one["budget"]),
            str(one["complete"]),
            str(one["pruned"]),
            str(one["running"]),
            str(one["failed"]),
        ]
        again, seeds = f"{one['confirmed']}/{one['confirmations']}", f"{one['retrained']}/{one['seeds']}"
        rows.append([one["study"], *numbers, again, score, seeds])
    label = common(metric_of(one["metric"]) for one in studies).label
    return Table("status", "Status", ["study", *COUNTED, "confirmed", f"best val. {label}", "retrained"], rows)


def status_json(run: RunDir, experiment: Experiment, owner: Owner | None) -> dict[str, object]:
    """Where a run stands, with each search of its own; ``owner``: the driver that holds it."""
    size = Budget(run, experiment.trials, experiment.config.hours)
    used = {"used": size.clock.seconds / 3600, "of": size.hours} if size.hours else None
    begun = [repeat for repeat in run.repeats() if repeat.studies_folder.exists()]
    others = [{"run": str(one.path), "studies": studies_status(one, load_experiment(one))} for one in begun]
    return {
        "run": str(run.path),
        "studies": studies_status(run, experiment),
        "searches": run.searches,
        "repeats": others,
        "hours": used,
        "driver": {"user": owner["user"], "host": owner["host"], "pid": owner["pid"]} if owner else None,
    }


def time_line(run: RunDir, experiment: Experiment) -> str:
    """How much of its hours the search has used; '' where it has none."""
    size = Budget(run, experiment.trials, experiment.config.hours)
    return f"{size.clock.seconds / 3600:.2f} of {size.hours:g} hours of search are used" if size.hours else ""


def repeats_table(run: RunDir) -> Table:
    """How far each repeat of the search is, its studies taken together. One that has not begun is left untouched."""
    rows = []
    for number, repeat in enumerate(run.repeats(), 2):
        if not repeat.studies_folder.exists():
            rows.append([str(number), "not begun", *["-"] * 6])
            continue
        experiment = load_experiment(repeat)
        table = status_table(repeat, experiment).rows
        sums = [str(sum(int(row[column]) for row in table)) for column in range(1, 6)]
        tested = [sum(int(row[-1].split("/")[part]) for row in table) for part in (0, 1)]
        rows.append([str(number), str(experiment.config.search_seed), *sums, "/".join(map(str, tested))])
    header = ["search", "search seed", "budget", "complete", "pruned", "running", "failed", "retrained"]
    return Table("repeats", "Repeats", header, rows)
