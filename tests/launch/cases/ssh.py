"""Two hosts with GPUs, an environment in the home folder."""

from pathlib import Path

from cotuning_tune.launch.backend import Request
from cotuning_tune.launch.backends.ssh import SshProfile

REQUEST = Request(
    experiment=Path("search_spaces/tiny.toml"),
    name="tiny",
    storage="/shared/runs",
    optuna_storage="",
    profile=SshProfile(
        hosts=("gpu1", "me@gpu2"),
        ssh_options=("-p", "2222"),
        python="~/venv/bin/python",
        setup=("module load cuda",),
        env=("COTUNING_TUNE_CACHE=/scratch/it's mine",),
        cpus=16,
        gpus=4,
    ),
    folder=Path("/home/user/.cotuning_tune/launches/tiny"),
)
