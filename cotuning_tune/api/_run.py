"""A run from Python: started, watched, read, continued."""

import html
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from cotuning_tune.api._asked import Asked, Experiment, asked
from cotuning_tune.api._best import Best, best_of
from cotuning_tune.api._frame import frame
from cotuning_tune.base.errors import Unfinished, UserError
from cotuning_tune.base.files import read_json
from cotuning_tune.base.secrets import Secret
from cotuning_tune.base.tables import Table
from cotuning_tune.cluster.signals import ending_cleanly
from cotuning_tune.pipeline import Cluster, NewRun, Request, carry_out, extend
from cotuning_tune.pipeline.request import experiment_of
from cotuning_tune.pipeline.terminal import Terminal
from cotuning_tune.report import Report, build_report
from cotuning_tune.report.results import read_studies
from cotuning_tune.runs.folder import RunDir, TrialDir
from cotuning_tune.runs.lock import holder
from cotuning_tune.runs.records import CONFIRMS, read_facts, read_rows
from cotuning_tune.runs.stream import Observer

CLAIMS = ("possible_bests", "statistics", "models", "repeats")


class Interrupted(RuntimeError):  # noqa: N818 - what happened
    """The search had to stop and nothing is lost: ``open_run(path).resume()`` continues it."""


@dataclass(frozen=True)
class Status:
    """How far a run is. ``state``: running, done, unfinished (resume continues it), failed, or new.

    ``done`` of ``budget`` trials, ``retrained`` of ``retrain_budget`` seeds; ``best``: by study, on validation.
    """

    state: str
    stage: str = ""
    done: int = 0
    budget: int = 0
    failed: int = 0
    running: int = 0
    retrained: int = 0
    retrain_budget: int = 0
    best: Mapping[str, float] = field(default_factory=dict)
    hours: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Statistics:
    """What may be said of the methods and models, in sentences and tables; nothing else is shown by the run.

    ``may_be_best``: methods that the data do not rule out as the best; ``least_difference``: the smallest that could
    be shown, in the metric's unit, None where none could.
    """

    lines: list[str]
    may_be_best: list[str]
    least_difference: float | None
    tables: dict[str, Any]


def _tag(name: str, text: str) -> str:
    return f"<{name}>{html.escape(text)}</{name}>"


def _html(table: Table) -> str:
    rows = [[_tag("th", text) for text in table.header], *([_tag("td", text) for text in row] for row in table.rows)]
    return "".join(["<table>", *("".join(["<tr>", *row, "</tr>"]) for row in rows), "</table>"])


def _table_frame(table: Table) -> Any:
    return frame([dict(zip(table.header, row, strict=True)) for row in table.rows])


@dataclass(frozen=True, repr=False)
class Run:
    """A run: a folder that stands alone, and is read whoever drives it. ``open_run`` opens one, ``run`` makes one.

    Tables are pandas DataFrames where pandas is installed, else lists of dictionaries.
    """

    folder: RunDir

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def experiment(self) -> Experiment:
        """What was asked."""
        return Experiment.of(experiment_of(self.path)[1])

    @property
    def status(self) -> Status:
        """How far it is. Raises UserError where ``summary.json`` is damaged."""
        driven = holder(self.folder) is not None
        if not self.folder.summary.exists():
            return Status("running" if driven else "new")
        found = read_json(self.folder.summary)
        state = "running" if driven else found["state"].replace("running", "unfinished")
        same = {
            key: found[key] for key in ("done", "budget", "failed", "retrained", "retrain_budget", "best", "reason")
        }
        running = found["running"] if driven else 0
        return Status(state, stage=found["phase"], running=running, hours=found["trial_hours"], **same)

    def trials(self) -> Any:
        """Every trial that has begun, of a running search too: study, number, state, validation score, its values.

        ``confirms``: the trial whose configuration it tries once more on another validation split.
        """
        rows = []
        for study, folder, config in self._trainings():
            if "trial" not in config:
                continue
            ended = read_facts(folder.result) if folder.result.exists() else {"state": "RUNNING"}
            spec = config["specs"][0]
            rows.append(
                {key: spec[key] for key in ("task", "rate", "method")}
                | {"study": study, "trial": config["trial"], "confirms": config["attrs"].get(CONFIRMS)}
                | {"state": ended["state"], "val_score": ended.get("value")}
                | {key: ended.get(key) for key in ("epochs", "seconds", "reason")}
                | config["values"]
            )
        return frame(rows)

    def epochs(self) -> Any:
        """Every epoch of every trial and retrained seed (the other of ``trial`` and ``seed`` is None)."""
        rows: list[dict[str, Any]] = []
        for study, folder, config in self._trainings():
            head = {"study": study, "trial": config.get("trial"), "seed": config.get("seed")}
            rows += [head | row for row in read_rows(folder.metrics)]
        return frame(rows)

    def _trainings(self) -> Iterator[tuple[str, TrialDir, dict[str, Any]]]:
        """Of each training that has begun: its study, its folder, its config."""
        for study in self.folder.study_folders():
            for folder in sorted(study.trainings(), key=lambda one: one.path):
                if folder.config.exists():
                    yield study.name, folder, read_json(folder.config)

    def seeds(self) -> Any:
        """Every retrained seed: study, seed, state, validation and test score."""
        keys = ("seed", "state", "val_score", "test_score", "test_count", "epochs", "seconds", "reason")
        found = [(study, seed) for study in read_studies(self.folder) for seed in study.seeds]
        return frame([{"study": study.name} | {key: seed.get(key) for key in keys} for study, seed in found])

    def table(self) -> Any:
        """A row a study: its chosen trial, validation score, mean and deviation of the seeds' test scores, its hours.

        Raises UserError where the search has not ended.
        """
        rows = []
        for study in read_studies(self.folder):
            chosen = study.selection or {}
            rows.append(
                {"task": study.task, "rate": study.rate, "method": study.method, "study": study.name}
                | ({"backbone": study.backbone} if study.backbone else {})
                | {"metric": study.metric.name, "trials": study.finished, "trial": chosen.get("trial")}
                | {"val_score": chosen.get("val_score"), "test_score": fmean(study.scores) if study.scores else None}
                | {"test_std": stdev(study.scores) if len(study.scores) > 1 else None, "seeds": len(study.scores)}
                | {"hours": (study.search_seconds + study.retrain_seconds) / 3600}
            )
        return frame(rows)

    def report(self) -> Report:
        """As the page has it: answer, tables, remarks. Raises UserError where the search has not ended."""
        return build_report(self.folder)

    def statistics(self) -> Statistics:
        """What may be said of methods and models, and how sure. Raises UserError where the search has not ended."""
        report = self.report()
        told, tables = report.answer.content, [table for table in report.tables if table.name in CLAIMS]
        named = {table.name: _table_frame(table) for table in tables}
        return Statistics(report.answer.lines, told["may_be_best"], told["least_difference"], named)

    def best(self, task: str = "", *, study: str = "", seed: int | None = None) -> Best:
        """The model to take: the one that validation puts first, on the ``task`` where there are several.

        ``study``: that one's instead; ``seed``: of the retraining, by default the lowest that came to an end.
        Raises UserError where there is none.
        """
        return best_of(self.folder, task, study, seed)

    def resume(self, **how: Any) -> "Run":
        """Continue it, whatever was killed; ``how``: as ``run``'s. Raises as ``run`` does."""
        return self._continue(**how)

    def retrain(self, **how: Any) -> "Run":
        """Retrain what has been chosen over the seeds, without further search."""
        return self._continue(search=False, **how)

    def extend(
        self, trials: int | None = None, *, to_trials: int | None = None, hours: float | None = None, **how: Any
    ) -> "Run":
        """Give every study ``trials`` more, or ``to_trials`` in all, or the search more ``hours``, and continue.

        The same ``to_trials`` again extends nothing twice. Where another driver is at work it takes them over, and
        nothing is waited for. Raises UserError.
        """
        changed = how.get("accept_data_change", False)
        growth = extend(self.folder, trials, to=to_trials, hours=hours, accept_data_change=changed)
        return self if growth.driven else self._continue(**how)

    def _continue(self, *, search: bool = True, **how: Any) -> "Run":
        folder, experiment = experiment_of(self.path)
        return _carry_out(Request(experiment=experiment, run=folder, search=search), **how)

    def __repr__(self) -> str:
        now = self.status
        far = f", {now.done}/{now.budget} trials" if now.budget else ""
        return f"Run({str(self.path)!r}, {now.state}{far})"

    def _repr_html_(self) -> str:
        """In a notebook: the answer and the main table."""
        try:
            report = self.report()
        except UserError:
            return f"<p>{html.escape(repr(self))}</p>"
        main = next(table for table in report.tables if table.name == "main")
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in report.answer.lines)
        head = "".join(f"<th>{html.escape(name)}</th>" for name in main.header)
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>" for row in main.rows)
        return (
            f"{lines}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{html.escape(main.note)}</p>"
        )


def _carry_out(
    request: Request,
    *,
    address: str | None = None,
    cpus: int | None = None,
    concurrent: int | None = None,
    accept_data_change: bool = False,
    progress: bool = True,
    observers: Iterable[Observer] = (),
) -> Run:
    cluster = Cluster(address=address, cpus=cpus)
    whole = replace(request, cluster=cluster, concurrent=concurrent, accept_data_change=accept_data_change)
    watching: list[Observer] = [Terminal()] if progress else []
    try:
        with ending_cleanly():
            outcome = carry_out(whole, [*watching, *observers])
    except Unfinished as problem:
        raise Interrupted(
            f"{problem.reason}; nothing is lost: open_run({str(request.path)!r}).resume() continues"
        ) from None
    if outcome.lacking:
        warnings.warn(outcome.lacking, stacklevel=3)
    return Run(outcome.run)


def run(
    experiment: Asked,
    storage: str | Path = "runs",
    *,
    retrain: bool = True,
    searches: int | None = None,
    optuna_storage: str = "",
    warm_from: str | Path | None = None,
    **how: Any,
) -> Run:
    """Search, retrain the best configurations over the seeds, report; or continue where the same call left off.

    ``experiment``: or the path of its file; ``storage``: the folder of the runs, or ``s3://BUCKET/PREFIX``;
    ``retrain=False``: search and select only; ``searches``: whole searches in all; ``optuna_storage``: URL of a
    database for the studies; ``warm_from``: an older run whose trials the sampler shall know. ``how``: ``address`` of a
    running Ray cluster, ``cpus`` of this machine to use, ``concurrent`` trainings at a time at most,
    ``progress=False``, further ``observers`` of the run's events, ``accept_data_change``.
    Raises UserError for a mistake in what was given, Interrupted where the search had to stop, KeyboardInterrupt.
    """
    new = NewRun(
        storage=storage,
        optuna_storage=Secret(optuna_storage),
        warm_from=None if warm_from is None else str(warm_from),
        command=("cotuning_tune.run",),
    )
    request = Request(experiment=asked(experiment).checked, run=new, retrain=retrain, searches=searches)
    return _carry_out(request, **how)


def open_run(path: str | Path) -> Run:
    """The run in a folder, or in an object store. Raises UserError where there is none."""
    return Run(RunDir.open(path))
