"""The calibration as tables: for the terminal, and for ``docs/calibration.md``."""

from collections.abc import Mapping
from typing import Any

from benchmarks.calibration_claims import APART
from cotuning_tune.base.tables import Table

MEASURES = {  # name: its column, whether it is a share
    "false_verdict": ("false verdicts", True),
    "false_verdict_highest": ("false, highest against all", True),
    "coverage": ("intervals hold", True),
    "power": ("found", True),
    "best_in_set": ("set holds the best", True),
    "set_size": ("size of the set", False),
    "misread": ("if configurations were methods", True),
    "not_judged": ("reports with a method not judged", True),
    "files_differ": ("differ from memory", True),
    "alarms": ("false alarms", True),
    "alarms_edge": ("of an end", True),
    "alarms_cause": ("of a cause", True),
    "regret_max": ("`max`", False),
    "regret_loss": ("`loss`", False),
    "regret_confirm": ("`confirm`", False),
    "regret_3splits": ("`val_splits = 3`", False),
}
GLANCE = (  # part, measure, what it says
    ("claim4_4datasets", "false_verdict", "4 data sets, equal methods: some method is called better or worse"),
    ("claim4_4datasets", "coverage", "... all intervals of the differences hold"),
    ("claim4_4datasets", "best_in_set", "... the methods that may be the best include the best"),
    ("claim4_4datasets_plus2", "power", "4 data sets: a method that is 2 points better is called better"),
    ("claim4_12datasets_plus1", "power", "12 data sets: a method that is 1 point better is called better"),
    (
        "aim_8searches_4trials_200images",
        "false_verdict",
        '1 data set, `aim = "methods"` (8 searches of 4 trials): false',
    ),
    ("aim_8searches_4trials_200images_plus3", "power", "... 3 points are found, with 200 validation images"),
    ("aim_8searches_4trials_1000images_plus3", "power", "... with 1000 validation images"),
    ("claim1_1000images", "false_verdict", "1000 test images: equal models are said to differ"),
    ("claim2_3seeds", "false_verdict", "3 seeds: equal configurations are said to differ"),
    ("claim1_1000images", "coverage", "the interval of a model's accuracy on new images holds"),
    ("healthy_1dataset_32trials", "alarms", "a healthy search space is found fault with"),
    ("edge_1dataset_32trials", "power", "a best learning rate beyond its range is found (32 trials)"),
    ("hill_200images_32trials", "regret_max", 'points lost by choosing, 200 validation images: `selection = "max"`'),
    ("hill_200images_32trials", "regret_confirm", '... `selection = "confirm"`'),
)
AIMS = {  # measure: from, to
    "false_verdict": (0.0, 0.06),
    "false_verdict_highest": (0.0, 0.06),
    "coverage": (0.93, 0.97),
    "best_in_set": (0.94, 1.0),
    "alarms": (0.0, 0.05),
}


def misses(found: Mapping[str, Any]) -> list[str]:
    """A line for each figure that lies outside its aim by more than two standard errors; one for all wide intervals."""
    lines, wide = [], []
    for row in found["rows"]:
        if row["section"] == APART:
            continue
        for measure, (low, high) in AIMS.items():
            figure = row["figures"].get(measure)
            if not figure or low - 2 * figure["error"] <= figure["mean"] <= high + 2 * figure["error"]:
                continue
            if measure == "coverage" and figure["mean"] > high:
                wide.append(figure["mean"])
            else:
                lines.append(f"- {row['title']}: {MEASURES[measure][0]} {_shown(figure, share=True)}")
    if wide:
        lines.append(
            f"- Intervals wider than they need be: they hold in more than 97 % in {len(wide)} rows (up to"
            f" {100 * max(wide):.1f} %), those over few units and with a noisy method"
        )
    return lines


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


def glance(found: Mapping[str, Any]) -> Table:
    """The figures that matter most."""
    rows = {row["name"]: row["figures"] for row in found["rows"]}
    body = [[words, _shown(rows[name].get(m), share=MEASURES[m][1])] for name, m, words in GLANCE if name in rows]
    return Table("glance", "At a glance", ["what the report does", "how often, or points"], body)


def tables(found: Mapping[str, Any]) -> str:
    """For the terminal."""
    return "\n\n".join(f"{table.title}\n{table.markdown()}" for table in _tables(found))


HEAD = """# How often the report is wrong

A report says which methods differ, how sure it is, and what is wrong with a search space. `make calibration` counts how
often that is false: it runs the report's own code over made-up runs of which the truth is known. That command wrote
this page and `benchmarks/results/calibration.json` ({date}; {processor}, {cores} cores, {minutes} processor minutes;
Python {python}, numpy {numpy}, scipy {scipy}). Figures are means over reports ± standard error.

In each made-up report

- a *false verdict* is any word that a method, model or configuration differs from the baseline where it does not (aim:
  at most 6 % of reports),
- *intervals hold* where the 95 % intervals contain the truth: all those of a comparison of methods together, those of
  models' accuracies one by one (aim: 93 to 97 %),
- the *set holds the best* where the methods that may be the best include it (aim: 94 % or more; of equal methods each
  one is a best), and the smaller the set, the more was learned,
- *found* is the difference, or the fault, that was put in,
- a *false alarm* is any finding of the diagnostics where nothing is wrong (aim: at most 5 %),
- *regret* is how many points the chosen configuration lies below the best one that was tried.

A made-up result of a method is the level of its data set, plus luck of the search (standard deviation 0.7 points), plus
luck of the seed (0.5); five methods, three seeds, where the row does not say otherwise. For the rows about small
searches, choosing and diagnostics, luck comes out of made-up surfaces, of the points drawn and of few validation
images. Early stopping ends trials by luck alone. An image is hard for all models or for one; all are right on 70 %.
"""
TAIL = """## What is not covered

- Made-up luck is normal (one row: skewed) and independent; that of your trainings may not be. Searches are
  Sobol points, not TPE's or those of a Gaussian process; early stopping does not choose.
- Over few units no test can see that one method is noisier than the others. So a difference must also pass by itself, a
  paired t test at 4 %, over two units 3 % (configurations: Welch's). That bounds false verdicts whichever method is
  noisy, makes intervals over two to four units wider than 95 % needs, and costs power there where all methods vary
  alike: without it, 2 points on 4 data sets were found in 77 % of reports. Six units bring it back.
- Claim 3 is about one data set and its test split: test images that suit a method suit it in every search.
- One data set searched once says nothing of methods: no verdict is given, so none is false.

## Repeat it

`make calibration` takes ten minutes on two quiet cores and writes this page (`ARGS="--reports 500"`: fewer reports).
`ARGS=--short` takes a minute and keeps nothing; `ARGS=--json` prints every figure as
`{"false_verdict": {"claim4_4datasets": ...}}`, `ARGS="--json figures.json"` writes them to a file. Seeds are fixed: the
figures repeat whatever the number of processes. `tests/report/test_calibration.py` is the short form with bounds, and
shows that a report which takes settings or seeds for units does not pass.
"""


def _misses(found: Mapping[str, Any]) -> str:
    lines = misses(found) or ["None."]
    return "\n".join(["## Outside the aims", "", "By more than two standard errors:", "", *lines, ""])


def page(found: Mapping[str, Any]) -> str:
    """``docs/calibration.md``."""
    machine = found["machine"] | {"date": found["date"], "minutes": max(1, round(found["processor_seconds"] / 60))}
    first = f"## At a glance\n\n{glance(found).markdown()}\n"
    sections = [f"### {table.title}\n\n{table.markdown()}\n" for table in _tables(found)]
    return (
        "\n".join([HEAD.format(**machine), first, _misses(found), TAIL, "## Every figure\n", *sections]).rstrip() + "\n"
    )
