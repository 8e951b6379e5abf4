"""Learning the relationship against 17 cold fits with scikit-learn as published (lbfgs, 100 iterations).

python benchmarks/relationship.py [--small] [--pairs 5]
"""

import argparse
import math
import warnings

import numpy as np
import torch
from pairs import Comparison, compare, keep
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cotuning_tune.relationship import fit_temperature, learn_relationship

C_VALUES = (1e4, 3e3, 1e3, 3e2, 1e2, 3e1, 1e1, 3.0, 1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
SIZES = {"small": (500, 100, 20), "full": (5000, 1000, 200)}


def made_up(images: int, sources: int, targets: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Peaked source logits, as a real network gives: each target class resembles a few source classes."""
    leaning = np.random.default_rng(0).normal(0, 2.0, (targets, sources)).astype(np.float32)
    labels = np.arange(images) % targets
    noise = np.random.default_rng(seed).normal(0, 2.0, (images, sources))
    return torch.from_numpy((leaning[labels] + noise).astype(np.float32)), torch.from_numpy(labels)


def nll(matrix_TS: torch.Tensor, q_MS: torch.Tensor, labels_M: torch.Tensor) -> float:
    """Mean calibrated validation NLL of classifying by the matrix, all target classes alike."""
    logits_MT = (q_MS.double() @ (matrix_TS / matrix_TS.sum(0)).T).log()
    return float(torch.nn.functional.cross_entropy(logits_MT / fit_temperature(logits_MT, labels_M), labels_M))


def published(train: tuple[torch.Tensor, torch.Tensor], val: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The authors' way: a cold fit for each C, the best by accuracy, calibrated, turned by Bayes."""
    p, q = torch.softmax(train[0], 1).numpy(), torch.softmax(val[0], 1).numpy()
    best, score = None, -math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for c in C_VALUES:
            fit = LogisticRegression(C=c, fit_intercept=False, max_iter=100).fit(p, train[1].numpy())
            if (found := fit.score(q, val[1].numpy())) > score:
                best, score = fit, found
    assert best is not None
    forward_TS = torch.softmax(torch.from_numpy(best.coef_), 0) * torch.from_numpy(np.concatenate([p, q]).mean(0))
    return (forward_TS / forward_TS.sum(1, keepdim=True)).double()


def main(argv: list[str] | None = None) -> Comparison:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="N = 500, S = 100, T = 20")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args(argv)
    images, sources, targets = SIZES["small" if options.small else "full"]
    train, val = made_up(images, sources, targets, 1), made_up(images // 4, sources, targets, 2)
    found: dict[str, torch.Tensor] = {}

    def ours() -> None:
        found["ours"] = learn_relationship(*train, *val, num_classes=targets).matrix_TS

    def theirs() -> None:
        found["theirs"] = published(train, val)

    size = f"N = {images}, S = {sources}, T = {targets}"
    comparison = compare(f"relationship {size} / scikit-learn", ours, theirs, "at most 0.2", options.pairs)
    q, labels = torch.softmax(val[0], 1), val[1]
    note = ", ".join(f"NLL {name} {nll(matrix, q, labels):.4f}" for name, matrix in found.items())
    comparison = Comparison(**{**vars(comparison), "note": note})
    keep("relationship-small" if options.small else "relationship", [comparison])
    return comparison


if __name__ == "__main__":
    main()
