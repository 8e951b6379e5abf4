"""Early stopping, decided over the durable study of one study: nothing to lose when a driver dies."""

from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner


def make_pruner(kind: str, epochs: int) -> BasePruner:
    """The rule that stops trials early.

    asha: successive halving (Li et al. 2020), rungs at epochs 1, 3, 9, ...; the best third continues, and
    the rungs stand in the study. median: below the median of the study's trials at the same epoch, from
    the fifth trial and a quarter of the epochs on. none: every trial runs to its end.
    """
    if kind == "asha":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    if kind == "median":
        return MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 4))
    return NopPruner()
