"""An experiment in a folder that travels along, studies in a database."""

from pathlib import Path

from cotuning_tune.launch.backend import Request
from cotuning_tune.launch.backends.submit import SubmitProfile

REQUEST = Request(
    experiment=Path("search_spaces/tiny.toml"),
    name="tiny",
    storage="/shared/runs",
    optuna_storage="postgresql://me:password@database/studies",
    profile=SubmitProfile(
        python="/opt/venv/bin/python",
        working_dir="search_spaces",
        env=("COTUNING_TUNE_CACHE=/scratch/cache",),
        nodes=4,
    ),
    folder=Path("/home/user/.cotuning_tune/launches/tiny"),
)
