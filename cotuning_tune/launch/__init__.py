"""Launching a run on a cluster: one entry point, one preflight, the same verbs for every way.

A way is a file here (``_slurm.py``, ...): what it renders from the templates in the top-level ``launch/``, what
it starts, and how it tells, shows and stops what it has started. Imports neither torch nor ray.
"""

from cotuning_tune.launch.record import Launch, all_launches, find_launch
from cotuning_tune.launch.verbs import dry_run, launch, relaunch, state_of, stop
from cotuning_tune.launch.way import Plan, Request, Way
from cotuning_tune.launch.ways import way, way_help, way_names

__all__ = [
    "Launch",
    "Plan",
    "Request",
    "Way",
    "all_launches",
    "dry_run",
    "find_launch",
    "launch",
    "relaunch",
    "state_of",
    "stop",
    "way",
    "way_help",
    "way_names",
]
