"""Hear what happens to a search while it runs: an observer is any function of an event and of where the run stands.

python examples/callback.py search_spaces/tiny.toml
"""

import sys

import cotuning_tune as ct
from cotuning_tune.runs.events import SeedEnded, TrialEnded


def watch(event: object, _: object) -> None:
    """Say each trial's and each seed's end. An observer that raises is named and left out; the search continues."""
    match event:
        case TrialEnded(study, trial, "COMPLETE", value):
            print(f"{study} trial {trial}: {value:.2f} on validation")
        case SeedEnded(study, seed, test_score) if test_score is not None:
            print(f"{study} seed {seed}: {test_score:.2f} on test")


def main(experiment: str) -> None:
    """Run an experiment file with the observer in place of the progress line."""
    print(ct.run(experiment, storage="runs", progress=False, observers=[watch]).best())


if __name__ == "__main__":
    main(*sys.argv[1:])
