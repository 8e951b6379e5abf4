"""The commands for data sets: data list, prepare, verify, describe, build-coco70."""

import argparse
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from cotuning_tune.base.errors import UserError
from cotuning_tune.cli._options import Commands, parse_values, usable, with_origin

if TYPE_CHECKING:
    from cotuning_tune.data import DataSet
    from cotuning_tune.inspection.verify import Verification

VERIFY_CODES = "Exit codes: 0 nothing wrong, or warnings only; 1 something wrong; 2 a mistake in what was given."


def add(commands: Commands) -> None:
    """The parsers of these commands."""
    text = "prepare, check and describe data sets"
    group = commands.add_parser("data", help=text, description=text).add_subparsers(
        dest="data_command", metavar="COMMAND", required=True
    )
    text = "list every data set: its published figures, and whether it can be downloaded"
    group.add_parser("list", help=text, description=text).set_defaults(call=_list)
    text = "download a data set, or say where to get it and how its folder must look"
    prepare = group.add_parser("prepare", help=text, description=text)
    _add_address(prepare)
    prepare.set_defaults(call=_prepare)
    _add_verify(group)
    _add_describe(group)
    _add_build(group)


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data_set", metavar="DATA_SET", nargs="?", help="a data set, as 'data list' shows them")
    parser.add_argument("--root", metavar="DIR", help="its folder")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="another option, as invert=false"
    )
    parser.add_argument("--experiment", metavar="FILE", help="take data set and options from there, with --task")
    parser.add_argument("--task", metavar="NAME", help="a task of that file (default: its first)")


def _add_verify(group: Commands) -> None:
    text = "open every image and compare all of them: corrupt, missing, leaked into the test split, tiny"
    verify = group.add_parser("verify", help=text, description=text, epilog=VERIFY_CODES)
    _add_address(verify)
    verify.add_argument("--smallest", type=int, default=32, metavar="PX", help="shorter sides below are tiny (32)")
    verify.add_argument("--strict", action="store_true", help="warnings give exit code 1 too")
    verify.add_argument("--jobs", type=_positive, metavar="N", help="number of threads (default: one per core)")
    verify.add_argument("--json", metavar="FILE", help="write all findings to FILE")
    verify.set_defaults(call=_verify)


def _add_describe(group: Commands) -> None:
    text = "show classes, balance, splits and sizes, and draw a contact sheet of training images"
    describe = group.add_parser("describe", help=text, description=text)
    _add_address(describe)
    describe.add_argument(
        "--rates", type=float, nargs="+", metavar="RATE", help="sampling rates (0.15 0.3 0.5 1, or the experiment's)"
    )
    describe.add_argument(
        "--sheet", metavar="FILE", help="the contact sheet, a PNG (default: DATA_SET.png or TASK.png)"
    )
    describe.set_defaults(call=_describe)


def _add_build(group: Commands) -> None:
    text = "crop COCO-70 out of COCO 2017: 70 classes, the same crops every time; continues after a kill"
    build = group.add_parser("build-coco70", help=text, description=text)
    build.add_argument("--coco", required=True, metavar="DIR", help="holds annotations/ and train2017/")
    build.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    build.add_argument("--per-class", type=_positive, default=1000, metavar="N", help="crops per class (1000)")
    build.add_argument(
        "--smallest", type=_positive, default=32, metavar="PX", help="least shorter side of an object (32)"
    )
    build.add_argument(
        "--padding", type=float, default=0.0, metavar="SHARE", help="of the box's sides, added on each side (0)"
    )
    build.add_argument("--seed", type=int, default=0, help="another seed, other crops (0)")
    build.add_argument("--with-val", action="store_true", help="crop from val2017 too")
    build.add_argument("--allow-fewer", action="store_true", help="take what there is in classes with too few")
    build.add_argument("--jobs", type=_positive, metavar="N", help="number of threads (default: one per core)")
    build.set_defaults(call=_build)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


ENLARGED = 64  # pixels; the side at which sets that are no files are compared, above that of any of them


class _Address:
    """Which data set is meant, with its options: from DATA_SET and --set, or from an experiment file.

    ``name``: of the data set; ``shown``: what the user calls it, the task where there is one.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        from cotuning_tune.data import TaskConfig, data_set
        from cotuning_tune.hyper import build

        if bool(options.data_set) == bool(options.experiment):
            raise UserError("name a data set (see 'data list'), or --experiment FILE with --task NAME")
        self.name = self.shown = options.data_set
        self.task = TaskConfig()
        self.rates: tuple[float, ...] = ()
        given: dict[str, object] = {}
        if options.experiment:
            given = self._read(options)
        elif options.task:
            raise UserError("--task names a task of an experiment file: add --experiment FILE")
        given |= parse_values(options.set, "invert=false")
        if options.root:
            given["root"] = str(Path(options.root).expanduser().absolute())
        self.kind = data_set(self.name)
        self.config = build(self.kind.Config, given, f"data.{self.name}")

    def _read(self, options: argparse.Namespace) -> dict[str, object]:
        from cotuning_tune.base.errors import unknown
        from cotuning_tune.data import TaskConfig
        from cotuning_tune.experiment import read_experiment
        from cotuning_tune.hyper import build

        experiment = read_experiment(options.experiment)
        task = options.task or experiment.config.tasks[0]
        if task not in experiment.config.tasks:
            raise unknown(f"task of {options.experiment}", task, experiment.config.tasks)
        self.name, self.shown, self.rates = experiment.formats[task], task, experiment.config.rates
        self.task = build(TaskConfig, experiment.task, "task")
        return dict(experiment.data[task])

    def open(self, stored_size: int) -> "DataSet":
        data = self.kind(self.config, stored_size)
        data.decoding = self.task.decoding
        return data


def _list(_: argparse.Namespace) -> int:
    from cotuning_tune import data

    head = ["name", "classes", *data.SPLITS, "download", "what it is"]
    rows = [head]
    wrong = data.broken()
    for name in usable(data, data.names(), wrong):
        found = data.data_set(name)
        counts = [str(found.counts.get(what, "-")) for what in ("classes", *data.SPLITS)]
        rows.append([name, *counts, "yes" if found.fetches else "no", with_origin(data, name, data.about(name))])
    rows += [[name, *"-----", f"broken: {line}"] for name, line in wrong.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    for name, *middle, about in rows:
        shown = [text.rjust(width) for text, width in zip(middle, widths[1:], strict=True)]
        print("  ".join([name.ljust(widths[0]), *shown, about]))
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from cotuning_tune.inspection.prepare import prepare

    address = _Address(options)
    kind = address.kind
    try:
        place = prepare(kind, address.config)
    except UserError:
        if not kind.fetches:
            source = f"comes from {kind.page}" if kind.page else "is for you to make"
            print(f"{address.name} {source}; its folder must look like this:")
            print(textwrap.dedent(kind.layout or (sys.modules[kind.__module__].__doc__ or "")).strip())
        raise
    print(f"{address.shown} {place.line}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from cotuning_tune.base.console import ProgressLine
    from cotuning_tune.base.files import write_json
    from cotuning_tune.inspection.near import NOT_COUNTED, can_compare
    from cotuning_tune.inspection.verify import KINDS, verify

    address = _Address(options)
    data = address.open(ENLARGED)
    line = ProgressLine(sys.stdout, "verify")
    found = verify(data, options.smallest, options.jobs, lambda done, total: line.show(done, total, "images"))
    line.end()
    print(found.table().markdown())
    for skipped in data.not_taken():
        print(skipped)
    for kind in KINDS:
        _name_some(found, kind)
    if found.files and not can_compare():
        print(NOT_COUNTED)
    errors, warnings = found.count(errors=True), found.count(errors=False)
    print(f"{address.shown}: {errors} error(s), {warnings} warning(s) in {sum(found.images.values())} images")
    if options.json:
        write_json(Path(options.json), {"data_set": address.name, **found.to_json()})
    return 1 if errors or (options.strict and warnings) else 0


def _name_some(found: "Verification", kind: str) -> None:
    """At most ten findings of a kind."""
    from cotuning_tune.inspection.verify import KINDS

    listed = found.of(kind)
    if listed:
        print(f"{KINDS[kind].title} ({'error' if KINDS[kind].error else 'warning'}): {len(listed)}")
    for finding in listed[:10]:
        print(f"  {finding.line}")
    if len(listed) > 10:
        print(f"  and {len(listed) - 10} more; --json FILE names all")


def _describe(options: argparse.Namespace) -> int:
    from cotuning_tune.base.files import write_bytes
    from cotuning_tune.inspection.contact_sheet import draw_sheet
    from cotuning_tune.inspection.describe import RATES, describe
    from cotuning_tune.inspection.splits import STORED_SIDE

    address = _Address(options)
    data = address.open(STORED_SIDE)
    found = describe(data, address.task, options.rates or address.rates or RATES)
    print(f"{address.shown}: {len(found.class_names)} classes")
    for line in (*data.not_taken(), *found.lines):
        print(line)
    for table in (found.balance(), found.split(), *([found.sides()] if found.sizes else [])):
        print(f"\n{table.markdown()}\n{table.note}")
    path = Path(options.sheet or f"{address.shown}.png")
    sheet = draw_sheet(address.shown, found)
    write_bytes(path, sheet.png())
    print(f"\n{path}: training images of {sheet.classes} of {len(found.class_names)} classes")
    if sheet.unreadable:
        print(f"{len(sheet.unreadable)} of them cannot be read: see 'data verify'")
    return 0


def _build(options: argparse.Namespace) -> int:
    from cotuning_tune.base.console import ProgressLine
    from cotuning_tune.inspection.build_coco70 import BuildOptions, build_coco70

    chosen = BuildOptions(
        per_class=options.per_class,
        smallest=options.smallest,
        padding=options.padding,
        seed=options.seed,
        with_val=options.with_val,
        allow_fewer=options.allow_fewer,
    )
    line = ProgressLine(sys.stdout, "crop")
    out = Path(options.out)
    built = build_coco70(
        Path(options.coco), out, chosen, options.jobs, lambda done, total: line.show(done, total, "source images")
    )
    line.end()
    counts = ", ".join(f"{count} {split}" for split, count in built.counts.items())
    print(f"{out}: {len(built.class_names)} classes, {counts} crops, {built.kept} of them were there before")
    for note in built.notes:
        print(f"note: {note}")
    return 0
