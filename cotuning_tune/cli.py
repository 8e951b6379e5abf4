"""The command ``cotuning-tune``. Each command imports its stage inside, so that ``--help`` is fast."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cotuning_tune import __version__
from cotuning_tune.errors import TrainingFailed, Unfinished, UserError

UNFINISHED = 85


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", help="a running Ray cluster ('auto': the one of this machine)")
    parser.add_argument("--num-cpus", type=int, help="cores to use of this machine (default: all)")


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", metavar="EXPERIMENT", help="a file of search_spaces/, or your own")
    parser.add_argument("--storage", default="runs", help="folder of the runs (default: runs)")
    parser.add_argument("--name", help="name of the run (default: the file's name)")
    parser.add_argument("--studies", metavar="URL", help="Optuna storage, as postgresql://... (default: a journal)")
    parser.add_argument("--from", dest="warm_from", metavar="RUN", help="tell the sampler an older run's trials")
    _add_cluster(parser)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="cotuning-tune",
        description="Hyper-parameter search for transfer learning: co-tuning and baselines on equal terms.",
        epilog="Exit codes: 0 done, 2 a mistake in what was given, 85 unfinished: resume goes on, 1 failed.",
    )
    parser.add_argument("--version", action="version", version=f"cotuning-tune {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in (
        ("run", "search, retrain the best configurations over the seeds, report"),
        ("search", "search only"),
    ):
        _add_start(commands.add_parser(name, help=text, description=text))
    for name, text in (
        ("resume", "go on with an interrupted run, whatever was killed"),
        ("retrain", "retrain the selected configurations over the seeds and test them once"),
    ):
        resumed = commands.add_parser(name, help=text, description=text)
        resumed.add_argument("run", metavar="RUN", help="folder of the run")
        _add_cluster(resumed)
    for name, text in (
        ("report", "write and show the tables of a run"),
        ("status", "show how far a run is"),
    ):
        reader = commands.add_parser(name, help=text, description=text)
        reader.add_argument("run", metavar="RUN", help="folder of the run")
    _add_extend(commands)
    _add_train(commands)
    space = commands.add_parser("space", help="show a method's hyper-parameters and ranges")
    space.add_argument("method", metavar="METHOD")
    listing = commands.add_parser("list", help="show what there is")
    listing.add_argument("what", choices=["methods", "data", "models"])
    board = commands.add_parser("tensorboard", help="open TensorBoard on a run (127.0.0.1)")
    board.add_argument("run", metavar="RUN")
    board.add_argument("--port", type=int, default=6006)
    return parser


def _add_extend(commands: Any) -> None:
    text = "give every cell of a run, finished or running, the same number of further trials"
    extend = commands.add_parser("extend", help=text, description=text)
    extend.add_argument("run", metavar="RUN", help="folder of the run")
    extend.add_argument("--trials", type=int, required=True, help="how many more for each cell")
    _add_cluster(extend)


def _add_train(commands: Any) -> None:
    text = "train one configuration without Ray; validation accuracy only"
    train = commands.add_parser("train", help=text, description=text)
    train.add_argument("experiment", metavar="EXPERIMENT")
    train.add_argument("--method", required=True)
    train.add_argument("--task", help="default: the experiment's first")
    train.add_argument("--rate", type=float, help="default: the experiment's first")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="as optim/lr=0.01 or co_tuning/weight=1",
    )
    train.add_argument("--out", help="folder for its state: the same command goes on after a kill")


def _summary(run: Any, done: bool) -> int:
    """Show the report, and where everything lies; the exit code."""
    from cotuning_tune.report import write_report

    report = write_report(run)
    for table in report.tables:
        print(f"\n{table.title}\n{table.markdown()}")
        if table.note:
            print(table.note)
    print("\n" + "\n".join(f"- {remark}" for remark in report.remarks))
    print(f"\nreport       {run.report / 'report.md'}")
    print(f"TensorBoard  cotuning-tune tensorboard {run.path}")
    return 0 if done else 1


def _start(options: argparse.Namespace) -> tuple[Any, Any]:
    """Experiment and run folder of ``run`` and ``search``."""
    import dataclasses

    from cotuning_tune.experiment import parse, read_experiment
    from cotuning_tune.search.driver import check_cells, create_run
    from cotuning_tune.search.storage import set_storage

    path = Path(options.experiment)
    experiment = read_experiment(path)
    if options.name:
        experiment = dataclasses.replace(
            parse(experiment.text, options.name, path.absolute().parent), name=options.name
        )
    check_cells(experiment)
    command = ["cotuning-tune", *sys.argv[1:]]
    run = create_run(experiment, path, Path(options.storage), command, options.warm_from)
    if options.studies:
        set_storage(run, options.studies)
    return run, experiment


def _work(run: Any, experiment: Any, options: argparse.Namespace, *, search: bool, retrain: bool) -> bool:
    """Search and retrain under the run's lock on one cluster; True where every cell has its budget."""
    from cotuning_tune.cluster import connected, find_slots
    from cotuning_tune.lock import driver_lock
    from cotuning_tune.retrain import run_retraining
    from cotuning_tune.search.driver import Driver, run_search
    from cotuning_tune.watchdog import watchdog

    complete, number = True, 0
    with (
        driver_lock(run) as owner,
        _checked(experiment, options),
        connected(options.address, options.num_cpus),
        watchdog(_say_resume(run)),
    ):
        slots = find_slots(experiment.resources)
        number = run.raise_incarnation(owner)
        size = f"{len(experiment.cells)} cells x {experiment.config.trials} trials"
        print(f"{run.path}: {size}, {slots.count} at a time")
        if search:
            with _ProgressOf("search") as line:
                driver = Driver(number, slots, line.searched, line.say)
                complete = run_search(run, experiment, driver)
        if retrain:
            with _ProgressOf("retrain") as line:
                run_retraining(run, experiment.config.seeds, slots, number, line.retrained)
    return complete


@contextmanager
def _checked(experiment: Any, options: argparse.Namespace) -> Iterator[None]:
    """Open every task and build every method before a cluster is started; ``_start`` has done so already."""
    from cotuning_tune.search.driver import check_cells

    if options.command not in ("run", "search"):
        check_cells(experiment)
    yield


def _say_resume(run: Any) -> Callable[[str], None]:
    def say(reason: str) -> None:
        print(f"\ncotuning-tune: {reason}", file=sys.stderr)
        print(f"cotuning-tune: nothing is lost; to go on: cotuning-tune resume {run.path}", file=sys.stderr, flush=True)

    return say


class _ProgressOf:
    """Turns what the stages report into the progress line."""

    def __init__(self, what: str) -> None:
        from cotuning_tune.console import ProgressLine

        self.line, self.before = ProgressLine(sys.stdout, what), -1

    def searched(self, progress: Any) -> None:
        from cotuning_tune.console import best_of

        failed = f" · {progress.failed} failed" if progress.failed else ""
        detail = f"{progress.running} running{failed} · {best_of(progress.best)}"
        self.line.show(progress.done, progress.asked, detail, progress.started_with)

    def retrained(self, done: int, total: int, last: str) -> None:
        self.before = done if self.before < 0 else self.before
        self.line.show(done, total, last or "start", self.before)

    def say(self, notice: str) -> None:
        self.line.end()
        print(f"note: {notice}", flush=True)

    def __enter__(self) -> "_ProgressOf":
        return self

    def __exit__(self, *_: object) -> None:
        self.line.end()


def _run(options: argparse.Namespace) -> int:
    run, experiment = _start(options)
    return _summary(run, _work(run, experiment, options, search=True, retrain=True))


def _search(options: argparse.Namespace) -> int:
    run, experiment = _start(options)
    done = _work(run, experiment, options, search=True, retrain=False)
    print(f"selections are in {run.path}/cells; next: cotuning-tune retrain {run.path}")
    return 0 if done else 1


def _resume(options: argparse.Namespace) -> int:
    from cotuning_tune.run_dir import RunDir
    from cotuning_tune.search.driver import load_experiment

    run = RunDir.open(options.run)
    experiment = load_experiment(run)
    search = options.command == "resume"
    return _summary(run, _work(run, experiment, options, search=search, retrain=True))


def _extend(options: argparse.Namespace) -> int:
    from cotuning_tune.lock import holder
    from cotuning_tune.run_dir import RunDir
    from cotuning_tune.search.budget import extend
    from cotuning_tune.search.driver import load_experiment

    run = RunDir.open(options.run)
    trials = extend(run, load_experiment(run).config.trials, options.trials)
    print(f"every cell of {run.path} shall have {trials} trials now")
    if holder(run):
        print("the running driver goes on with them")
        return 0
    options.command = "resume"
    return _resume(options)


def _report(options: argparse.Namespace) -> int:
    from cotuning_tune.run_dir import RunDir

    return _summary(RunDir.open(options.run), done=True)


def _status(options: argparse.Namespace) -> int:
    from cotuning_tune.lock import holder
    from cotuning_tune.run_dir import RunDir
    from cotuning_tune.search.driver import load_experiment
    from cotuning_tune.search.status import status_table

    run = RunDir.open(options.run)
    experiment = load_experiment(run)
    print(status_table(run, experiment).markdown())
    owner = holder(run)
    if owner:
        print(f"being worked on by {owner['user']} on {owner['host']} (process {owner['pid']})")
    else:
        print(f"no driver is running; to go on: cotuning-tune resume {run.path}")
    return 0


def _parse_values(pairs: list[str]) -> dict[str, Any]:
    import tomllib

    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair}: KEY=VALUE is needed, as optim/lr=0.01")
        try:
            values[key] = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            values[key] = text
    return values


def _train(options: argparse.Namespace) -> int:
    from cotuning_tune.errors import unknown
    from cotuning_tune.experiment import Cell, read_experiment
    from cotuning_tune.run_dir import TrialDir
    from cotuning_tune.training import TrainingJob

    experiment = read_experiment(options.experiment)
    config, values = experiment.config, _parse_values(options.set)
    rate = config.rates[0] if options.rate is None else options.rate
    cell = Cell(options.task or config.tasks[0], rate, options.method)
    for kind, name, listed in (("task", cell.task, config.tasks), ("method", cell.method, config.methods)):
        if name not in listed:
            raise unknown(f"{kind} of {options.experiment}", name, listed)
    space = experiment.space(cell.method)
    for key in values:
        if key not in space:
            raise unknown("hyper-parameter", key, space)
    spec = experiment.spec(cell, values, options.seed)
    job = TrainingJob(spec, TrialDir(Path(options.out).resolve()) if options.out else None)
    while not job.finished:
        row = job.advance()
        loss = f"loss {row['train_loss']:.4f}"
        print(f"epoch {row['epoch']}/{job.epochs}  {loss}  validation {row['val_accuracy']:.2f} %", flush=True)
    print(f"best validation accuracy {job.best:.2f} % ({cell.name}, seed {options.seed})")
    return 0


def _space(options: argparse.Namespace) -> int:
    from cotuning_tune.hyper import default_of, fields_of
    from cotuning_tune.methods import method
    from cotuning_tune.tables import Table
    from cotuning_tune.training import TrainConfig

    rows = []
    for prefix, config in (
        ("train", TrainConfig),
        (f"methods.{options.method}", method(options.method).Config),
    ):
        for key, (item, _) in fields_of(config).items():
            search = item.metadata.get("search")
            shown = (
                str(search).replace("Range(", "").replace("Choice(options=", "").removesuffix(")")
                if search
                else "pinned"
            )
            doc = item.metadata.get("doc", "")
            rows.append([f"{prefix}.{key.replace('/', '.')}", str(default_of(item)), shown, doc])
    print(Table("space", "", ["key", "default", "searched by default", "meaning"], rows).markdown())
    return 0


def _list(options: argparse.Namespace) -> int:
    import importlib

    from cotuning_tune.discovery import first_line

    package = importlib.import_module(f"cotuning_tune.{options.what}")
    for name in package.names():
        print(f"{name:<24}{first_line(package, name)}".rstrip() if options.what != "models" else name)
    return 0


def _tensorboard(options: argparse.Namespace) -> int:
    import os

    from cotuning_tune.run_dir import RunDir

    run = RunDir.open(options.run)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(run.tensorboard)]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(options.port)])


COMMANDS = {
    "run": _run,
    "search": _search,
    "resume": _resume,
    "extend": _extend,
    "retrain": _resume,
    "report": _report,
    "status": _status,
    "train": _train,
    "space": _space,
    "list": _list,
    "tensorboard": _tensorboard,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code. A user's mistake is one line on standard error and 2."""
    options = make_parser().parse_args(arguments)
    try:
        return COMMANDS[options.command](options)
    except UserError as problem:
        print(f"cotuning-tune: {problem}", file=sys.stderr)
        return 2
    except TrainingFailed as problem:
        print(f"cotuning-tune: the training failed: {problem}", file=sys.stderr)
        return 1
    except Unfinished as problem:
        print(f"cotuning-tune: {problem.reason}; nothing is lost, 'resume' goes on", file=sys.stderr)
        return UNFINISHED
    except KeyboardInterrupt:
        print("\ncotuning-tune: interrupted; nothing is lost, 'resume' goes on", file=sys.stderr)
        return UNFINISHED
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
