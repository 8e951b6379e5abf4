"""Ends of trials, as tests tell them to a study: what its driver does with a ``result.json``."""

from cotuning_tune.search.study import OptunaStudy


def _end(study: OptunaStudy, number: int, state: str, value: float | None, reason: str, **facts: float | None) -> None:
    epochs = len(study.stored.trial(number).intermediate_values)
    known = {"seconds": 0.0, "loss": None, "share": None, **facts}
    result = {"state": state, "value": value, "epochs": epochs, "reason": reason, **known}
    study.end_as(number, result)  # type: ignore[arg-type]


def complete(study: OptunaStudy, number: int, accuracy: float, **facts: float | None) -> None:
    """COMPLETE with the validation accuracy (%) of the kept epoch; ``facts``: ``seconds``, ``loss``, ``share``."""
    _end(study, number, "COMPLETE", accuracy, "", **facts)


def prune(study: OptunaStudy, number: int, accuracy: float, **facts: float | None) -> None:
    """PRUNED with its last report."""
    _end(study, number, "PRUNED", accuracy, "stopped early", **facts)


def fail(study: OptunaStudy, number: int, reason: str, seconds: float = 0.0) -> None:
    """FAIL with its reason."""
    _end(study, number, "FAIL", None, reason, seconds=seconds)
