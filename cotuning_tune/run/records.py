"""What the files of a run hold, as types. Accuracies in percent, times in seconds."""

from typing import TypedDict

Epoch = dict[str, float]  # a row of metrics.jsonl: epoch, val_accuracy, val_loss, train_*, lr, seconds, time
Values = dict[str, object]  # of hyper-parameters, by flat key; of a training, as TrainingSpec.to_json writes them


class Owner(TypedDict):
    """``driver.lock``: who works on a run. ``started``: in clock ticks since boot, None where that is not known."""

    user: str
    host: str
    pid: int
    started: str | None
    since: float


class TrialConfig(TypedDict):
    """What a worker is given of a trial: its spec, the folders of trial and run, the driver's number, torch threads."""

    spec: Values
    folder: str
    run: str
    incarnation: int
    threads: int


class TrialReport(TypedDict):
    """What a worker reports after each epoch: all epochs so far, and of how many; ``failed`` with the reason."""

    history: list[Epoch]
    best_val_acc: float
    epochs: int
    completed: bool
    failed: str
    notices: list[str]
    done: bool


class TrialResult(TypedDict):
    """``result.json`` of a trial that has ended."""

    state: str
    value: float | None
    epochs: int
    seconds: float
    reason: str


class Trained(TypedDict):
    """What a worker says of a seed's training: ``failed`` with the reason where the method failed."""

    history: list[Epoch]
    failed: str


class Selection(TypedDict):
    """``selection.json``: the configuration that was chosen for a study."""

    task: str
    rate: float
    method: str
    trial: int
    val_accuracy: float
    values: Values
    hparams: Values
    at_edge: list[str]
    state: str
    rule: str
    spec: Values
    config: str
    study_hash: str


class Tested(TypedDict, total=False):
    """What the test split said; empty where the training failed. ``predictions``: the hash of predictions.npz."""

    test_accuracy: float
    test_mean_class_accuracy: float
    test_loss: float
    test_images: int
    test_crops: str
    predictions: str


class SeedResult(Tested):
    """``result.json`` of a retrained seed."""

    state: str
    seed: int
    config: str
    val_accuracy: float | None
    best_epoch: float | None
    epochs: int
    seconds: float
    reason: str
