"""Retraining: the chosen configuration of each study over the seeds, then one look at the test split.

The only place that opens a test split. The driver writes the ledger line before a test evaluation, so
that none goes unrecorded, whatever is killed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cotuning_tune.base.errors import TrainingFailed, UserError
from cotuning_tune.base.files import place, read_json, read_lines, write_bytes, write_json, write_lines
from cotuning_tune.cluster.driver import Driver
from cotuning_tune.data import Crops
from cotuning_tune.run import ledger
from cotuning_tune.run.events import Event, SeedEnded, SeedStarted, StageStarted, Standing
from cotuning_tune.run.folder import RunDir, StudyDir, TrialDir
from cotuning_tune.run.predictions import Predictions, file_hash, order_key
from cotuning_tune.run.records import Epoch, SeedResult, Selection, Tested, Trained, Values
from cotuning_tune.run.stream import Stream
from cotuning_tune.run.summary import with_seeds
from cotuning_tune.tensorboard.events import write_ended
from cotuning_tune.training import TrainingJob, TrainingSpec
from cotuning_tune.training.job import kept_row
from cotuning_tune.training.state import remove_states

PICTURES = ("validation/confusion", "validation/mistakes")


@dataclass(frozen=True)
class Retraining:
    """One seed of one study's chosen configuration; ``decode``: as in ``TaskConfig``, '' as in the search."""

    study: StudyDir
    seed: int
    selection: Selection
    decode: str = ""

    @property
    def folder(self) -> TrialDir:
        return self.study.retrain(self.seed)

    @property
    def spec(self) -> TrainingSpec:
        spec = TrainingSpec.from_json(self.selection["spec"])
        task_config = spec.task_config | ({"decode": self.decode} if self.decode else {})
        return replace(spec, seed=self.seed, task_config=task_config)

    @property
    def config_hash(self) -> str:
        """Of the configuration with the search's seed: the same for every seed of the retraining."""
        return ledger.config_hash(TrainingSpec.from_json(self.selection["spec"]).to_json())


def _train(spec: Values, folder: str, run: str, incarnation: int, threads: int) -> Trained:
    """Train one seed to its end, continuing from its state; keep the weights of the epoch that ``train.epoch`` names.

    Runs in a worker. Returns the history, and ``failed`` with the reason where the method failed. Beside the model
    stand pictures of its mistakes on the validation split.
    """
    import torch
    from safetensors.torch import save

    torch.set_num_threads(threads)
    owned, files = RunDir(place(run)), TrialDir(place(folder))
    job = TrainingJob(
        TrainingSpec.from_json(spec),
        files,
        keep_best=True,
        may_write=lambda size: owned.check_writable(incarnation, size),
    )
    try:
        while not job.finished:
            job.advance()
    except TrainingFailed as problem:
        return {"history": job.history, "failed": str(problem)}
    job.load_best()
    weights = {k: v.contiguous().cpu() for k, v in job.trainer.model.state_dict().items()}
    data = save(weights)
    job.check_owner(len(data))
    write_bytes(files.model, data)
    if summary := job.trainer.method.summary(job.trainer.task):
        write_json(files.method, summary)
    if job.spec.task_config["train_on"] == "train":  # else every validation image was trained on
        for tag, picture in _pictures(job).items():
            write_bytes(files.picture(tag), picture)
    return {"history": job.history, "failed": ""}


def _pictures(job: TrainingJob) -> dict[str, bytes]:
    """Confusion matrix and surest mistakes on the validation split, by tag: one more pass over it.

    Not of the test split: who sees its images tunes on them.
    """
    from cotuning_tune.inspection.mistakes import Judged, draw_confusion, draw_mistakes

    spec, trainer = job.spec, job.trainer
    title = f"{spec.task} at {100 * spec.rate:g} %, {spec.method}, seed {spec.seed}"
    task = trainer.task
    found = trainer.judge(task.val)
    judged = Judged(title, task.val, task.class_names, found.predicted_N, found.probability_N)
    return dict(zip(PICTURES, (draw_confusion(judged), draw_mistakes(judged)), strict=True))


def _test(spec: Values, folder: str, run: str, incarnation: int, threads: int, crops: Crops) -> Tested:
    """Open the test split once with the kept weights; keep what they say of each image. Runs in a worker."""
    import torch
    from safetensors.torch import load

    torch.set_num_threads(threads)
    owned, files = RunDir(place(run)), TrialDir(place(folder))
    trainer = TrainingJob(TrainingSpec.from_json(spec)).trainer
    trainer.model.load_state_dict(load(files.model.read_bytes()))
    split, classes = trainer.task.open_test(), tuple(map(str, trainer.task.class_names))
    judged = trainer.judge(split, crops)
    tested = trainer.evaluation(judged)
    found = (judged.labels_N, judged.predicted_N, judged.probability_N, judged.loss_N)
    labels, predicted, confidence, nll = (part.numpy() for part in found)
    data = Predictions(labels, predicted, confidence, nll, order_key(split.names), classes).packed()
    owned.check_writable(incarnation, len(data))
    write_bytes(files.predictions, data)
    return {
        "test_accuracy": tested.accuracy,
        "test_mean_class_accuracy": tested.class_accuracy,
        "test_loss": tested.loss,
        "test_images": tested.count,
        "test_crops": crops,
        "predictions": file_hash(data),
    }


def planned(run: RunDir, seeds: tuple[int, ...], decode: str = "") -> list[Retraining]:
    """Every retraining of the run. Raises UserError where no study has a selection."""
    studies = [study for study in run.study_folders() if study.selection.exists()]
    if not studies:
        raise UserError(f"{run.path} has no selected configuration: search first (cotuning-tune resume)")
    return [Retraining(study, seed, read_json(study.selection), decode) for study in studies for seed in seeds]


def run_retraining(
    run: RunDir, seeds: tuple[int, ...], driver: Driver, *, crops: Crops = "centre", decode: str = ""
) -> None:
    """Retrain what has no result yet, side by side on the connected cluster; resumable at any moment.

    ``crops``: how the test images are looked at; ``decode``: '' as in the search.
    """
    every, stream = planned(run, seeds, decode), driver.stream
    for work in every:
        _discard_other_configuration(work)
    todo = [work for work in every if not work.folder.result.exists()]
    before = stream.searches.get(run.name, Standing())
    standing = with_seeds(replace(before, stage="retrain"), run, dict.fromkeys(w.study.name for w in every), seeds)
    with stream.also(RetrainBoard(run, every)):
        driver.begin(run, standing)
        for work, trained, tested in _executed(run, todo, driver, crops):
            seconds = _write_result(run, work, trained, tested)["seconds"]
            accuracy = tested.get("test_accuracy")
            stream.tell(SeedEnded(work.study.name, work.seed, accuracy, seconds, trained["failed"]))


def _discard_other_configuration(work: Retraining) -> None:
    """Start afresh where the folder holds a retraining of an earlier selection."""
    folder = work.folder
    if folder.config.exists() and read_json(folder.config)["config"] != work.config_hash:
        remove_states(folder)
        pictures = [folder.picture(tag) for tag in PICTURES]
        files = (folder.best_weights, folder.model, folder.method, folder.metrics, folder.predictions)
        for path in (folder.result, *files, *pictures):
            path.unlink(missing_ok=True)
    config = {"config": work.config_hash, "seed": work.seed, "spec": work.spec.to_json()}
    write_json(folder.config, config, durable=False)


def _executed(
    run: RunDir, todo: list[Retraining], driver: Driver, crops: Crops
) -> Iterator[tuple[Retraining, Trained, Tested]]:
    """Train, then test, all of ``todo`` as Ray tasks; yields each as it ends. Tests go first."""
    import ray

    concurrency = driver.concurrency
    options: Values = {"num_cpus": concurrency.cpus, "num_gpus": concurrency.gpus, "max_retries": 3}
    train, test = ray.remote(_train).options(**options), ray.remote(_test).options(**options)
    ours = (str(run.path), driver.number, concurrency.cpus)
    waiting = list(reversed(todo))
    running: dict[ray.ObjectRef, tuple[Retraining, Trained | None]] = {}
    while waiting or running:
        while waiting and len(running) < concurrency.trials:
            work = waiting.pop()
            running[train.remote(work.spec.to_json(), str(work.folder.path), *ours)] = work, None
            driver.stream.tell(SeedStarted(work.study.name, work.seed))
        (ended,), _ = ray.wait(list(running), num_returns=1)
        work, trained = running.pop(ended)
        answer = ray.get(ended)
        if trained is None and not answer["failed"]:
            ledger.append(run.ledger, {"event": "test_evaluation", **_entry(work)})
            running[test.remote(work.spec.to_json(), str(work.folder.path), *ours, crops)] = work, answer
        else:
            yield (work, answer, {}) if trained is None else (work, trained, answer)


def _entry(work: Retraining) -> Values:
    spec = work.spec
    study = {"task": spec.task, "rate": spec.rate, "method": spec.method, "study": work.study.name}
    return {**study, "seed": work.seed, "config": work.config_hash, "purpose": "retrain"}


def _write_result(run: RunDir, work: Retraining, trained: Trained, tested: Tested) -> SeedResult:
    """Files of an ended retraining; the result is written last, its hash into the ledger. Returns it."""
    history, folder = trained["history"], work.folder
    write_lines(folder.metrics, history)
    kept = kept_row(history, work.spec.epoch) or Epoch()
    result: SeedResult = {
        "state": "COMPLETE" if tested else "FAIL",
        "seed": work.seed,
        "config": work.config_hash,
        "val_accuracy": kept.get("val_accuracy"),
        "kept_epoch": kept.get("epoch"),
        "epochs": len(history),
        "seconds": sum(row["seconds"] for row in history),
        "reason": trained["failed"],
        **tested,
    }
    if tested:
        digest = ledger.content_hash(result)
        accuracy = tested["test_accuracy"]
        ledger.append(run.ledger, {"event": "result", **_entry(work), "test_accuracy": accuracy, "result": digest})
    write_json(folder.result, result)
    remove_states(folder)
    folder.best_weights.unlink(missing_ok=True)
    return result


class RetrainBoard:
    """The retraining in TensorBoard: a session a seed; the seeds of a configuration form one group.

    What an earlier driver's death left out is written at the start.
    """

    def __init__(self, run: RunDir, every: list[Retraining]) -> None:
        self.run, self.works = run, {(work.study.name, work.seed): work for work in every}

    def __call__(self, event: Event, now: Stream) -> None:
        if isinstance(event, StageStarted):
            for work in self.works.values():
                if work.folder.result.exists() and not self._folder(work).exists():
                    self._write(work)
        elif isinstance(event, SeedEnded):
            self._write(self.works[event.study, event.seed])

    def _folder(self, work: Retraining) -> Path:
        return self.run.tensorboard / "retrain" / work.study.name / f"seed{work.seed}"

    def _write(self, work: Retraining) -> None:
        spec, result = work.spec, read_json(work.folder.result)
        pictures = {tag: work.folder.picture(tag) for tag in PICTURES}
        place = {"task": spec.task, "rate": f"{spec.rate:g}", "method": spec.method}
        key = ledger.content_hash({"config": work.config_hash, "run": read_json(self.run.environment)})[:8]
        tested = "test_accuracy" in result
        write_ended(
            self._folder(work),
            {**place, "stage": "retrain", "run": self.run.name, **work.selection["hparams"]},
            read_lines(work.folder.metrics),
            "success" if tested else "failure",
            group=f"{self.run.name}/retrain/{work.study.name}/{key}",
            scalars={"test/accuracy": result["test_accuracy"]} if tested else {},
            images={tag: picture.read_bytes() for tag, picture in pictures.items() if picture.exists()},
        )
