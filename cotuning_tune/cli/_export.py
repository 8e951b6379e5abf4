"""The commands that take a model out of a run and use it: export, predict."""

import argparse
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from cotuning_tune.cli._options import Commands
from cotuning_tune.export import FORMATS


def add(commands: Commands) -> None:
    """The parsers of these commands."""
    text = "write the retrained model of a study as a folder that works without the run"
    exporter = commands.add_parser("export", help=text, description=text)
    exporter.add_argument("run", metavar="RUN", help="folder of the run")
    exporter.add_argument(
        "--study", required=True, help="TASK-RATE-METHOD (or TASK-RATE-BACKBONE-METHOD), a folder of RUN/studies"
    )
    exporter.add_argument(
        "--seed", type=int, metavar="N", help="seed of the retraining (default: the lowest complete one)"
    )
    exporter.add_argument("--format", required=True, choices=FORMATS, help="onnx needs the extra [onnx]")
    exporter.add_argument("--out", metavar="DIR", help="a new folder (default: RUN/export/STUDY-seedN-FORMAT)")
    exporter.set_defaults(call=_export)
    text = "predict the class of each image in a folder with an exported model, on the CPU"
    predictor = commands.add_parser("predict", help=text, description=text)
    predictor.add_argument("export", metavar="EXPORT", help="folder of an exported model")
    predictor.add_argument("folder", metavar="FOLDER", help="images, in subfolders too")
    predictor.add_argument("--out", metavar="CSV", help="file for the table (default: printed)")
    predictor.set_defaults(call=_predict, for_reader=True)


def _export(options: argparse.Namespace) -> int:
    from cotuning_tune.export.bundle import open_bundle
    from cotuning_tune.export.chosen import find_winner
    from cotuning_tune.run.folder import RunDir

    run = RunDir.open(options.run)
    winner = find_winner(run, options.study, options.seed)
    from cotuning_tune.export.write import default_folder, export  # torch, after what needs none

    bundle = open_bundle(options.out or default_folder(winner, options.format))
    check = export(winner, options.format, bundle)
    print(f"{winner.title}: {options.format}, {check.line}")
    print(f"written to {bundle.path}; how good it is and what it is not: {bundle.card}")
    return 0


@contextmanager
def _opened(out: str | None) -> Iterator[TextIO]:
    """The file of the table, or standard output. Raises UserError where it cannot be written."""
    from cotuning_tune.base.errors import UserError
    from cotuning_tune.base.files import open_new, place

    if not out:
        yield sys.stdout
        return
    try:
        file = open_new(place(out))
    except OSError as problem:
        raise UserError(f"{out} cannot be written: {problem.strerror or problem}") from None
    with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        yield text


def _predict(options: argparse.Namespace) -> int:
    import csv
    from itertools import chain
    from pathlib import Path

    from cotuning_tune.base.walk import told, walk
    from cotuning_tune.export.bundle import open_bundle
    from cotuning_tune.export.predict import table

    folder = Path(options.folder).expanduser()
    problems: list[str] = []
    lines = table(open_bundle(options.export), folder, problems)
    first = next(lines)  # what is wrong shows here, before a file is made
    with _opened(options.out) as stream:
        csv.writer(stream, lineterminator="\n").writerows(chain([first], lines))
    if problems:
        named = f"{len(problems)} image(s) in {folder} cannot be read and are left out: {', '.join(problems)}"
        print(f"cotuning-tune: {named}", file=sys.stderr)
    for line in told(walk(folder).passed):
        print(f"cotuning-tune: {folder}: {line}", file=sys.stderr)
    if options.out:
        print(f"written to {options.out}")
    return 0
