"""The report's own error rates: the real report over made-up runs whose truth is known. ``make calibration``

python -m benchmarks.calibration [--short] [--reports 6000] [--json [FILE]] [--processes 2] [--only WORD]

Writes ``benchmarks/results/calibration.json`` and ``docs/calibration.md`` from it (but for --short and --only). Every
chunk of reports has a seed of its own: figures are the same whatever the number of processes.
"""

import argparse
import json
import os
import platform
import sys
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy

import cotuning_tune
from benchmarks.calibration_claims import claim_parts
from benchmarks.calibration_models import model_parts
from benchmarks.calibration_page import page, tables
from benchmarks.calibration_searches import alarm_parts
from benchmarks.calibration_surfaces import surface_parts

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "calibration.json", ROOT / "docs" / "calibration.md"
KINDS = ("false_verdict", "coverage", "alarms", "power", "regret", "best_in_set")
LONG, SHORT, CHUNK = 6000, 300, 50


class Part(Protocol):
    """A row of the calibration. ``once``: measures of one report; ``weight``: share of the usual number of reports."""

    @property
    def name(self) -> str: ...
    @property
    def section(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def weight(self) -> float: ...
    def once(self, rng: np.random.Generator) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class Figure:
    """The mean of a measure over reports, and its standard error."""

    mean: float
    error: float
    reports: int


@dataclass(frozen=True)
class Row:
    """The figures of a part, by measure."""

    name: str
    section: str
    title: str
    figures: dict[str, Figure]


def parts() -> list[Part]:
    """Every row of the calibration: add what else the report claims here."""
    return [*model_parts(), *claim_parts(), *surface_parts(), *alarm_parts()]


def _chunk(task: tuple[Part, int, int]) -> list[Mapping[str, float]]:
    """The records of some reports of a part, from a seed of their own."""
    part, number, count = task
    rng = np.random.default_rng([zlib.crc32(part.name.encode()), number])
    return [part.once(rng) for _ in range(count)]


def _figures(records: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    figures = {}
    for measure in dict.fromkeys(key for record in records for key in record):
        values = np.array([record[measure] for record in records if measure in record])
        error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")
        figures[measure] = Figure(float(values.mean()), error, len(values))
    return figures


def calibrate(chosen: Sequence[Part], reports: int, processes: int = 1) -> list[Row]:
    """The figures of each part over ``reports`` reports (times its weight, two at least)."""
    tasks = []
    for part in chosen:
        count = max(2, round(reports * part.weight))
        tasks += [(part, start, min(CHUNK, count - start)) for start in range(0, count, CHUNK)]
    found: dict[str, list[Mapping[str, float]]] = {part.name: [] for part in chosen}
    if processes > 1:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            _collect(found, tasks, pool.map(_chunk, tasks))
    else:
        _collect(found, tasks, map(_chunk, tasks))
    return [Row(part.name, part.section, part.title, _figures(found[part.name])) for part in chosen]


def _collect(found: dict[str, list[Any]], tasks: Sequence[tuple[Part, int, int]], done: Iterable[Any]) -> None:
    """Puts what each task found to its part; tells the terminal where it stands."""
    for number, ((part, _, _), records) in enumerate(zip(tasks, done, strict=True), 1):
        found[part.name] += records
        if sys.stderr.isatty():
            print(f"\r{100 * number // len(tasks)} % {part.title[:60]:60}", end="", file=sys.stderr, flush=True)


def flat(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Measure: part: figure; the standard errors under their own key, as measure/part.

    What a measure has besides its kind ("regret_max") goes to the part's name.
    """
    shown: dict[str, dict[str, float]] = {}
    for row in rows:
        for measure, figure in row.figures.items():
            kind = next((kind for kind in KINDS if measure.startswith(kind)), measure)
            name = row.name + measure.removeprefix(kind)
            shown.setdefault(kind, {})[name] = round(figure.mean, 5)
            shown.setdefault("standard_error", {})[f"{kind}/{name}"] = round(figure.error, 5)
    return shown


def results(rows: Sequence[Row]) -> dict[str, Any]:
    """What is kept: the machine, its versions, the date, and every figure."""
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "cotuning_tune": cotuning_tune.__version__,
    }
    head = {"machine": machine, "date": time.strftime("%Y-%m-%d"), "processor_seconds": round(sum(os.times()[:4]))}
    return {**head, "rows": [asdict(row) for row in rows]}


def kept(found: Mapping[str, Any]) -> str:
    """The results as they are written: a row per line."""
    head = json.dumps({key: value for key, value in found.items() if key != "rows"}, indent=1)
    lines = ",\n".join(json.dumps(row) for row in found["rows"])
    return f'{head[:-2]},\n "rows": [\n{lines}\n]}}\n'


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a minute's worth of reports; nothing is kept")
    parser.add_argument("--reports", type=int, default=LONG, help="of a part of weight 1")
    parser.add_argument("--json", nargs="?", const="-", help="the figures as flat JSON, to a file or to the terminal")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="the parts whose name contains this; nothing is kept")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Calibrate, print, keep."""
    options = _options(arguments)
    chosen = [part for part in parts() if options.only in part.name]
    rows = calibrate(chosen, SHORT if options.short else options.reports, options.processes)
    found = results(rows)
    if options.json != "-":
        print(tables(found))
    if options.json:
        text = json.dumps(flat(rows), indent=2) + "\n"
        sys.stdout.write(text) if options.json == "-" else Path(options.json).write_text(text)
    if not (options.short or options.only):
        RESULTS.write_text(kept(found))
        PAGE.write_text(page(found))


if __name__ == "__main__":
    main()
