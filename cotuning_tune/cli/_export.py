"""The commands that take a model out of a run and use it: export, predict."""

import argparse
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from cotuning_tune.base.errors import UserError
from cotuning_tune.cli._options import Commands
from cotuning_tune.export import EVERY, FORMATS, OF_TEXTS

if TYPE_CHECKING:
    from pathlib import Path

    from cotuning_tune.export.bundle import Bundle


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
    exporter.add_argument(
        "--format", required=True, choices=EVERY, help="onnx needs the extra [onnx]; of texts: transformers"
    )
    exporter.add_argument("--out", metavar="DIR", help="a new folder (default: RUN/export/STUDY-seedN-FORMAT)")
    exporter.set_defaults(call=_export)
    text = "predict the class of each image in a folder, or the tags of a text file, with an exported model, on the CPU"
    predictor = commands.add_parser("predict", help=text, description=text)
    predictor.add_argument("export", metavar="EXPORT", help="folder of an exported model")
    predictor.add_argument(
        "folder", metavar="FOLDER", help="images, in subfolders too; for texts a file, a sentence a line"
    )
    predictor.add_argument("--out", metavar="CSV", help="file for the table (default: printed)")
    predictor.set_defaults(call=_predict, for_reader=True)


def _export(options: argparse.Namespace) -> int:
    from cotuning_tune.export.bundle import open_bundle
    from cotuning_tune.export.chosen import find_winner
    from cotuning_tune.runs.folder import RunDir

    run = RunDir.open(options.run)
    winner = find_winner(run, options.study, options.seed)
    from cotuning_tune.data import data_set
    from cotuning_tune.export.write import default_folder, export  # torch, after what needs none

    reads = data_set(winner.spec["format"] or winner.spec["task"]).modality == "text"
    if options.format not in (known := OF_TEXTS if reads else FORMATS):
        taken = ", ".join(known)
        raise UserError(f"--format {options.format}: a model of {winner.study.examples} is written as {taken}")
    bundle = open_bundle(options.out or default_folder(winner, options.format))
    if reads:
        from cotuning_tune.export.text_model import export_text

        check = export_text(winner, bundle)
    else:
        check = export(winner, options.format, bundle)
    print(f"{winner.title}: {options.format}, {check.line}")
    print(f"written to {bundle.path}; how good it is and what it is not: {bundle.card}")
    return 0


@contextmanager
def _opened(out: str | None) -> Iterator[TextIO]:
    """The file of the table, or standard output. Raises UserError where it cannot be written."""
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


def _tag(bundle: "Bundle", file: "Path", out: str | None) -> int:
    """Tags of a text file's words, as columns; classes of whole texts, as CSV."""
    import csv
    from itertools import chain

    from cotuning_tune.export.text_model import tagged

    lines = tagged(bundle, file)
    first = next(lines)  # what is wrong shows here, before a file is made
    with _opened(out) as stream:
        if bundle.read()["whole"]:
            csv.writer(stream, lineterminator="\n").writerows(chain([first], lines))
        else:
            stream.writelines("\t".join(line) + "\n" for line in chain([first], lines))
    if out:
        print(f"written to {out}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    import csv
    from itertools import chain
    from pathlib import Path

    from cotuning_tune.base.walk import told, walk
    from cotuning_tune.export.bundle import open_bundle
    from cotuning_tune.export.predict import table

    folder = Path(options.folder).expanduser()
    bundle = open_bundle(options.export)
    if bundle.read()["format"] in OF_TEXTS:
        return _tag(bundle, folder, options.out)
    problems: list[str] = []
    lines = table(bundle, folder, problems)
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
