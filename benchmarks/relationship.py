"""Learning the relationship against 17 cold fits with scikit-learn as published (lbfgs, 100 iterations).

python benchmarks/relationship.py [--small] [--pairs 5] [--json FILE]

The NLL is that of each side's chosen classifier on the validation split, after the one scale of Algorithm 1; it is not
timed. The published fits stop short of convergence, which regularises: with classes that overlap much (`--noise 1`)
their NLL can be lower than that of converged fits, whose objective is lower and whose accuracy is no worse.
Set OMP_NUM_THREADS=1 for both sides on a machine that others use.
"""

import argparse
import json
import math
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from pairs import Comparison, compare, keep
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cotuning_tune.relationship import _learn, fit_temperature, learn_relationship

C_VALUES = (1e4, 3e3, 1e3, 3e2, 1e2, 3e1, 1e1, 3.0, 1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
SIZES = {"small": (500, 100, 20), "full": (5000, 1000, 200)}


def made_up(images: int, sources: int, targets: int, noise: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Peaked source logits, as a real network gives: classes of both kinds stand around common centres.

    Neighbouring target classes are mixed up and most source classes are hardly ever predicted; the largest
    probability is about 0.5 on average.
    """
    dim, fixed, drawn = 128, np.random.default_rng(0), np.random.default_rng(seed)
    centres = fixed.normal(size=(max(2, sources // 16), dim))
    heads = centres[fixed.integers(len(centres), size=sources)] + 0.7 * fixed.normal(size=(sources, dim))
    near = fixed.integers(len(centres) // 3 + 1, size=targets)
    prototypes = centres[near] + 0.7 * fixed.normal(size=(targets, dim))
    labels = np.arange(images) % targets
    features = prototypes[labels] + noise * drawn.normal(size=(images, dim))
    logits = 2.0 * features @ heads.T / math.sqrt(dim)
    return torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(labels)


def nll(logits_MT: torch.Tensor, labels_M: torch.Tensor) -> float:
    """Mean validation NLL after calibration."""
    logits_MT = logits_MT.double()
    return float(torch.nn.functional.cross_entropy(logits_MT / fit_temperature(logits_MT, labels_M), labels_M))


def published(train: tuple[torch.Tensor, torch.Tensor], val: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The authors' way: a cold fit for each C, the best by accuracy. Gives its logits of the validation split."""
    p, q = torch.softmax(train[0], 1).numpy(), torch.softmax(val[0], 1).numpy()
    best, score = None, -math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for c in C_VALUES:
            fit = LogisticRegression(C=c, fit_intercept=False, max_iter=100).fit(p, train[1].numpy())
            if (found := fit.score(q, val[1].numpy())) > score:
                best, score = fit, found
    assert best is not None
    return torch.from_numpy(best.decision_function(q))


def chosen_logits(train: tuple[torch.Tensor, torch.Tensor], val: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Validation logits of the classifier inside `learn_relationship`, which gives back only the matrix."""
    parts = [_learn._split(*part, 1.0, torch.device("cpu")) for part in (train, val)]
    return parts[1].p_BS @ _learn.choose_classifier(*parts).weights_SK


def main(argv: list[str] | None = None) -> Comparison:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="N = 500, S = 100, T = 20")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--noise", type=float, default=1.0, help="how much target classes overlap (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    options = parser.parse_args(argv)
    images, sources, targets = SIZES["small" if options.small else "full"]
    train = made_up(images, sources, targets, options.noise, 1)
    val = made_up(images // 4, sources, targets, options.noise, 2)
    found: dict[str, torch.Tensor] = {}

    def ours() -> None:
        learn_relationship(*train, *val, num_classes=targets)

    def theirs() -> None:
        found["scikit-learn"] = published(train, val)

    size = f"N = {images}, S = {sources}, T = {targets}"
    comparison = compare(f"relationship {size} / scikit-learn", ours, theirs, "at most 0.2", options.pairs)
    found["ours"] = chosen_logits(train, val)
    notes = [
        f"{name}: validation NLL {nll(logits, val[1]):.4f}, accuracy {(logits.argmax(1) == val[1]).double().mean():.4f}"
        for name, logits in found.items()
    ]
    comparison = Comparison(**{**vars(comparison), "note": "; ".join(notes)})
    keep("relationship-small" if options.small else "relationship", [comparison])
    if options.json:
        options.json.write_text(json.dumps(asdict(comparison), indent=2) + "\n")
    return comparison


if __name__ == "__main__":
    main()
