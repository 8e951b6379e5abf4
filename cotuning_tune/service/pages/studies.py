"""The pages of a study, of a trial, and of several runs side by side."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from cotuning_tune.report.results import mean_std
from cotuning_tune.service.comparisons import MOST, differing
from cotuning_tune.service.pages import charts, folders
from cotuning_tune.service.pages.frame import Frame, Who
from cotuning_tune.service.pages.words import MOVING
from cotuning_tune.service.people import Actor
from cotuning_tune.service.problems import Problem


def add(router: APIRouter, frame: Frame) -> None:
    """The pages of studies, trials and comparisons."""
    runs = frame.service.runs

    @router.get("/runs/{identity}/studies/{name}")
    def study(request: Request, who: Who, identity: str, name: str) -> Response:
        """A study: its trials, what was searched, why trials failed."""
        run = runs.get(who, identity)
        found = folders.study(run, name)
        values = list(dict.fromkeys(key for trial in found.trials for key in trial.values))
        address = f"/runs/{run['id']}/studies/{found.name}/trials"
        shown = {"run": run, "study": found, "values": values, "address": address}
        shown |= {"points": charts.points(found.trials, found.metric, address, found.best)}
        shown |= {"parallel": charts.parallel(found.trials, found.metric, found.best)}
        return frame.show(request, who, "study.html", shown | {"live": run["state"] in MOVING})

    @router.get("/runs/{identity}/studies/{name}/trials/{number}")
    def trial(request: Request, who: Who, identity: str, name: str, number: int) -> Response:
        """A trial: its hyper-parameters and its epochs."""
        run = runs.get(who, identity)
        found, one, epochs = folders.trial(run, name, number)
        scores = [(row["epoch"], row["val_score"]) for row in epochs if "epoch" in row and "val_score" in row]
        curve = charts.curve(scores, "epoch", f"validation {found.metric.label}")
        shown = {"run": run, "study": found, "trial": one, "epochs": epochs, "curve": curve}
        live = run["state"] in MOVING and one.state == "RUNNING"
        return frame.show(request, who, "trial.html", shown | {"live": live})

    @router.get("/compare")
    def compare(request: Request, who: Who) -> Response:
        """Runs side by side; the address holds which."""
        return _side_by_side(frame, request, who)

    @router.post("/compare/tensorboard")
    def board(request: Request, who: Who) -> Response:
        """The same with the address of a TensorBoard on them."""
        return _side_by_side(frame, request, who, frame.service.board(who, _asked(request)))


def _asked(request: Request) -> list[str]:
    found = list(dict.fromkeys(request.query_params.getlist("run")))
    if len(found) > MOST:
        raise Problem(f"{len(found)} runs side by side", f"{MOST} are possible", key="run")
    return found


def _side_by_side(frame: Frame, request: Request, who: Actor, board: str = "") -> Response:
    chosen = [frame.service.runs.get(who, identity) for identity in _asked(request)]
    shown = {"runs": chosen, "differing": differing(chosen), "scores": _scores(chosen), "board": board}
    return frame.show(request, who, "compare.html", shown)


def _scores(runs: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, str]]]]:
    """By study, what each run has found: best validation score, and test score with its spread."""
    found: list[dict[str, dict[str, str]]] = []
    for run in runs:
        try:
            found.append({one.name: _score(one) for one in folders.studies(run)})
        except Problem:
            found.append({})
    names = dict.fromkeys(name for one in found for name in one)
    return [(name, [one.get(name, {}) for one in found]) for name in names]


def _score(study: folders.Study) -> dict[str, str]:
    best, metric = study.best, study.metric
    unit = f"{metric.unit} {'' if metric.percent else metric.shown}".rstrip()
    validation = f"{metric.text(best.score)}{unit}" if best and best.score is not None else "–"
    tested = (
        f"{mean_std(study.tested, metric).removesuffix(' (n = 1)')}{unit}, {len(study.tested)} seed(s)"
        if study.tested
        else "–"
    )
    return {"validation": validation, "test": tested, "trials": str(study.counts["COMPLETE"])}
