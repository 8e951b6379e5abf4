"""The one road from a request to its report: lock, cluster, search, retraining, report."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace

from cotuning_tune.base.endings import HELD, UNFINISHED, ending_of
from cotuning_tune.base.errors import first_line
from cotuning_tune.cluster.connection import Concurrency, connected, find_concurrency
from cotuning_tune.cluster.driver import Driver
from cotuning_tune.cluster.metrics import RunMetrics
from cotuning_tune.cluster.preflight import preflight
from cotuning_tune.cluster.watchdog import watchdog
from cotuning_tune.experiment import Experiment
from cotuning_tune.pipeline.request import Request
from cotuning_tune.plan.gpu_share import settled
from cotuning_tune.plan.write import first_lines
from cotuning_tune.report import Report, write_report
from cotuning_tune.retrain import Retraining, run_retraining
from cotuning_tune.runs.events import Checked, Notice, Reported, RunState, StageStarted, Standing
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.identity import settle
from cotuning_tune.runs.lock import driver_lock
from cotuning_tune.runs.on_end import OnEnd
from cotuning_tune.runs.records import Owner
from cotuning_tune.runs.snapshot import settle_data
from cotuning_tune.runs.stream import Observer, Stream
from cotuning_tune.runs.summary import Summary, standing_of
from cotuning_tune.search.checks import check_studies, data_lines, keep_sizes, snapshots, source_lines
from cotuning_tune.search.driver import open_studies, run_search
from cotuning_tune.search.heads import kept_ledger_head
from cotuning_tune.search.repeats import prepare_repeats, set_searches
from cotuning_tune.trackers import Tracking


@dataclass(frozen=True)
class Outcome:
    """What has come of a request; ``report``: after a retraining, ``lacking``: what is not there, '' for nothing."""

    run: RunDir
    report: Report | None
    lacking: str


def carry_out(request: Request, observers: Iterable[Observer] = ()) -> Outcome:
    """Do what is asked, from wherever an earlier driver left off; observers hear of it.

    However it ends, ``summary.json`` holds the last state. Raises UserError for a mistake in what was given or
    another driver at work, Unfinished and KeyboardInterrupt where the driver had to stop: the same request
    continues then.
    """
    run, sizes = request.opened()
    experiment = request.experiment
    trackers = [Tracking(name, run) for name in experiment.config.track]
    on_end = OnEnd(experiment.config.on_end, allowed=request.on_end)
    stream = Stream(run, [Summary(), *observers, *trackers, on_end])
    with _ending(stream):
        lacking = _work(request, run, sizes, stream)
        report = _report(run, stream) if request.retrain else None
        if lacking:
            stream.end("failed", lacking)
    return Outcome(run, report, lacking)


@contextmanager
def _ending(stream: Stream) -> Iterator[None]:
    """However this is left, the end is told: ``done`` where nothing went wrong."""
    try:
        yield
    except BaseException as problem:
        stream.end(*_end_of(problem))
        raise
    stream.end("done")


def _end_of(problem: BaseException) -> tuple[RunState, str]:
    """State and reason of a driver that an exception ends; the states go with the exit codes."""
    if ending := ending_of(problem, drives=True):
        return "unfinished" if ending.code in (UNFINISHED, HELD) else "failed", ending.line
    return "failed", f"{type(problem).__name__}: {first_line(problem)}"


def _work(request: Request, run: RunDir, sizes: dict[str, int] | None, stream: Stream) -> str:
    """Search and retrain, the repeats after the run itself, on one cluster; what is lacking in the end, '' for nothing.

    The run's lock is held all the time.
    """
    experiment = request.experiment
    with driver_lock(run, stream.waiting) as owner, ExitStack() as stack:
        settle(run, stream.notice)
        set_searches(run, experiment, request.searches, request.small)
        searches = [(run, experiment), *prepare_repeats(run, experiment)]
        stream.tell(Checked({one.name: _standing(one, its) for one, its in searches}))
        measured = sizes or check_studies(experiment)  # before a cluster is started
        data = snapshots(experiment)
        for line in settle_data(run, data, accept=request.accept_data_change):
            stream.notice(line)
        for line in [*source_lines(experiment), *data_lines(experiment), *first_lines(experiment)]:
            stream.notice(line)
        stack.enter_context(connected(request.cluster.address, request.cluster.cpus))
        stack.enter_context(watchdog(lambda reason: _cluster_lost(stream, reason)))
        stack.enter_context(run.watched_storage(measured["state"] + measured["weights"], stream.waiting))
        if request.cluster.address:
            stack.enter_context(_joined(request, run, stream))
        resources = settled([one for one, _ in searches], experiment, stream.notice)
        concurrency = find_concurrency(resources, request.concurrent)
        stages = _Stages(request, concurrency, measured, stream)
        lacking = [stages.work(run, experiment, owner)]
        for repeat, again in searches[1:]:
            with driver_lock(repeat, stream.waiting) as own:
                settle(repeat, stream.notice)
                settle_data(repeat, data, accept=request.accept_data_change)
                lacking.append(stages.work(repeat, again, own))
    return next((reason for reason in lacking if reason), "")


def _standing(run: RunDir, experiment: Experiment) -> Standing:
    return standing_of(
        run,
        [study.name for study in experiment.studies],
        experiment.trials + experiment.confirmations,
        experiment.seeds,
    )


def _joined(request: Request, run: RunDir, stream: Stream) -> AbstractContextManager[None]:
    """Look at the nodes of a cluster that others started; the run's figures are among its metrics from then on."""
    asked = request.cluster
    plugins = list(request.experiment.plugins)
    checked = preflight(run.path, asked.nodes, require_token=asked.require_token, plugins=plugins, say=stream.waiting)
    stream.notice(f"{checked} node(s) checked: the same versions, the same storage")
    return stream.also(RunMetrics({study.name: study.method for study in request.experiment.studies}))


def _cluster_lost(stream: Stream, reason: str) -> None:
    """The last words of a driver whose cluster has gone."""
    stream.tell(
        Notice(f"{reason}; nothing is lost, continue with: cotuning-tune resume {stream.run.path}", urgent=True)
    )
    stream.end("unfinished", reason)


@dataclass(frozen=True)
class _Stages:
    """What is done with each search, on what, with checkpoints of which sizes."""

    request: Request
    concurrency: Concurrency
    sizes: dict[str, int]
    stream: Stream

    def work(self, run: RunDir, experiment: Experiment, owner: Owner) -> str:
        """Go through the stages of one search, whose lock ``owner`` holds; what is lacking then, '' for nothing."""
        each = experiment.config.validate == "each"
        driver = Driver(run.raise_incarnation(owner), self.concurrency, self.stream, each=each)
        keep_sizes(run, self.sizes, self.concurrency.trials)
        studies = open_studies(run, experiment, self.stream.notice)
        driver = replace(driver, owns=studies.check_owner)
        crops, decode, head = experiment.config.test_crops, experiment.task["decode"], studies.keep_ledger_head
        while True:
            full = run_search(run, experiment, studies, driver) if self.request.search else True
            lost: list[Retraining] = []
            if self.request.retrain:
                lost = run_retraining(run, experiment.seeds, driver, crops=crops, decode=decode, keep_head=head)
            if studies.finished or not self.request.search:  # else it was extended meanwhile
                break
        if not full:
            return "too many trials failed: not every study has its budget"
        return lost[0].lost_reason if lost else ""


def _report(run: RunDir, stream: Stream) -> Report:
    """Write the report, its figures and its page."""
    standing = replace(stream.searches[run.name], stage="report")
    stream.tell(StageStarted(run.name, str(run.path), stream.driver, standing, stream.concurrent, stream.gpus))
    report = write_report(run, figures=True, head_of=kept_ledger_head)
    stream.tell(Reported(report.answer.content))
    return report
