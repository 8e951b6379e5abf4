"""Names that look like markup or like a template: the report's page shows them as text."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cotuning_tune.base.files import write_json
from cotuning_tune.report import write_report
from tests.report import synthetic

HOSTILE = """<script>alert("1")<!-- 'x' & {{ 7*7 }} {% raw %} <img src=x onerror=alert(1)>"""


class Outline(HTMLParser):
    """The elements of a page with their attributes' names, and the texts between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *(name for name, _ in attrs)))

    def handle_comment(self, data: str) -> None:
        self.elements.append(("comment",))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def page_of(folder: Path, task: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Outline:
    """The page of a made-up run with this name; its task, second method and classes carry it too."""
    monkeypatch.setattr(synthetic, "METHODS", ("fine_tune", task, "co_tuning"))
    run = synthetic.write_run(folder / name, [task], [1.0], methods=3, seeds=2, trials=4, files=False)
    related = [{"target": task, "source": [{"name": task, "probability": 0.5}]}]
    write_json(run.study(f"{task}-1.00-co_tuning").retrain(0).method, {"related": related}, durable=False)
    write_report(run)
    return Outline((run.report / "index.html").read_text(encoding="utf-8"))


def test_no_name_becomes_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of experiment, task, method and class: the same elements as with tame names; every sign is shown."""
    tame = page_of(tmp_path, "tame", "tame", monkeypatch)
    hostile = page_of(tmp_path, HOSTILE, HOSTILE, monkeypatch)
    assert hostile.elements == tame.elements
    assert hostile.texts.count(HOSTILE) == tame.texts.count("tame") > 2
    data = next(json.loads(text) for text in hostile.texts if text.startswith('{"methods"'))
    assert HOSTILE in data["methods"]
    (relations,) = next(f for f in data["figures"] if f["name"] == "relations")["views"].values()
    assert relations == [[HOSTILE, [HOSTILE, 0.5]]]
