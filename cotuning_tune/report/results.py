"""What a run's files say of each cell."""

import statistics
import tomllib
from dataclasses import dataclass, field
from typing import Any

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json
from cotuning_tune.run.folder import CellDir, RunDir


@dataclass(frozen=True)
class CellResult:
    """A cell: its study's trials, the selection (None: no trial succeeded), the retrained seeds.

    ``name``: of its folder. ``importance``: share of each searched parameter; empty where unknown.
    """

    task: str
    rate: float
    method: str
    asked: int
    given_up: bool
    trials: list[dict[str, Any]]
    selection: dict[str, Any] | None
    seeds: list[dict[str, Any]]
    name: str = ""
    importance: dict[str, float] = field(default_factory=dict)
    folder: CellDir | None = None

    @property
    def place(self) -> str:
        """The task at its rate: what the cells of all methods share."""
        return f"{self.task} {100 * self.rate:g} %"

    @property
    def shown(self) -> str:
        return f"{self.method} on {self.task} at {100 * self.rate:g} %"

    def count(self, state: str) -> int:
        """Trials in a state of Optuna's: COMPLETE, PRUNED, FAIL, RUNNING."""
        return sum(trial["state"] == state for trial in self.trials)

    @property
    def search_epochs(self) -> int:
        return sum(trial["epochs"] for trial in self.trials)

    @property
    def search_seconds(self) -> float:
        return sum(float(trial["seconds"]) for trial in self.trials)

    @property
    def retrain_seconds(self) -> float:
        return sum(float(seed["seconds"]) for seed in self.seeds)

    @property
    def finished(self) -> int:
        """Trials that count against the budget: of full length, or stopped early."""
        return self.count("COMPLETE") + self.count("PRUNED")

    @property
    def finished_epochs(self) -> int:
        return sum(trial["epochs"] for trial in self.trials if trial["state"] in ("COMPLETE", "PRUNED"))

    @property
    def complete(self) -> list[dict[str, Any]]:
        """The trials of full length, by number."""
        return [trial for trial in self.trials if trial["state"] == "COMPLETE"]

    @property
    def by_seed(self) -> dict[int, float]:
        """Test accuracy (%) of each seed that came to an end."""
        return {seed["seed"]: seed["test_accuracy"] for seed in self.seeds if seed["state"] == "COMPLETE"}

    @property
    def accuracies(self) -> list[float]:
        """Test accuracies (%) of the seeds that came to an end."""
        return list(self.by_seed.values())


def mean_std(values: list[float]) -> str:
    """``mean +- sample standard deviation``; the mean alone of one value, a dash of none."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.2f} (n = 1)"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def places_of(cells: list[CellResult]) -> list[str]:
    """Every task at every rate, in the order of the cells."""
    return list(dict.fromkeys(cell.place for cell in cells))


def methods_of(cells: list[CellResult]) -> list[str]:
    """The methods in the order of the cells."""
    return list(dict.fromkeys(cell.method for cell in cells))


def cells_of(cells: list[CellResult], method: str) -> dict[str, CellResult]:
    """A method's cells by place."""
    return {cell.place: cell for cell in cells if cell.method == method}


def mean_over(cells: list[CellResult], method: str) -> float | None:
    """Mean over the places of the means over the seeds (%); None where a place has no result."""
    mine = cells_of(cells, method)
    found = [mine[p].accuracies if p in mine else [] for p in places_of(cells)]
    return statistics.mean(map(statistics.mean, found)) if all(found) else None


def _read_cell(folder: CellDir) -> CellResult:
    study = read_json(folder.summary)
    seeds = [read_json(path) for path in sorted(folder.path.glob("retrain/seed*/result.json"))]
    return CellResult(
        task=study["task"],
        rate=study["rate"],
        method=study["method"],
        asked=study["asked"],
        given_up=study["given_up"],
        trials=study["trials"],
        selection=read_json(folder.selection) if folder.selection.exists() else None,
        seeds=sorted(seeds, key=lambda seed: int(seed["seed"])),
        name=folder.name,
        importance=study.get("importance", {}),
        folder=folder,
    )


def asked_of(run: RunDir) -> dict[str, Any]:
    """The tables of the run's experiment file."""
    return tomllib.loads(run.experiment_file.read_text(encoding="utf-8"))


def device_of(run: RunDir) -> str:
    """What the run's hours are hours of: "GPU", or "slot" where there was none."""
    return "GPU" if read_json(run.environment)["gpus"] else "slot"


def searched_of(run: RunDir) -> dict[str, dict[str, dict[str, Any]]]:
    """Range or options of every searched parameter, by the key that the trials' values have, under its owner.

    Owners are ``train`` and the methods. None where ``space.toml`` is missing.
    """
    tables = tomllib.loads(run.space_file.read_text(encoding="utf-8")) if run.space_file.exists() else {}
    owned = {"train": tables.get("train", {})}
    for method, space in tables.get("methods", {}).items():
        owned[method] = {f"{method}/{key}": search for key, search in space.items()}
    return {
        owner: {key: search for key, search in space.items() if isinstance(search, dict)}
        for owner, space in owned.items()
    }


def read_cells(run: RunDir) -> list[CellResult]:
    """All cells that the search has summed up, methods in the experiment's order. UserError for none."""
    methods = list(asked_of(run)["experiment"]["methods"])
    cells = [_read_cell(folder) for folder in run.cells() if folder.summary.exists()]
    if not cells:
        raise UserError(f"{run.path} has nothing to report yet: its search has not ended (see status)")
    return sorted(cells, key=lambda c: (c.task, c.rate, methods.index(c.method)))
