"""Launching a run on a cluster: one entry point, one preflight, the same verbs for every backend.

A backend is a file here (``_slurm.py``, ...): what it renders from the templates in the top-level ``launch/``, what
it starts, and how it tells, shows and stops what it has started. Imports neither torch nor ray.
"""

from cotuning_tune.launch.backend import Backend, Plan, Request
from cotuning_tune.launch.backends import backend, backend_help, backend_names
from cotuning_tune.launch.record import Launch, all_launches, find_launch
from cotuning_tune.launch.verbs import dry_run, launch, relaunch, settled, state_of, stop

__all__ = [
    "Backend",
    "Launch",
    "Plan",
    "Request",
    "all_launches",
    "backend",
    "backend_help",
    "backend_names",
    "dry_run",
    "find_launch",
    "launch",
    "relaunch",
    "settled",
    "state_of",
    "stop",
]
