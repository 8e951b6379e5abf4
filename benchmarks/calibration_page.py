"""The calibration as tables: for the terminal, and for ``docs/calibration.md``."""

from collections.abc import Mapping
from typing import Any

from cotuning_tune.base.tables import Table

MEASURES = {  # name: its column, whether it is a share
    "false_verdict": ("false verdicts", True),
    "coverage": ("intervals hold", True),
    "power": ("found better", True),
    "set_holds_best": ("set holds the best", True),
    "set_size": ("size of the set", False),
    "not_judged": ("reports with a method not judged", True),
    "files_differ": ("differ from memory", True),
    "alarms": ("false alarms", True),
    "found": ("fault found", True),
    "regret": ("regret (points)", False),
}


def _shown(figure: Mapping[str, float] | None, share: bool) -> str:
    if figure is None:
        return "-"
    mean, error = figure["mean"], figure["error"]
    return f"{100 * mean:.1f} ± {100 * error:.1f} %" if share else f"{mean:.2f} ± {error:.2f}"


def _tables(found: Mapping[str, Any]) -> list[Table]:
    """One table for each section; columns are the measures that it has."""
    sections: dict[str, list[Any]] = {}
    for row in found["rows"]:
        sections.setdefault(row["section"], []).append(row)
    made = []
    for section, rows in sections.items():
        there = [m for m in MEASURES if any(m in row["figures"] for row in rows)]
        header = ["made-up runs", "reports", *(MEASURES[m][0] for m in there)]
        body = [
            [
                row["title"],
                str(max(figure["reports"] for figure in row["figures"].values())),
                *(_shown(row["figures"].get(m), MEASURES[m][1]) for m in there),
            ]
            for row in rows
        ]
        made.append(Table(section.lower().replace(" ", "_"), section, header, body))
    return made


def tables(found: Mapping[str, Any]) -> str:
    """For the terminal."""
    return "\n\n".join(f"{table.title}\n{table.markdown()}" for table in _tables(found))


HEAD = """# How often the report is wrong

`make calibration` runs the report's own code over made-up runs whose truth is known, and counts. That command writes
this page from `benchmarks/results/calibration.json` ({date}, Python {python}, numpy {numpy}, scipy {scipy}, {cores}
cores, {minutes} processor minutes). Figures are means over reports ± standard error.

A made-up result is the level of its data set, plus luck of the search (standard deviation 0.7 points), plus luck of the
seed (0.5); five methods, three seeds, where the row does not say otherwise. In each report

- a *false verdict* is any "better" or "worse" of a method that does not differ from the baseline (aim: at most 6 %),
- *intervals hold* where the simultaneous 95 % intervals contain all true differences (aim: 93 to 97 %),
- the *set holds the best* where the methods that may be the best include it (aim: 94 % or more; of equal methods each
  one is a best), and the smaller the set, the more was learned,
- *found better* is a verdict "better" of the method that is,
- a *false alarm* is any finding of the search-space diagnostics in a search in which nothing is wrong.
"""
TAIL = """## What cannot be had

- Over two or three data sets no test can see that one method is noisier than the others; over four it sees it in part.
  Verdicts are then false as often as the table says; where the baseline is the noisy one, more often.
- Searches of one data set that share a validation split share its luck: their verdicts hold for that split.
- One data set searched once says nothing of methods: no verdict is given, so none is false.

## Repeat it

`make calibration` takes ten minutes on two cores and writes this page. `make calibration ARGS=--short` takes one minute
and keeps nothing; `ARGS="--json figures.json"` writes every figure as `{"false_verdict": {"claim4_4datasets": ...}}`.
Seeds are fixed: the figures repeat whatever the number of processes. `tests/report/test_calibration.py` is the short
form with bounds, and shows that a report which takes seeds for units would not pass.
"""


def page(found: Mapping[str, Any]) -> str:
    """``docs/calibration.md``."""
    machine = found["machine"] | {"date": found["date"], "minutes": max(1, round(found["processor_seconds"] / 60))}
    sections = [f"## {table.title}\n\n{table.markdown()}\n" for table in _tables(found)]
    return "\n".join([HEAD.format(**machine), *sections, TAIL])
