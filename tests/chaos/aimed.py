"""Aimed kills: a whole run is killed at the moments where harm could be done, one after the other (``make chaos``).

Drivers die in the search, in repairs of a damaged journal, in selections, in retraining, between the ledger's lines, in
reports and in extensions; workers die as they keep a model or test it; the folder is renamed between drivers. The run
is compared with one that nobody disturbed: trials, seeds, predictions to the last bit; every opening of the test split
needs a line of the ledger that was written before.
"""

import itertools
import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cotuning_tune.runs import ledger
from cotuning_tune.runs.folder import RunDir
from tests.chaos.storm import Outcome, Storm, kill_session
from tests.moments import at, reached

SEEDS = 20
EXPERIMENT = f"""
[experiment]
validate = "each"
tasks = ["synthetic"]
methods = ["fine_tune", "bss"]
backbone = "tiny_cnn"
trials = {{trials}}
sampler = "random"
selection = "confirm"
seeds = {[*range(SEEDS)]}
[task]
size = 16
resize = 16
[data.synthetic]
images = 60
[resources]
state_every = 0
[train]
epochs = 2
batch_size = 8
"""
KILLED = 9


@dataclass(frozen=True)
class Aim:
    """The function at whose ``call`` the driver dies; ``worker``: the one at whose second call a worker does, before.

    ``verb``: what the driver is asked; ``damage``: what has befallen the journal meanwhile.
    """

    function: str
    call: int = 1
    worker: str = ""
    verb: str = "resume"
    damage: str = ""


SEARCH = [
    Aim("search.stored:StoredStudy.draw", 3, "training.state:write_state"),
    Aim("search.stored:StoredStudy.report", 3),
    Aim("search.study:OptunaStudy.end_as", 2, "training.job:TrainingJob.claim"),
    Aim("search.stored:StoredStudy.end", 2),
    Aim("cluster.connection:connected"),
    Aim("search.stored:StoredStudy.note", 3),
]
REPAIR = [
    Aim("search.repair:adopt_lost", damage="emptied"),
    Aim("search.study:OptunaStudy.adopt", 2, damage="gone"),
    Aim("search.repair:_repair_trial", 2, damage="cut"),
    Aim("search.storage:mend_journal", damage="cut"),
]
OLDER = [Aim("search.stored:StoredStudy.adopt", damage="older"), Aim("run.identity:settle", damage="older")]
SELECTION = [
    Aim("search.selection:write_selections"),
    Aim("search.selection:_write_study", 2),
    Aim("retrain:planned"),
]
RETRAINING = [
    Aim("run.ledger:append", 3, "training.seed:SeedJob._keep"),
    Aim("search.study:Studies.keep_ledger_head", 3, "data._task:Task.open_test"),
    Aim("retrain:_write_result", 2, "training.seed:draw_confusion"),
    Aim("retrain:Seeds.ended", 2, "run.predictions:Predictions.packed"),
    Aim("retrain:RetrainBoard._write", 2, "training.state:write_state"),
]
REPORT = [
    Aim("pipeline.road:_report"),
    Aim("report.write:build_report"),
    Aim("report.write:write_files"),
    Aim("report.figures.draw:draw_files"),
    Aim("report.write:write_files", verb="report"),
]
EXTENSION = [
    Aim("run.budget:extend", verb="extend"),
    Aim("search.driver:open_studies", verb="extend"),
    Aim("search.study:OptunaStudy.end_as"),
    Aim("search.selection:write_selections"),
]
RUN = [*SEARCH, *REPAIR, *SEARCH, *OLDER, *REPAIR, *SELECTION, *SELECTION, *(3 * RETRAINING)]
WHOLE = [*RUN, None, *REPORT, *REPORT, *EXTENSION, None, *EXTENSION, None, *REPORT]  # None: to the end, undisturbed
SHORT = [*SEARCH, *SELECTION, *RETRAINING]


@dataclass
class AimedStorm(Storm):
    """A whole run, and what is counted while it is killed. ``words``: more options of each driver."""

    folder: Path
    trials: int = 16
    seed: int = 0
    words: list[object] = field(default_factory=list)
    under_load: Callable[[], None] = lambda: None
    kills: int = 0

    def __post_init__(self) -> None:
        Storm.__init__(self, self.folder, self.trials, self.seed, EXPERIMENT)
        self.numbers, self.older = itertools.count(), b""
        self.counted = at(self.folder / "opened", "cotuning_tune.data._task:Task.open_test", "count")

    def suffer(self, aims: Iterable[Aim | None]) -> None:
        """Go through the aims, and to the end."""
        for aim in [*aims, None]:
            self.step(aim) if aim else self.complete()

    def complete(self) -> None:
        """Let a driver come to its end."""
        code = self.asked("resume", **self.counted).wait(900)
        assert code == 0, f"code {code}\n{self.said()}"

    def step(self, aim: Aim) -> None:
        """Start a driver that dies as aimed, a worker of it before; without work left it may end well instead."""
        self.damage(aim.damage)
        folder, environment = self.folder / "moments" / str(next(self.numbers)), self.counted
        moments = [(aim.function, folder / "driver", aim.call), (aim.worker, folder / "worker", 2)]
        for function, counts, call in moments:
            if function:
                more = environment["MOMENTS"]
                environment = at(counts, f"cotuning_tune.{function}", "kill", call, more=more)
        process = self.asked(aim.verb, **environment)
        if self.wait_for_work(process, 1):
            self.under_load()
        code, died = process.wait(900), reached(folder / "driver") >= aim.call
        self.kills += died + (reached(folder / "worker") >= 2)
        assert code == (KILLED if died else 0), f"{aim}: code {code}\n{self.said()}"
        if self.draw.random() < 0.5:
            kill_session(process)
            self.rename()

    def asked(self, verb: str, **environment: str) -> subprocess.Popen[bytes]:
        """A process of ``resume``, ``extend`` or ``report``; of ``run`` before there is one."""
        more = [] if verb == "report" else ["--num-cpus", "2"]
        if not self.run.exists():
            return self.process("run", self.file, "--storage", self.folder, *more, *self.words, **environment)
        more += ["--trials", "1"] if verb == "extend" else []
        return self.process(verb, self.run, *more, **environment)

    def rename(self) -> None:
        """Give the folder another name, as people do between two drivers."""
        if self.run.exists():
            self.run = self.run.rename(self.folder / f"storm{next(self.numbers)}")

    def damage(self, how: str) -> None:
        """Do to the journal what disks do, and copies that are put back."""
        journal = RunDir(self.run).journal
        if not how or not journal.exists():
            return
        whole = journal.read_bytes()
        if how == "gone":
            journal.unlink()
        elif how == "older" and self.older:
            journal.write_bytes(self.older)
        else:
            journal.write_bytes(whole[: 0 if how == "emptied" else self.draw.randrange(len(whole))])
        self.older = self.older or whole

    def said(self) -> str:
        return (self.folder / "driver.log").read_text()[-3000:]

    def seeds(self) -> dict[str, dict[str, Any]]:
        """What came of each seed, without its seconds: accuracies, configuration, hash of its predictions."""
        files = sorted(self.run.glob("studies/*/retrain/*/result.json"))
        found = {f"{file.parts[-4]} {file.parts[-2]}": json.loads(file.read_text()) for file in files}
        return {name: {k: v for k, v in result.items() if k != "seconds"} for name, result in found.items()}

    def aimed_outcome(self, kind: str, calm: "AimedStorm") -> Outcome:
        """Compared with a run that went through the same extensions undisturbed."""
        found, expected = (self.states(), self.seeds()), (calm.states(), calm.seeds())
        rows, wanted = ([row for trials in one[0].values() for row in trials] for one in (found, expected))
        words = Counter(line.split()[0] for line in self.trace.read_text().splitlines())
        events = Counter(entry.get("event") for entry in ledger.read(RunDir(self.run).ledger))
        assert (self.run / "report" / "report.md").exists()
        return Outcome(
            kind,
            self.kills,
            self.seconds,
            len(wanted),
            len(rows),
            max(0, len(wanted) - len(rows)) + len(expected[1].keys() - found[1].keys()),
            max(0, len(rows) - len(wanted)),
            2 * (len(wanted) + len(expected[1])),
            words["end"],
            words["begin"],
            found == expected,
            reached(self.folder / "opened"),
            events["test_evaluation"],
        )


def undisturbed(folder: Path, extensions: int, **options: Any) -> AimedStorm:
    """The same run, extended as often, with nobody in its way."""
    calm = AimedStorm(folder, **options)
    for verb in ["resume", *extensions * ["extend"]]:
        assert calm.asked(verb).wait(900) == 0, calm.said()
    return calm
