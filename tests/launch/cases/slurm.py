"""Two nodes with four GPUs each, in a container, with all that a site may ask for."""

from pathlib import Path

from cotuning_tune.launch.backend import Request
from cotuning_tune.launch.backends.slurm import SlurmProfile

REQUEST = Request(
    experiment=Path("/shared/experiments/birds.toml"),
    name="birds",
    storage="/shared/runs",
    optuna_storage="postgresql://user:password@host/studies",
    profile=SlurmProfile(
        python="/shared/venv/bin/python",
        nodes=2,
        cpus=16,
        gpus=4,
        minutes=480,
        options=("--partition=gpu", "--mem=64G"),
        setup=("module load cuda", "source /shared/site.sh"),
        container="apptainer exec --nv '/shared/my image.sif'",
        network="ib0",
        warning=300,
        requeues=20,
    ),
    folder=Path("/home/user/.cotuning_tune/launches/birds"),
)
