"""Retraining: the chosen configuration of each study over the seeds, then one look at the test split.

The driver writes the ledger's line before each test evaluation begins, one for each attempt, so that none goes
unrecorded, whatever is killed.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json, write_json, write_lines
from cotuning_tune.cluster.driver import LOST, REISSUES, STARTS, Driver
from cotuning_tune.data import Crops
from cotuning_tune.runs import ledger
from cotuning_tune.runs.events import Event, SeedEnded, SeedStarted, StageStarted, Standing
from cotuning_tune.runs.folder import RunDir, StudyDir, TrialDir
from cotuning_tune.runs.records import (
    Epoch,
    SeedResult,
    Selection,
    Tested,
    TrialConfig,
    TrialReport,
    Values,
    read_facts,
    read_rows,
)
from cotuning_tune.runs.stream import Stream
from cotuning_tune.runs.summary import with_seeds
from cotuning_tune.scores import metric_of
from cotuning_tune.tensorboard.events import tested_scalars, write_ended
from cotuning_tune.training import TrainingSpec
from cotuning_tune.training.job import kept_row
from cotuning_tune.training.seed import PICTURES
from cotuning_tune.training.state import remove_states


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
    def lost_reason(self) -> str:
        """Why it ended by no fault of its method, for the user."""
        reason = read_json(self.folder.result)["reason"]
        return f"{self.study.name} seed {self.seed}: {reason} ('resume' takes it up again)"

    @property
    def config_hash(self) -> str:
        """Of the configuration with the search's seed: the same for every seed of the retraining."""
        return ledger.config_hash(TrainingSpec.from_json(self.selection["spec"]).to_json())


def planned(run: RunDir, seeds: tuple[int, ...], decode: str = "") -> list[Retraining]:
    """Every retraining of the run. Raises UserError where no study has a selection."""
    studies = [study for study in run.study_folders() if study.selection.exists()]
    if not studies:
        raise UserError(f"{run.path} has no selected configuration: search first (cotuning-tune resume)")
    return [Retraining(study, seed, read_facts(study.selection), decode) for study in studies for seed in seeds]


def run_retraining(
    run: RunDir,
    seeds: tuple[int, ...],
    driver: Driver,
    *,
    crops: Crops = "centre",
    decode: str = "",
    keep_head: Callable[[ledger.Head], None] = lambda head: None,
) -> list[Retraining]:
    """Retrain what has no result yet, side by side on the connected cluster; resumable at any moment.

    ``crops``: how the test examples are looked at; ``decode``: '' as in the search; ``keep_head`` gets how far the
    ledger goes, to be kept elsewhere. A seed that ended by no fault of its method is taken up again the next time:
    those are returned.
    """
    every, stream = planned(run, seeds, decode), driver.stream
    for work in every:
        _discard_other_configuration(work)
    todo = [work for work in every if not _ended(work)]
    before = stream.searches.get(run.name, Standing())
    standing = with_seeds(replace(before, stage="retrain"), run, dict.fromkeys(w.study.name for w in every), seeds)
    with stream.also(RetrainBoard(run, every)):
        driver.begin(run, standing)
        if todo:
            _execute(run, todo, driver, crops, keep_head)
    return [work for work in every if not _ended(work)]


def _ended(work: Retraining) -> bool:
    return work.folder.result.exists() and not read_json(work.folder.result).get("again")


def _discard_other_configuration(work: Retraining) -> None:
    """Start afresh where the folder holds a retraining of an earlier selection."""
    folder = work.folder
    if folder.config.exists() and read_json(folder.config)["config"] != work.config_hash:
        remove_states(folder)
        pictures = [folder.picture(tag) for tag in PICTURES]
        files = (folder.model, folder.method, folder.metrics, folder.predictions)
        for path in (folder.result, *files, *pictures):
            path.unlink(missing_ok=True)
    config = {"config": work.config_hash, "seed": work.seed, "spec": work.spec.to_json()}
    write_json(folder.config, config, durable=False)


def _execute(
    run: RunDir, todo: list[Retraining], driver: Driver, crops: Crops, keep_head: Callable[[ledger.Head], None]
) -> None:
    from cotuning_tune.cluster.execute import execute
    from cotuning_tune.cluster.seeds import SeedSearcher

    searcher = SeedSearcher(Seeds(run, todo, driver, crops, keep_head), driver)
    execute(run, searcher, driver, lambda: all(work.folder.result.exists() for work in todo))


class Seeds:
    """The retrainings that are still to be done, as their executor asks for them. Before each write the run is ours."""

    def __init__(
        self,
        run: RunDir,
        todo: list[Retraining],
        driver: Driver,
        crops: Crops,
        keep_head: Callable[[ledger.Head], None] = lambda head: None,
    ) -> None:
        self.run, self.driver, self.crops, self.keep_head = run, driver, crops, keep_head
        self.waiting = list(reversed(todo))
        self.losses: Counter[tuple[str, int, int]] = Counter()
        self.starts: Counter[tuple[str, int, int]] = Counter()
        self.owners: dict[tuple[str, int], str] = {}

    def next(self) -> tuple[Retraining, TrialConfig] | None:
        """The next one, and what its worker is given; None where there is none."""
        self.driver.check_owner(self.run)
        if not self.waiting:
            return None
        work = self.waiting.pop()
        self.driver.stream.tell(SeedStarted(work.study.name, work.seed))
        return work, {
            "specs": [work.spec.to_json()],
            "folder": str(work.folder.path),
            "run": str(self.run.path),
            "incarnation": self.driver.number,
            "threads": self.driver.concurrency.cpus,
            "state_every": self.driver.concurrency.state_every,
            "each": self.driver.each,
            "crops": self.crops,
        }

    def opens(self, work: Retraining) -> None:
        """The worker's next step is the test evaluation: each one has a line of its own, written before."""
        self.driver.check_owner(self.run)
        self.keep_head(ledger.append(self.run.ledger, {"event": "test_evaluation", **_entry(work)}))

    def ended(self, work: Retraining, report: TrialReport) -> None:
        """The worker has ended: tested, or with the reason why not."""
        self.driver.check_owner(self.run)
        tested = report["tested"][0] if report["tested"] else Tested()
        self._write(work, report["history"], tested, report["failed"], again=not report["own"])

    def lost(self, work: Retraining, epochs: int) -> None:
        """The worker or its node died after ``epochs``: issued again, unless that happened too often there."""
        self.driver.check_owner(self.run)
        key, owner = (work.study.name, work.seed, epochs), work.folder.owner_token
        begun = owner != self.owners.get(key[:2], "")
        self.owners[key[:2]] = owner
        counted, limit = (self.losses, REISSUES) if begun else (self.starts, STARTS)
        counted[key] += 1
        if counted[key] <= limit:
            self.waiting.append(work)
        else:
            self._write(work, read_rows(work.folder.metrics), Tested(), LOST, again=True)

    def _write(self, work: Retraining, history: list[Epoch], tested: Tested, failed: str, *, again: bool) -> None:
        result = _write_result(self.run, work, history, tested, failed, self.keep_head, again=again)
        score = tested.get("test_score")
        self.driver.stream.tell(SeedEnded(work.study.name, work.seed, score, result["seconds"], failed))


def _entry(work: Retraining) -> Values:
    spec = work.spec
    study = {"task": spec.task, "rate": spec.rate, "method": spec.method, "study": work.study.name}
    return {**study, "seed": work.seed, "config": work.config_hash, "purpose": "retrain"}


def _write_result(
    run: RunDir,
    work: Retraining,
    history: list[Epoch],
    tested: Tested,
    failed: str,
    keep_head: Callable[[ledger.Head], None],
    *,
    again: bool,
) -> SeedResult:
    """Files of an ended retraining; the result is written last, its hash into the ledger. Returns it."""
    folder = work.folder
    write_lines(folder.metrics, history)
    kept = kept_row(history, work.spec.epoch, metric_of(work.spec.metric)) or Epoch()
    result: SeedResult = {
        "state": "COMPLETE" if tested else "FAIL",
        "seed": work.seed,
        "config": work.config_hash,
        "val_score": kept.get("val_score"),
        "kept_epoch": kept.get("epoch"),
        "epochs": len(history),
        "seconds": sum(row["seconds"] for row in history),
        "reason": failed,
        **tested,
    }
    if tested:
        digest = ledger.content_hash(result)
        entry = {"event": "result", **_entry(work), "test_score": tested["test_score"], "result": digest}
        keep_head(ledger.append(run.ledger, entry))
    elif again:
        result["again"] = True
    write_json(folder.result, result)
    if not result.get("again"):
        remove_states(folder)
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
        spec, result = work.spec, read_facts(work.folder.result)
        pictures = {tag: work.folder.picture(tag) for tag in PICTURES}
        place = {"task": spec.task, "rate": f"{spec.rate:g}", "method": spec.method}
        key = ledger.content_hash({"config": work.config_hash, "run": read_json(self.run.environment)})[:8]
        tested = "test_score" in result
        write_ended(
            self._folder(work),
            {**place, "stage": "retrain", "run": self.run.name, **work.selection["hparams"]},
            read_rows(work.folder.metrics),
            "success" if tested else "failure",
            metric=metric_of(work.spec.metric),
            group=f"{self.run.name}/retrain/{work.study.name}/{key}",
            scalars=tested_scalars(result, work.spec.metric) if tested else {},
            pictures={tag: picture.read_bytes() for tag, picture in pictures.items() if picture.exists()},
        )
