"""How far a run is, read from its studies; what they have lost, from the folders, as the next driver will find it."""

from optuna.trial import TrialState

from cotuning_tune.base.tables import Table
from cotuning_tune.experiment import Experiment
from cotuning_tune.runs.budget import Budget
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.scores import common
from cotuning_tune.search.driver import load_experiment
from cotuning_tune.search.repair import adopt_lost
from cotuning_tune.search.storage import close, read_storage
from cotuning_tune.search.study import Studies


def status_table(run: RunDir, experiment: Experiment) -> Table:
    """Trials by state and best validation score of each study, and how many seeds are retrained."""
    storage = read_storage(run)
    studies = Studies(experiment, storage, run, reading=True)
    close(storage)
    adopt_lost(run, studies)
    rows = []
    for name, study in studies.by_name.items():
        counts, best = study.counts(), study.best()
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)
        seeds = [seed for seed in experiment.seeds if run.study(name).retrain(seed).result.exists()]
        found = best["score"] if best and best["state"] == "COMPLETE" else None
        score = "-" if found is None else study.metric.text(found)
        numbers = [str(counts[state]) for state in states]
        again = f"{sum(t.state.is_finished() for t in study.confirming())}/{study.total - study.budget}"
        rows.append([name, str(study.budget), *numbers, again, score, f"{len(seeds)}/{len(experiment.seeds)}"])
    header = ["study", "budget", "complete", "pruned", "running", "failed", "confirmed"]
    header += [f"best val. {common(study.metric for study in studies.by_name.values()).label}", "retrained"]
    return Table("status", "Status", header, rows)


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
