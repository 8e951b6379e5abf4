"""People before the service's pages: signing in, sending forms, and run folders that look as drivers leave them."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from cotuning_tune.service.asked import Checked, Submission
from cotuning_tune.service.http.guard import CSRF_FIELD
from cotuning_tune.service.people import link
from cotuning_tune.service.problems import Problem
from tests.service.served import Served

EXPERIMENT = '[experiment]\ntasks = ["birds"]\nmethods = ["fine_tune"]\ntrials = 4\n'
STUDY = "birds-1.00-fine_tune"
ALONE = ("meta", "link", "input", "br")  # they have no end


def check(text: str, name: str) -> Checked:
    """Four trials of a core; a line with 'wrong' is a mistake."""
    for number, line in enumerate(text.splitlines(), 1):
        if "wrong" in line:
            raise Problem(f"unknown key '{line.split()[0]}'", "trials is possible", key="experiment.wrong", line=number)
    return Checked(
        trials=4,
        gpus=1.0,
        cpus=1.0,
        content={"studies": [STUDY], "trials": 4, "trainings": 10, "seeds": 3, "hours": 0.0},
    )


def submitted(served: Served, owner: str, name: str, **more: Any) -> dict[str, Any]:
    """A run of theirs."""
    return served.runs.submit(served.people[owner], Submission(experiment=EXPERIMENT, name=name, **more))


def browser(served: Served) -> TestClient:
    """A browser of nobody yet, without JavaScript."""
    client = served.client()
    client.headers["Accept"] = "text/html,*/*;q=0.8"
    return client


def signed_in(served: Served, name: str) -> TestClient:
    """A browser of somebody, signed in by a link and its button."""
    client = browser(served)
    answer = client.post("/session", data={"link": link(served.store, name, served.now())})
    assert (answer.status_code, answer.headers["location"]) == (303, "/"), answer.text
    return client


def send(client: TestClient, page: str, action: str, **sent: str) -> Any:
    """Send a form of a page, with what that page holds hidden."""
    text = client.get(page).text
    assert f'action="{action}"' in text, f"{page} has no form that leads to {action}"
    token = text.split(f'name="{CSRF_FIELD}" value="')[1].split('"')[0]
    return client.post(action, data={CSRF_FIELD: token, **sent})


class Page(HTMLParser):
    """A page's elements; ``faults``: ends that fit no beginning, ids that come twice, fields without a label."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.faults: list[str] = []
        self.ids: set[str] = set()
        assert text.startswith("<!doctype html>")
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> has no end" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.elements.append((tag, values))
        if tag not in ALONE:
            self.open.append(tag)
        if (identity := values.get("id")) in self.ids:
            self.faults.append(f"the id {identity} comes twice")
        self.ids |= {identity} if identity else set()
        field = tag in ("select", "textarea") or (tag == "input" and values.get("type") != "hidden")
        if field and "label" not in self.open and not values.get("aria-label"):
            self.faults.append(f"{tag} {values.get('name')} has no label")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")


def fill(run: dict[str, Any], *, study: str = STUDY, trials: int = 5, ended: bool = False) -> None:
    """A run's folder: a study whose trials ended well, but one failed, one was stopped, and the last one runs."""
    folder = Path(run["folder"])
    own = folder / "studies" / study
    for number in range(trials):
        trial = own / "trials" / f"{number:04d}"
        values = {"optim/lr": 0.001 * 3**number, "batch_norm": ("train", "frozen")[number % 2], "weight": 0.5 + number}
        _write(trial / "config.json", {"trial": number, "values": values, "specs": []})
        (trial / "metrics.jsonl").write_text("".join(json.dumps(_epoch(n, number)) + "\n" for n in range(1, 6)))
        state = {1: "FAIL", 2: "PRUNED", trials - 1: "COMPLETE" if ended else "RUNNING"}.get(number, "COMPLETE")
        if state != "RUNNING":
            failed = state == "FAIL"
            result = {"state": state, "value": None if failed else 70.0 + number, "epochs": 5, "seconds": 12.5}
            _write(trial / "result.json", result | {"reason": "the loss is not finite" if failed else ""})
    for seed in range(3 if ended else 0):
        result = {"state": "COMPLETE", "seed": seed, "test_score": 71.0 + seed}
        _write(own / "retrain" / f"seed{seed}" / "result.json", result)
    if ended:
        _write(folder / "report" / "index.html", "the report")
    (folder / "log").write_text("first line\nsecond line\n")


def _epoch(epoch: int, trial: int) -> dict[str, float]:
    losses = {"val_loss": 2 / epoch, "train_loss": 3 / epoch, "lr": 0.01, "seconds": 2.5}
    return {"epoch": epoch, "val_score": 40.0 + 6 * epoch + trial, **losses}


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
