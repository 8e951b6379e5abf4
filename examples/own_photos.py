"""A folder of photos, a sub-folder for each class, to a model and a prediction.

python examples/own_photos.py photos/ new.jpg
"""

import sys
from pathlib import Path

import cotuning_tune as ct


def main(photos: str, *new: str) -> None:
    """Search with the embedded backbone, show the answer, and say what the new images are."""
    experiment = ct.Experiment(
        name=Path(photos).resolve().name,
        tasks=["photos"],
        data={"photos": {"format": "image_folder", "root": photos}},
        methods=["fine_tune", "co_tuning"],
        backbone="efficientnet_lite0",
        trials=4,
        seeds=[0],
        task={"size": 64, "resize": 72},
        train={"epochs": 10, "batch_size": 8, "optim": {"lr": {"low": 1e-3, "high": 1e-2, "log": True}}},
    )
    run = ct.run(experiment, storage="runs")
    print(*run.statistics().lines, sep="\n")
    best = run.best()
    print(best)
    for found in best.predict(new):
        print(f"{found.image}: {found.label} ({100 * found.probability:.0f} %)")


if __name__ == "__main__":  # Ray's workers import this file again
    main(*sys.argv[1:])
