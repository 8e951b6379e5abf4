"""How far a run is, read from its studies."""

from optuna.trial import TrialState

from cotuning_tune.experiment import Experiment
from cotuning_tune.run_dir import RunDir
from cotuning_tune.search.storage import open_storage
from cotuning_tune.search.study import Studies
from cotuning_tune.tables import Table


def status_table(run: RunDir, experiment: Experiment) -> Table:
    """Trials by state and best validation accuracy of each cell, and how many seeds are retrained."""
    studies = Studies(experiment, open_storage(run), run)
    rows = []
    for name, cell in studies.cells.items():
        counts, best = cell.counts(), cell.best()
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)
        seeds = [seed for seed in experiment.config.seeds if run.cell(name).retrain(seed).result.exists()]
        accuracy = f"{best.value:.2f}" if best and best.value is not None else "-"
        numbers = [str(counts[state]) for state in states]
        rows.append([name, str(cell.budget), *numbers, accuracy, f"{len(seeds)}/{len(experiment.config.seeds)}"])
    header = ["cell", "asked", "complete", "stopped", "running", "failed", "best val. (%)", "retrained"]
    return Table("status", "Status", header, rows)
