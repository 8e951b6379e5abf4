"""An experiment file: its studies, and the search space of each."""

from cotuning_tune.experiment._experiment import BACKBONE, SEARCH_SEED, Experiment, ExperimentConfig, Resources, Study
from cotuning_tune.experiment._read import TABLES, parse, read_experiment

__all__ = [
    "BACKBONE",
    "SEARCH_SEED",
    "TABLES",
    "Experiment",
    "ExperimentConfig",
    "Resources",
    "Study",
    "parse",
    "read_experiment",
]
