"""What the files of a run hold, as types. Accuracies in percent, times in seconds."""

from typing import NotRequired, TypedDict

Epoch = dict[str, float]  # a row of metrics.jsonl: epoch, val_accuracy, val_loss, train_*, lr, seconds, time
Values = dict[str, object]  # of hyper-parameters, by flat key; of a training, as TrainingSpec.to_json writes them


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

    ``crops``: of a retrained seed, how its test images are looked at; '' of a trial, which is never tested.
    """

    specs: list[Values]
    folder: str
    run: str
    incarnation: int
    threads: int
    crops: str


class Tested(TypedDict, total=False):
    """What the test split said; empty where the training failed.

    ``predictions``: the hash of predictions.npz; ``data``: the test split's key, as in data.json.
    """

    test_accuracy: float
    test_mean_class_accuracy: float
    test_loss: float
    test_images: int
    test_crops: str
    predictions: str
    data: str


class TrialReport(TypedDict):
    """What a worker reports after each step: all epochs so far, and of how many; ``failed`` with the reason.

    ``val_accuracy`` and ``val_loss``: of the epoch that is kept, the mean over the validation splits so far.
    ``own``: the method itself failed, and would again; ``fenced``: another process works here now; ``changed``: the
    worker has other data, and how, '' of the same. Of a seed: ``ready`` to be tested, and what came of it.
    """

    history: list[Epoch]
    val_accuracy: float
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
    """``result.json`` of a trial that has ended. ``value``: the validation accuracy (%) of the epoch that is kept.

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

    ``accuracy``, ``loss``: on validation, of the epoch that is kept, the mean over the validation splits.
    ``fixed``: 'published' defaults, the method 'off', 'weakest', or '' for a drawn one. ``share``: of the method's
    terms in the cross-entropy, over the whole training.
    """

    number: int
    state: str
    value: float | None
    accuracy: float | None
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
    accuracy: float | None
    epochs: int
    seconds: float
    reason: str


class Selection(TypedDict):
    """``selection.json``: the configuration that was chosen for a study."""

    task: str
    rate: float
    method: str
    trial: int
    val_accuracy: float
    val_accuracies: list[float]
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
    val_accuracy: float | None
    kept_epoch: float | None
    epochs: int
    seconds: float
    reason: str
    again: NotRequired[bool]
