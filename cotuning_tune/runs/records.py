"""What the files of a run hold, as types, and the reading of those that an earlier version wrote.

A score is the study's metric (``scores``), in percent where that has one; times in seconds.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar, cast

from cotuning_tune.base.files import read_json, read_lines
from cotuning_tune.base.former_names import RECORDED

Epoch = dict[str, float]  # a row of metrics.jsonl: epoch, val_score, val_loss, val_*, train_*, lr, seconds, time
Values = dict[str, object]  # of hyper-parameters, by flat key; of a training, as TrainingSpec.to_json writes them
Record = TypeVar("Record", bound=Mapping[str, object])
CONFIRMS = "confirms"  # among a trial's attributes: the trial that is trained once more on another validation split
NESTED = ("trials", "confirmations")  # of a study: lists of records


def present(record: Record) -> Record:
    """A record under the present names, whichever version wrote it; of a study its trials too."""
    renamed = {now: record[then] for then, now in RECORDED.items() if then in record and now not in record}
    kept = {key: value for key, value in record.items() if RECORDED.get(key) not in renamed}
    for key in (name for name in NESTED if name in kept):
        kept[key] = [present(one) for one in cast(list[dict[str, object]], kept[key])]
    return cast(Record, {**kept, **renamed})


def read_facts(path: Path) -> Any:  # type: ignore[explicit-any]  # as read_json
    """``read_json`` of a study, a selection or a result, under the present names."""
    return present(read_json(path))


def read_rows(path: Path) -> list[Epoch]:
    """The rows of metrics.jsonl under the present names; none where there is no file."""
    return [present(row) for row in read_lines(path)]


def scores_of(history: Iterable[Epoch]) -> dict[int, float]:
    """By epoch the validation score, of those that were validated."""
    return {int(row["epoch"]): row["val_score"] for row in history if "val_score" in row}


class Owner(TypedDict):
    """``driver.lock``: who works on a run. ``started``: in clock ticks since boot, None where that is not known.

    ``machine``: whose process numbers they are; ``token``: of this one driver alone.
    """

    user: str
    host: str
    machine: str
    pid: int
    started: str | None
    since: float
    token: str


class TrialConfig(TypedDict):
    """What a worker is given of a training: a spec for each validation split, folders, the driver's number, threads.

    ``crops``: of a retrained seed, how its test examples are looked at; '' of a trial, which is never tested.
    ``state_every``: seconds of training that a kill may cost. ``each``: every epoch is validated.
    """

    specs: list[Values]
    folder: str
    run: str
    incarnation: int
    threads: int
    crops: str
    state_every: float
    each: bool


class Tested(TypedDict, total=False):
    """What the test split said; empty where the training failed.

    ``metric``: the score's name (accuracy where an earlier version wrote none); other figures stand beside it as
    ``test_NAME``. ``test_count``: examples. ``predictions``: the hash of predictions.npz; ``data``: the test split's
    key, as in data.json.
    """

    metric: str
    test_score: float
    test_accuracy: float
    test_mean_class_accuracy: float
    test_precision: float
    test_recall: float
    test_loss: float
    test_count: int
    test_crops: str
    predictions: str
    data: str


class TrialReport(TypedDict):
    """What a worker reports after each step: all epochs so far, and of how many; ``failed`` with the reason.

    ``val_score`` and ``val_loss``: of the epoch that is kept, the mean over the validation splits so far.
    ``own``: the method itself failed, and would again; ``fenced``: another process works here now; ``changed``: the
    worker has other data, and how, '' of the same. Of a seed: ``ready`` to be tested, and what came of it.
    """

    history: list[Epoch]
    val_score: float
    val_loss: float
    epochs: int
    completed: bool
    failed: str
    own: bool
    fenced: bool
    changed: str
    ready: bool
    tested: list[Tested]  # one at most: Tune takes dictionaries apart
    notices: list[str]
    done: bool


class TrialResult(TypedDict):
    """``result.json`` of a trial that has ended. ``value``: the validation score of the epoch that is kept.

    ``loss`` there, and ``share``, as in ``TrialRow``: None of one that failed.
    """

    state: str
    value: float | None
    epochs: int
    seconds: float
    reason: str
    loss: NotRequired[float | None]
    share: NotRequired[float | None]


class TrialRow(TypedDict):
    """A trial in ``study.json``. ``value``: Optuna's, of a stopped trial the last report.

    ``score``, ``loss``: on validation, of the epoch that is kept, the mean over the validation splits.
    ``fixed``: 'published' defaults, the method 'off', 'weakest', or '' for a drawn one. ``share``: of the method's
    terms in the cross-entropy, over the whole training.
    """

    number: int
    state: str
    value: float | None
    score: float | None
    loss: float | None
    share: float | None
    fixed: str
    values: Values
    epochs: int
    seconds: float
    reason: str
    reissued: int


class Confirmation(TypedDict):
    """A chosen few's training on another validation split: of which trial, and what came of it."""

    confirms: int
    state: str
    score: float | None
    epochs: int
    seconds: float
    reason: str


class Selection(TypedDict):
    """``selection.json``: the configuration that was chosen for a study."""

    task: str
    rate: float
    method: str
    trial: int
    val_score: float
    val_scores: list[float]
    values: Values
    hparams: Values
    state: str
    rule: str
    spec: Values
    config: str
    study_hash: str


class SeedResult(Tested):
    """``result.json`` of a retrained seed. ``again``: no fault of the method's, the next driver takes it up again."""

    state: str
    seed: int
    config: str
    val_score: float | None
    kept_epoch: float | None
    epochs: int
    seconds: float
    reason: str
    again: NotRequired[bool]
