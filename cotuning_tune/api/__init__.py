"""The product from Python, in a script or a notebook: what the command line does, on the same road.

>>> import cotuning_tune as ct
>>> experiment = ct.Experiment.from_file("search_spaces/demo.toml")
>>> run = ct.run(experiment, storage="runs")
>>> run.table(), run.best().values, run.best().predict(["cat.jpg"])
"""

from cotuning_tune.api._asked import Experiment
from cotuning_tune.api._best import Best
from cotuning_tune.api._model import Labelled, Model
from cotuning_tune.api._plan import Plan
from cotuning_tune.api._run import Interrupted, Run, Statistics, Status, open_run, run
from cotuning_tune.base.errors import UserError

__all__ = [
    "Best",
    "Experiment",
    "Interrupted",
    "Labelled",
    "Model",
    "Plan",
    "Run",
    "Statistics",
    "Status",
    "UserError",
    "open_run",
    "run",
]
