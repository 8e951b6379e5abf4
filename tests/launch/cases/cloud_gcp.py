"""A run on Google Cloud with a wheel of one's own and keys for S3 in a file."""

from pathlib import Path

from cotuning_tune.launch.backend import Request
from cotuning_tune.launch.backends.cloud import CloudProfile

BACKEND = "cloud"
REQUEST = Request(
    experiment=Path("search_spaces/tiny.toml"),
    name="Tiny_on_gcp",
    storage="s3://bucket/runs",
    optuna_storage="postgresql://me:password@database/studies",
    profile=CloudProfile(
        provider="gcp",
        region="us-west1",
        zone="us-west1-a",
        project="my-project",
        package="/home/user/cotuning_tune-0.1.0-py3-none-any.whl",
        image="projects/ubuntu-os-accelerator-images/global/images/family/ubuntu-accelerator-2404-amd64-with-nvidia-570",
        head_type="n2-standard-4",
        worker_type="n1-standard-8",
        accelerator="nvidia-tesla-t4",
        cpus=8,
        service_account="ray@my-project.iam.gserviceaccount.com",
        environment="/home/user/s3-keys",
        down=False,
    ),
    folder=Path("/home/user/.cotuning_tune/launches/Tiny_on_gcp"),
)
