"""A run on AWS with a role for the bucket and a group that lets in few."""

from pathlib import Path

from cotuning_tune.launch.backend import Request
from cotuning_tune.launch.backends.cloud import CloudProfile

REQUEST = Request(
    experiment=Path("search_spaces/tiny.toml"),
    name="tiny",
    storage="s3://bucket/runs",
    optuna_storage="postgresql://me:password@database/studies",
    profile=CloudProfile(
        package="git+https://example.org/cotuning_tune.git",
        security_group="sg-0123456789abcdef0",
        instance_profile="arn:aws:iam::123456789012:instance-profile/ray",
        image="ami-0123456789abcdef0",
    ),
    folder=Path("/home/user/.cotuning_tune/launches/tiny"),
)
