"""A run in pandas: the best trials, how each method came on, what the learning rate did.

python examples/pandas_on_a_run.py runs/demo
"""

import sys

import cotuning_tune as ct


def main(path: str) -> None:
    """Three tables of a run, finished or still running."""
    run = ct.open_run(path)
    trials = run.trials()
    print(trials.nlargest(5, "val_score")[["method", "trial", "val_score", "optim/lr"]].to_string(index=False))
    ended = trials[trials.state == "COMPLETE"].sort_values("trial")
    ended["best"] = ended.groupby("study").val_score.cummax()
    print(ended.pivot(index="trial", columns="study", values="best"))
    epochs = run.epochs()
    print(epochs[epochs.seed.isna()].groupby(["study", "epoch"]).val_score.mean().unstack("epoch").round(2))


if __name__ == "__main__":
    main(*sys.argv[1:])
