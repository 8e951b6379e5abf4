"""The commands that work on a run: run, search, resume, retrain, extend."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotuning_tune.cli._options import add_calibration, add_decoding, decoding, say_calibration, with_options
from cotuning_tune.cli._reading import summary

STORAGE_HELP = "Optuna storage, as postgresql://... (default: COTUNING_TUNE_OPTUNA_STORAGE, else a journal)"


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", help="a running Ray cluster ('auto': the one of this machine)")
    parser.add_argument("--nodes", type=int, default=0, metavar="N", help="wait until the cluster has so many nodes")
    parser.add_argument("--require-token", action="store_true", help="refuse a cluster that asks for no token")
    parser.add_argument("--on-end", action="store_true", help="run the experiment's on_end command when this ends")
    parser.add_argument("--num-cpus", type=int, help="cores to use of this machine (default: all)")
    add_decoding(parser)


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", metavar="EXPERIMENT", help="a file of search_spaces/, or your own")
    parser.add_argument("--storage", default="runs", help="folder of the runs, or s3://BUCKET/PREFIX (default: runs)")
    parser.add_argument("--name", help="name of the run (default: the file's name)")
    parser.add_argument("--optuna-storage", metavar="URL", help=STORAGE_HELP)
    parser.add_argument("--from", dest="warm_from", metavar="RUN", help="tell the sampler an older run's trials")
    text = "search K times in all, each time with another search seed: how far does the order of the methods hold?"
    parser.add_argument("--repeat-search", type=int, metavar="K", help=text)
    add_calibration(parser)
    _add_cluster(parser)


def add(commands: Any) -> None:
    """The parsers of these commands."""
    for name, text, call in (
        ("run", "search, retrain the best configurations over the seeds, report", _run),
        ("search", "search only", _search),
    ):
        started = commands.add_parser(name, help=text, description=text)
        _add_start(started)
        started.set_defaults(call=call, ten_crop=False)
        if name == "run":
            text = "test on ten crops, as the paper does: experiment.test_crops = 'ten'"
            started.add_argument("--ten-crop", action="store_true", help=text)
    for name, text in (
        ("resume", "go on with an interrupted run, whatever was killed"),
        ("retrain", "retrain the selected configurations over the seeds and test them once"),
    ):
        resumed = commands.add_parser(name, help=text, description=text)
        resumed.add_argument("run", metavar="RUN", help="folder of the run")
        _add_cluster(resumed)
        resumed.set_defaults(call=_resume)
    text = "give every study of a run, finished or running, the same number of further trials"
    extend = commands.add_parser("extend", help=text, description=text)
    extend.add_argument("run", metavar="RUN", help="folder of the run")
    extend.add_argument("--trials", type=int, required=True, help="how many more for each study")
    _add_cluster(extend)
    extend.set_defaults(call=_extend)


def _start(options: argparse.Namespace) -> tuple[Any, Any, dict[str, int]]:
    """Run folder, experiment and checkpoint sizes of ``run`` and ``search``."""
    import dataclasses

    from cotuning_tune.base.files import place
    from cotuning_tune.experiment import parse, read_experiment
    from cotuning_tune.run.folder import check_optuna_storage, check_searches
    from cotuning_tune.search.checks import check_studies
    from cotuning_tune.search.driver import create_run
    from cotuning_tune.search.storage import set_storage

    check_searches(options.repeat_search)
    path, storage = Path(options.experiment), place(options.storage)
    studies = options.optuna_storage or os.environ.get("COTUNING_TUNE_OPTUNA_STORAGE", "")
    check_optuna_storage(storage, studies)
    experiment = with_options(read_experiment(path), path, options)
    if options.name:
        experiment = dataclasses.replace(
            parse(experiment.text, options.name, path.absolute().parent), name=options.name
        )
    experiment = decoding(experiment, options)
    sizes = check_studies(experiment)
    say_calibration(experiment)
    command = ["cotuning-tune", *sys.argv[1:]]
    run = create_run(experiment, path, storage, command, options.warm_from)
    if studies:
        set_storage(run, studies)
    return run, experiment, sizes


def _finish(
    run: Any,
    experiment: Any,
    options: argparse.Namespace,
    sizes: dict[str, int] | None = None,
    *,
    search: bool = True,
    retrain: bool = True,
) -> int:
    """Search, retrain and report; the exit code. The run's summary tells where it stands, and how it ended.

    ``sizes``: what ``check_studies`` measured; without it everything is checked here.
    """
    from cotuning_tune.run.summary import kept_summary

    with kept_summary(run, _then(run, experiment, options)) as told:
        complete = _work(run, experiment, options, sizes, told, search=search, retrain=retrain)
        if retrain:
            told.change(phase="report")
            summary(run, complete)
        if not complete:
            told.end("failed", "too many trials failed: not every study has its budget")
    return 0 if complete else 1


def _then(run: Any, experiment: Any, options: argparse.Namespace) -> Callable[[str], None]:
    """What is done at the end: the experiment's command, where the user lets it run. The file may be another's."""
    from cotuning_tune.run.on_end import run_on_end

    command = experiment.config.on_end
    if command and not options.on_end:
        _note(f"on_end is not run without --on-end: {command}")
    if not (command and options.on_end):
        return lambda state: None
    _note(f"on_end, run when this ends: {command}")
    return lambda state: run_on_end(command, run, state, _note)


def _work(
    run: Any,
    experiment: Any,
    options: argparse.Namespace,
    sizes: dict[str, int] | None,
    told: Any,
    *,
    search: bool,
    retrain: bool,
) -> bool:
    """Search and retrain, the repeats after the run itself, on one cluster; True where every study has its budget.

    The run's lock is held all the time.
    """
    from cotuning_tune.cluster.connection import connected, find_concurrency
    from cotuning_tune.cluster.metrics import metrics_of
    from cotuning_tune.cluster.preflight import preflight
    from cotuning_tune.cluster.watchdog import watchdog
    from cotuning_tune.plan.gpu_share import settled
    from cotuning_tune.run.lock import driver_lock
    from cotuning_tune.run.summary import standing_of
    from cotuning_tune.search.repeats import prepare_repeats, set_searches

    with driver_lock(run) as owner:
        set_searches(run, vars(options).get("repeat_search"))
        repeats = prepare_repeats(run, experiment)
        searches = [(run, experiment), *repeats]
        told.begin(run.read_incarnation(), {r.name: standing_of(r, e) for r, e in searches})
        with (
            _checked(experiment, sizes) as measured,
            connected(options.address, options.num_cpus),
            watchdog(_say_resume(run, told)),
            run.watched_storage(measured["state"] + measured["weights"], _say),
        ):
            if options.address:
                checked = preflight(run.path, options.nodes, require_token=options.require_token, say=_say)
                print(f"{checked} node(s) checked: the same versions, the same storage")
            concurrency = find_concurrency(settled([r for r, _ in searches], experiment, _note))
            show = metrics_of(options.address, {study.name: study.method for study in experiment.studies})
            stages = _Stages(concurrency, measured, told, show, search, retrain)
            complete = stages.work(run, experiment, owner, f" 1/{run.searches}" if repeats else "")
            for number, (repeat, again) in enumerate(repeats, 2):
                with driver_lock(repeat) as own:
                    complete &= stages.work(repeat, again, own, f" {number}/{run.searches}")
    return complete


@dataclass(frozen=True)
class _Stages:
    """What is done with each search: which stages, on what, with checkpoints of which sizes."""

    concurrency: Any
    sizes: dict[str, int]
    told: Any
    show: Callable[..., None]
    search: bool
    retrain: bool

    def work(self, run: Any, experiment: Any, owner: dict[str, Any], which: str) -> bool:
        """Go through the stages of one search, whose lock ``owner`` holds; True where every study has its budget."""
        from cotuning_tune.retrain import run_retraining
        from cotuning_tune.search.checks import keep_sizes
        from cotuning_tune.search.driver import Driver, run_search

        number, complete = run.raise_incarnation(owner), True
        self.told.turn_to(run, number, self.concurrency.gpus)
        keep_sizes(run, self.sizes, self.concurrency.trials)
        config = experiment.config
        print(
            f"{run.path}: {len(experiment.studies)} studies x {config.trials} trials,"
            f" {self.concurrency.trials} at a time"
        )
        if self.search:
            with _ProgressOf("search", which, self.told, self.show) as line:
                complete = run_search(run, experiment, Driver(number, self.concurrency, line.searched, line.say))
        if self.retrain:
            with _ProgressOf("retrain", which, self.told, self.show) as line:
                how = {"crops": config.test_crops, "decode": experiment.task["decode"]}
                run_retraining(run, config.seeds, self.concurrency, number, line.retrained, **how)
        return complete


@contextmanager
def _checked(experiment: Any, sizes: dict[str, int] | None) -> Iterator[dict[str, int]]:
    """Open every task and build every method before a cluster is started, where that has not been done."""
    from cotuning_tune.search.checks import check_studies

    yield sizes or check_studies(experiment)


def _note(line: str) -> None:
    print(f"note: {line}", flush=True)


def _say(line: str) -> None:
    print(f"\ncotuning-tune: {line}", file=sys.stderr, flush=True)


def _say_resume(run: Any, told: Any) -> Callable[[str], None]:
    """What is done last where the cluster has gone."""

    def say(reason: str) -> None:
        print(f"\ncotuning-tune: {reason}", file=sys.stderr)
        print(f"cotuning-tune: nothing is lost; to go on: cotuning-tune resume {run.path}", file=sys.stderr, flush=True)
        told.end("unfinished", reason)

    return say


class _ProgressOf:
    """Turns what the stages report into the progress line, the run's summary and the cluster's metrics."""

    def __init__(self, stage: str, which: str, told: Any, show: Callable[..., None]) -> None:
        from cotuning_tune.base.console import ProgressLine

        self.line, self.before, self.told, self.show = ProgressLine(sys.stdout, f"{stage}{which}"), -1, told, show
        told.change(phase=stage)

    def searched(self, progress: Any) -> None:
        from cotuning_tune.base.console import best_of

        failed = f" · {progress.failed} failed" if progress.failed else ""
        detail = f"{progress.running} running{failed} · {best_of(progress.best)}"
        self.line.show(progress.done, progress.budget, detail, progress.started_with)
        self.told.change(
            done=progress.done,
            budget=progress.budget,
            failed=progress.failed,
            running=progress.running,
            best=progress.best,
            search_seconds=progress.seconds,
        )
        self.show(self.told, progress.best, progress.trials)

    def retrained(self, progress: Any) -> None:
        self.before = progress.done if self.before < 0 else self.before
        self.line.show(progress.done, progress.budget, progress.last or "start", self.before)
        self.told.change(
            retrained=progress.done, retrain_budget=progress.budget, retrain_seconds=progress.seconds, running=0
        )
        self.show(self.told, {}, {})

    def say(self, notice: str) -> None:
        self.line.end()
        _note(notice)

    def __enter__(self) -> "_ProgressOf":
        return self

    def __exit__(self, *_: object) -> None:
        self.line.end()


def _run(options: argparse.Namespace) -> int:
    run, experiment, sizes = _start(options)
    return _finish(run, experiment, options, sizes)


def _search(options: argparse.Namespace) -> int:
    run, experiment, sizes = _start(options)
    code = _finish(run, experiment, options, sizes, retrain=False)
    print(f"selections are in {run.path}/studies; next: cotuning-tune retrain {run.path}")
    return code


def _resume(options: argparse.Namespace) -> int:
    from cotuning_tune.run.folder import RunDir
    from cotuning_tune.search.driver import load_experiment

    run = RunDir.open(options.run)
    experiment = decoding(load_experiment(run), options)
    return _finish(run, experiment, options, search=options.command == "resume")


def _extend(options: argparse.Namespace) -> int:
    from cotuning_tune.base.errors import UserError
    from cotuning_tune.run.budget import extend
    from cotuning_tune.run.folder import RunDir
    from cotuning_tune.run.lock import holder
    from cotuning_tune.search.driver import load_experiment

    run = RunDir.open(options.run)
    if first := run.first_search:
        raise UserError(f"{run.path} repeats the search of {first.path}, and all grow alike: extend {first.path}")
    if run.searches > 1 and (owner := holder(run)):
        raise UserError(
            f"{run.path} has {run.searches} searches, which grow together between two drivers: wait for the one of"
            f" {owner['user']} on {owner['host']} (process {owner['pid']}) or stop it, then extend"
        )
    trials = extend(run, load_experiment(run).config.trials, options.trials)
    where = f"{run.path} and of its repeats" if run.searches > 1 else run.path
    print(f"every study of {where} shall have {trials} trials now")
    if holder(run):
        print("the running driver goes on with them")
        return 0
    options.command = "resume"
    return _resume(options)
