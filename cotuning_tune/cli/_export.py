"""The commands that take a model out of a run and use it: export, predict."""

import argparse
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from cotuning_tune.base.errors import UserError
from cotuning_tune.cli._options import Commands
from cotuning_tune.export import EVERY, OF_TEXTS

if TYPE_CHECKING:
    from pathlib import Path

    from cotuning_tune.export.bundle import Bundle


def add(commands: Commands) -> None:
    """The parsers of these commands."""
    text = "write the retrained model of a study as a folder that works without the run"
    exporter = commands.add_parser("export", help=text, description=text)
    exporter.add_argument("run", metavar="RUN", help="folder of the run")
    text = "TASK-RATE-METHOD (or TASK-RATE-BACKBONE-METHOD), a folder of RUN/studies"
    exporter.add_argument("--study", help=f"{text} (default: what the report says to take)")
    exporter.add_argument(
        "--seed", type=int, metavar="N", help="seed of the retraining (default: the lowest complete one)"
    )
    text = "timm and torchvision load theirs by themselves; onnx needs the extra [onnx]; of texts: transformers"
    exporter.add_argument("--format", required=True, choices=EVERY, help=text)
    text = "with onnx: the model resizes, cuts and normalises itself, and takes uint8 images [batch, height, width, 3]"
    exporter.add_argument("--with-preprocessing", action="store_true", help=text)
    exporter.add_argument("--out", metavar="DIR", help="a new folder (default: RUN/export/STUDY-seedN-FORMAT)")
    exporter.set_defaults(call=_export)
    text = "predict the class of each image in a folder, or the tags of a text file, with an exported model, on the CPU"
    more = "; where sub-folders are named after its classes, also the accuracy and which classes are confused"
    predictor = commands.add_parser("predict", help=text, description=text + more)
    predictor.add_argument("export", metavar="EXPORT", help="folder of an exported model")
    predictor.add_argument(
        "folder", metavar="FOLDER", help="images, in subfolders too; for texts a file, a sentence a line"
    )
    predictor.add_argument("--out", metavar="CSV", help="file for the table (default: printed)")
    text = "file for accuracy, interval and confusions, of a folder whose sub-folders are classes of the model"
    predictor.add_argument("--json", metavar="FILE", help=text)
    predictor.set_defaults(call=_predict, for_reader=True)


def _export(options: argparse.Namespace) -> int:
    from cotuning_tune.export.chosen import best_study, find_winner
    from cotuning_tune.runs.folder import RunDir

    run, study, chosen = RunDir.open(options.run), options.study, ""
    if not study:
        run, study, chosen = best_study(run)
    winner = find_winner(run, study, options.seed)
    from cotuning_tune.export.write import export_model  # torch, after what needs none

    bundle, check = export_model(winner, options.format, options.out, inside=options.with_preprocessing)
    if chosen:
        print(chosen)
    print(f"{winner.title}: {options.format}, {check.line}")
    print(f"written to {bundle.path}; how good it is and what it is not: {bundle.card}")
    return 0


@contextmanager
def _opened(out: str | None) -> Iterator[TextIO]:
    """A file for the table or the figures, or standard output. Raises UserError where it cannot be written."""
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


def _write(lines: "Iterator[list[str]]", out: str | None, *, columns: bool = False) -> None:
    """The lines as CSV, or as ``columns`` with tabs between them; what is wrong with the first shows before a file is
    made."""
    import csv
    from itertools import chain

    first = next(lines)
    with _opened(out) as stream:
        if columns:
            stream.writelines("\t".join(line) + "\n" for line in chain([first], lines))
        else:
            csv.writer(stream, lineterminator="\n").writerows(chain([first], lines))


def _predict(options: argparse.Namespace) -> int:
    from pathlib import Path

    from cotuning_tune.export.bundle import open_bundle

    folder, bundle = Path(options.folder).expanduser(), open_bundle(options.export)
    if (description := bundle.read())["format"] not in OF_TEXTS:
        _classify(bundle, folder, options)
    elif options.json:
        raise UserError("--json goes with a folder of images: a file of sentences has no classes to compare with")
    else:
        from cotuning_tune.export.text_model import tagged

        _write(tagged(bundle, folder), options.out, columns=not description["whole"])
    if options.out:
        print(f"written to {options.out}")
    return 0


def _classify(bundle: "Bundle", folder: "Path", options: argparse.Namespace) -> None:
    """The table of a folder's images, what was left out, and how good it is where that can be said."""
    import json

    from cotuning_tune.base.walk import told, walk
    from cotuning_tune.export.labelled import labelled, needed
    from cotuning_tune.export.predict import table

    problems: list[str] = []
    lines, classes = table(bundle, folder, problems), bundle.read()["classes"]
    score = (needed if options.json else labelled)(folder, classes)
    _write(score.watched(lines) if score else lines, options.out)
    if problems:
        named = f"{len(problems)} image(s) in {folder} cannot be read and are left out: {', '.join(problems)}"
        print(f"cotuning-tune: {named}", file=sys.stderr)
    for line in told(walk(folder).passed):
        print(f"cotuning-tune: {folder}: {line}", file=sys.stderr)
    if score:
        print("\n".join(score.lines()), file=sys.stdout if options.out else sys.stderr)
        if options.json:
            with _opened(options.json) as stream:
                stream.write(json.dumps(score.facts(), indent=1, ensure_ascii=False) + "\n")
