"""TensorBoard on made-up runs: over HTTP, and its tabs in a real browser."""

import io
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from cotuning_tune.base.files import place
from cotuning_tune.cli._tensorboard import CURVES, names_of
from cotuning_tune.retrain import RetrainBoard
from cotuning_tune.runs.events import EpochEnded, StageStarted, Standing, TrialEnded, TrialStarted
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.stream import Stream
from cotuning_tune.search.board import SearchBoard
from cotuning_tune.search.curves import Curves
from cotuning_tune.tensorboard.events import PATTERN
from tests.boards import ENDS, METHODS, Board, Made, board_of, rows, write_run, write_seeds
from tests.browser import resize
from tests.search.ends import complete
from tests.servers import bucket, free_port, s3_server

WEIGHTS = {"bss/weight", "co_tuning/weight"}
FOLDERS = 1 + 6 * 4 + 1 + 2 + 3  # root, ended trials, the running one, seeds, methods
ALL_SHADOWS = """
const found = [], walk = (root) => root.querySelectorAll("*").forEach((element) => {
  if (element.matches(arguments[0]) && element.getClientRects().length) found.push(element);
  if (element.shadowRoot) walk(element.shadowRoot);
}); walk(document); return found"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return write_run(tmp_path_factory.mktemp("made") / "one")


@pytest.fixture(scope="module")
def board(run: RunDir) -> Iterator[Board]:
    with board_of(run.path, at_least=FOLDERS) as found:
        yield found


def statuses(board: Board) -> dict[str, str]:
    """The status of each row of HParams, by its name."""
    return {group["name"]: group["sessions"][0]["status"].removeprefix("STATUS_") for group in board.groups([])}


def test_each_trial_has_its_true_status(board: Board) -> None:
    """Complete and stopped ones SUCCESS, failed ones FAILURE, the one that runs RUNNING."""
    found = {name.removeprefix("search/"): status for name, status in statuses(board).items() if "search/" in name}
    expected = {"0000": "SUCCESS", "0001": "FAILURE", "0002": "SUCCESS", "0003": "SUCCESS", "0004.running": "RUNNING"}
    assert len(found) == 25
    assert all(expected[name.split("/")[1]] == status for name, status in found.items())
    assert [name for name, status in found.items() if status == "RUNNING"] == ["synthetic-1.00-co_tuning/0004.running"]


def test_a_row_has_its_metrics(board: Board) -> None:
    """Best and last validation accuracy of every trial, the failed ones too; what was stopped early says so."""
    groups = {group["name"]: group for group in board.groups([])}
    for number, stopped in (("0000", None), ("0001", None), ("0002", 1.0)):
        values = {m["name"]["tag"]: m["value"] for m in groups[f"search/synthetic-0.50-bss/{number}"]["metricValues"]}
        history = rows(int(number), 3 if int(number) else 4, 41.0)
        assert values["val/best_accuracy"] == max(row["val_score"] for row in history)
        assert values["val/accuracy"] == 35.0
        assert values.get("trial/stopped_early") == stopped


def test_columns_know_their_ranges(board: Board) -> None:
    """A searched weight has its range and the 0 of its off trial, words their words; equal columns come last."""
    infos = board.hparams("experiment")["hparamInfos"]
    columns = {info["name"]: info for info in infos}
    assert columns["bss/weight"]["domainInterval"] == {"minValue": 0.0, "maxValue": 1.0}
    assert columns["batch_norm"]["domainDiscrete"] == ["frozen", "train"]
    assert columns["optim/head_lr_factor"]["domainDiscrete"] == [1.0, 10.0, 30.0]
    assert [info["name"] for info in infos if not info["differs"]] == [info["name"] for info in infos][-2:]


def test_one_chart_a_study_with_a_line_a_method(board: Board) -> None:
    """The layout names a tag for each task at a rate; every method's folder has it."""
    charts = [c for category in board.ask("/data/plugin/custom_scalars/layout")["category"] for c in category["chart"]]
    assert [chart["title"] for chart in charts] == ["synthetic at 50 %", "synthetic at 100 %"]
    for chart in charts:
        (tag,) = chart["multiline"]["tag"]
        for ahead, method in enumerate(METHODS):
            answer = board.ask(f"/data/plugin/custom_scalars/scalars?run=methods/{method}&tag={tag}")
            (points,) = answer["tag_to_events"].values()
            assert [(step, value) for _, step, value in points] == [
                (1, 60.0 + ahead),
                (2, 60.0 + ahead),
                (3, 60.0 + ahead),
                (4, 66.0 + ahead),
            ]


def test_images_are_what_was_drawn(board: Board) -> None:
    """A retrained model's images come as PNG of the size that they were drawn in."""
    tags = board.ask("/data/plugin/images/tags")
    assert set(tags) == {"retrain/synthetic-0.50-fine_tune/seed0"}
    for tag in ("validation/confusion", "validation/mistakes"):
        (entry,) = board.ask(f"/data/plugin/images/images?run={next(iter(tags))}&tag={tag}&sample=0")
        with urllib.request.urlopen(f"{board.url}/data/plugin/images/individualImage?{entry['query']}") as answer:
            picture = Image.open(io.BytesIO(answer.read()))
        assert picture.format == "PNG"
        assert picture.width == {"validation/confusion": 900, "validation/mistakes": 908}[tag]


def test_it_is_live(tmp_path: Path) -> None:
    """Status, accuracy and curve of an open TensorBoard follow a trial, also over a killed driver."""
    made = Made(tmp_path / "live", ("bss",))
    study = next(iter(made.studies.by_name.values()))
    issue, tell, key = study.issue(), made.stream.tell, study.key.name
    tell(TrialStarted(key, 0, issue.values, 4))
    name = "search/synthetic-0.50-bss/0000"

    def best(of: str) -> float:
        group = next((g for g in board.groups([]) if g["name"] == of), {})
        return next((m["value"] for m in group.get("metricValues", []) if m["name"]["tag"] == "val/accuracy"), 0.0)

    with board_of(made.run.path, at_least=2) as board, made.board:
        board.wait(lambda: statuses(board) == {f"{name}.running": "RUNNING"})
        tell(EpochEnded(key, 0, rows(0, 4)[:1], 1, 4))
        board.wait(lambda: best(f"{name}.running") == 40.0)
        tell(TrialEnded(key, 0, "LOST", None, 0.0, None))
        tell(TrialStarted(key, 0, issue.values, 4))
        tell(EpochEnded(key, 0, rows(0, 4)[:2], 1, 4))
        board.wait(lambda: best(f"{name}.running") == 50.0)
        tell(EpochEnded(key, 0, rows(0, 4), 2, 4))
        complete(study, issue.number, 60.0, seconds=1.0)
        tell(TrialEnded(key, 0, "COMPLETE", 60.0, 1.0, 60.0))
        board.wait(lambda: statuses(board) == {name: "SUCCESS"} and best(name) == 35.0)
        curve = "/data/plugin/scalars/scalars?run=methods/bss&tag=best_val_score/synthetic-0.50"
        board.wait(lambda: [point[1:] for point in board.ask(curve)] == [[1, 60.0]])


def test_a_resumed_search_writes_the_same_curves(tmp_path: Path) -> None:
    """A new driver's file replaces the old one and has all its points; no folder has two files."""
    made = Made(tmp_path / "again", ("bss",))
    study = next(iter(made.studies.by_name.values()))
    with made.board:
        for end in ("COMPLETE", "FAIL"):
            made.trial(study, end)
    folder = made.run.tensorboard / "methods" / "bss"
    (before,) = folder.glob(PATTERN)
    size = before.stat().st_size
    with closing(Curves(made.run, made.studies)) as curves:
        curves.add(study)
    (after,) = folder.glob(PATTERN)
    assert (after.name > before.name, after.stat().st_size) == (True, size)
    assert len(list(made.run.tensorboard.glob(PATTERN))) == 1


def test_what_a_killed_driver_left_out(tmp_path: Path) -> None:
    """Sessions of ended trials and seeds that are not there are written when the next driver starts, as they were."""
    made = Made(tmp_path / "killed", ("bss",))
    study = next(iter(made.studies.by_name.values()))
    with made.board:
        for end in ENDS:
            made.trial(study, end)
    works = write_seeds(made)
    folders = [folder for stage in ("search", "retrain") for folder in made.run.tensorboard.glob(f"{stage}/*/*")]
    before = {folder: next(folder.glob(PATTERN)).stat().st_size for folder in folders}
    assert len(before) == len(ENDS) + 2
    for folder in folders:
        shutil.rmtree(folder)
    begun = StageStarted(made.run.name, str(made.run.path), 2, Standing())
    with SearchBoard(made.run, made.studies) as board:
        Stream(made.run, [board, RetrainBoard(made.run, works)]).tell(begun)
    assert {folder: next(folder.glob(PATTERN)).stat().st_size for folder in folders} == before


def test_several_runs_side_by_side(run: RunDir, tmp_path: Path) -> None:
    """Runs of one name are told apart; the columns are those of all; a folder that comes later is seen."""
    other = write_run(tmp_path / "one", ("fine_tune", "l2_sp"))
    later = Made(tmp_path / "later", ("bss",))
    with later.board, board_of(run.path, other.path, later.run.path, at_least=FOLDERS + 20) as board:
        columns = {info["name"]: info for info in board.hparams("experiment")["hparamInfos"]}
        assert {*WEIGHTS, "l2_sp/weight"} <= set(columns)
        assert columns["method"]["domainDiscrete"] == ["bss", "co_tuning", "fine_tune", "l2_sp"]
        assert columns["run"]["domainDiscrete"] == ["later", "one"]
        names = set(statuses(board))
        assert {"one/search/synthetic-0.50-fine_tune/0000", "one-2/search/synthetic-0.50-fine_tune/0000"} <= names
        assert sum(len(group["sessions"]) == 2 for group in board.groups([])) == 2  # the seeds of each run
        later.trial(next(iter(later.studies.by_name.values())), "COMPLETE")
        board.wait(lambda: "later/search/synthetic-0.50-bss/0000" in statuses(board))


def test_names_of_several_runs() -> None:
    """The first keeps its name; a number that another run's own name has is left out."""
    runs = [RunDir(Path(name)) for name in ("/a/x", "/b/x", "/c/x-2", "/d/x", "/e/y")]
    assert names_of(runs) == ["x", "x-3", "x-2", "x-4", "y"]


@pytest.mark.parametrize(("port", "words"), [(None, "Address already in use"), (70000, "0-65535")])
def test_a_port_that_cannot_be_used(call: Callable[..., Any], run: RunDir, port: int | None, words: str) -> None:
    """One line, exit code 2, before anything is started."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = port or taken.getsockname()[1]
        code, out, err = call("tensorboard", run.path, "--port", number)
    assert (code, out, len(err)) == (2, [], 1)
    assert f"--port {number}" in err[0]
    assert words in err[0]


def test_one_of_several_is_no_run(call: Callable[..., Any], run: RunDir, tmp_path: Path) -> None:
    """Every run is looked at before TensorBoard is started."""
    code, out, err = call("tensorboard", run.path, tmp_path, "--port", free_port())
    assert (code, out, len(err)) == (2, [], 1)
    assert f"no run in {tmp_path}" in err[0]


def shown(driver: Any, selector: str) -> list[Any]:
    """The visible elements that a selector names, also those in shadow trees."""
    return list(driver.execute_script(ALL_SHADOWS, selector))


def open_tab(driver: Any, board: Board, tab: str) -> None:
    driver.get("about:blank")
    resize(driver, 1500, 1300)
    driver.get(f"{board.url}/{tab}")


def texts(driver: Any, selector: str) -> set[str]:
    """What is written in the visible elements that a selector names."""
    return set(driver.execute_script("return arguments[0].map((e) => e.innerText.trim())", shown(driver, selector)))


@pytest.mark.proof
def test_hparams_tab(browser: Any, board: Board) -> None:
    """One row a trial and one for both seeds; every weight can be shown, and has a column then."""
    open_tab(browser, board, "#hparams")
    board.wait(lambda: "Trial ID" in texts(browser, "vaadin-grid-cell-content"))
    show_all = "arguments[0].filter((box) => !box.checked).forEach((box) => box.click())"
    browser.execute_script(show_all, shown(browser, ".hparam-checkbox"))
    expected = {*WEIGHTS, "method", "best validation accuracy (%)", "last validation accuracy (%)"}
    board.wait(lambda: expected <= texts(browser, "vaadin-grid-cell-content"))
    (table,) = shown(browser, "vaadin-grid")
    names = browser.execute_script("return arguments[0].items.map((item) => item.name)", table)
    assert len(names) == len(set(names)) == 26


def drawn_lines(driver: Any) -> list[str]:
    """The colours of the lines in the charts."""
    colours = "return arguments[0].map((line) => getComputedStyle(line).stroke)"
    return list(driver.execute_script(colours, shown(driver, "path.line")))


@pytest.mark.proof
def test_custom_scalars_tab(browser: Any, board: Board) -> None:
    """A chart for each study, three lines in each, without any click; the smoothing is off."""
    open_tab(browser, board, CURVES)
    cards = board.wait(lambda: shown(browser, "tf-custom-scalar-multi-line-chart-card"))
    assert len(cards) == 2
    board.wait(lambda: [e.text for e in shown(browser, ".matches-text")] == ["Matches (3)"] * 2)
    board.wait(lambda: len(drawn_lines(browser)) == 6)
    assert len(set(drawn_lines(browser))) == 3  # a colour each, the same one in both charts


@pytest.mark.proof
def test_images_tab(browser: Any, board: Board) -> None:
    """The two images of the retrained model are loaded and drawn."""
    open_tab(browser, board, "#images")
    widths = "return arguments[0].map((image) => image.naturalWidth)"
    board.wait(lambda: browser.execute_script(widths, shown(browser, "#main-image-container img")) == [900, 908])


def test_a_run_of_an_object_store(tmp_path: Path) -> None:
    """Beside one in a folder: copied, shown alike; an ended trial's running session is gone there too."""
    with s3_server() as port, bucket(port, "boards"):
        there = Made(cast(Path, place("s3://boards/far")), ("bss",))
        here = Made(tmp_path / "near", ("fine_tune",))
        for made in (there, here):
            with made.board:
                made.trial(next(iter(made.studies.by_name.values())), "COMPLETE")
        with board_of(there.run.path, here.run.path, at_least=5) as board:
            names = {"far/search/synthetic-0.50-bss/0000", "near/search/synthetic-0.50-fine_tune/0000"}
            assert statuses(board) == dict.fromkeys(names, "SUCCESS")
            assert set(board.ask("/data/runs")) == {".", *names, "far/methods/bss", "near/methods/fine_tune"}
