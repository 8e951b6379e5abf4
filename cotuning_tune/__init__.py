"""Distributed hyper-parameter search for transfer learning: co-tuning and its baselines on equal terms.

From Python: ``Experiment``, ``run``, ``open_run``, which give ``Plan``, ``Run``, ``Status``, ``Best`` and ``Model``; a
service is asked by ``Client``. A mistake in what was given is a ``UserError``; a search that had to stop, and
continues, an ``Interrupted``.
"""

from importlib import import_module
from typing import TYPE_CHECKING
from warnings import filterwarnings

__version__ = "0.1.0"
__all__ = [
    "Best",
    "Client",
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

if TYPE_CHECKING:
    from cotuning_tune.api import (
        Best,
        Experiment,
        Interrupted,
        Labelled,
        Model,
        Plan,
        Run,
        Statistics,
        Status,
        UserError,
        open_run,
        run,
    )
    from cotuning_tune.service.client import Client


def __getattr__(name: str) -> object:
    """The public names, imported when they are first used: the package itself imports nothing."""
    if name in __all__:
        # A notebook would show as if something were wrong what Optuna's tqdm and Ray say of packages for notebooks.
        filterwarnings("ignore", message="IProgress not found")
        import_module("logging").getLogger("ray.widgets").setLevel("ERROR")
        home = "cotuning_tune.service.client" if name == "Client" else "cotuning_tune.api"
        return getattr(import_module(home), name)
    raise AttributeError(f"module 'cotuning_tune' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
