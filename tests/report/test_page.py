"""The report's page in a real browser, from the disk: at a desk's and at a telephone's width."""

import json
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.files import read_json, write_json
from cotuning_tune.base.tables import Table
from cotuning_tune.report import comparison_report, read_runs, write_comparison, write_report
from cotuning_tune.report.answer import Answer
from cotuning_tune.report.page import page_html
from cotuning_tune.runs.folder import RunDir
from tests.browser import resize
from tests.report.synthetic import write_run

pytestmark = pytest.mark.proof
WIDTHS = (1280, 390)
LONG = "a_method_with_a_name_that_is_longer_than_any_column_should_be"
ELEMENTS, LAYOUTS = 40, 30  # of a large page, at most: elements a study, times that it is laid out


def add_importance_and_relations(run: RunDir) -> None:
    """What a search and a retraining of today write beside what the made-up run has."""
    for folder in run.study_folders():
        study = read_json(folder.summary)
        keys = study["trials"][0]["values"]
        write_json(folder.summary, {**study, "importance": {key: 1 / len(keys) for key in keys}}, durable=False)
        if study["method"] == "co_tuning":
            source = [{"name": f"</script> & {n}", "probability": 0.5 / 2**n} for n in range(5)]
            related = [{"target": f"bird {n}", "source": source} for n in range(30)]
            write_json(folder.retrain(0).method, {"related": related}, durable=False)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with every figure: two tasks at two rates, nine methods."""
    run = write_run(tmp_path_factory.mktemp("page") / "made", trials=12, files=False)
    add_importance_and_relations(run)
    write_report(run)
    return run.report / "index.html"


def opened(driver: Any, page: Path, width: int = 1280) -> Any:
    """The page, freshly loaded; what was logged before is forgotten."""
    driver.get("about:blank")
    for log in ("browser", "performance"):
        driver.get_log(log)
    resize(driver, width)
    driver.get(page.as_uri())
    return driver


def requests_of(driver: Any) -> list[str]:
    """The address of every request since the page was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith("data:")]


def choose(driver: Any, view: str) -> None:
    """Choose what the figures show, as the list does."""
    script = "const v = document.getElementById('view'); v.value = arguments[0]; v.dispatchEvent(new Event('change'))"
    driver.execute_script(script, view)


def figures(driver: Any) -> dict[str, dict[str, Any]]:
    """What is drawn in each figure: height, width, marks and lines, rows, text of an empty one."""
    script = """return Object.fromEntries([...document.querySelectorAll("figure")].map((figure) => {
      const plot = figure.querySelector(".plot"), first = plot.firstElementChild, box = first.getBoundingClientRect();
      return [figure.dataset.name, {
        height: box.height, width: box.width, label: first.getAttribute("aria-label"),
        rows: plot.querySelectorAll("tbody tr").length,
        marks: plot.querySelectorAll(".mark, .line, .thread").length,
        empty: first.className === "empty" ? first.textContent : "",
      }];
    }))"""
    return dict(driver.execute_script(script))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_fetched_and_nothing_fails(browser: Any, page: Path, width: int) -> None:
    """No line on the console; the file itself is the only request."""
    driver = opened(browser, page, width)
    choose(driver, "cars 15 %")
    assert driver.get_log("browser") == []
    assert requests_of(driver) == [page.as_uri()]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_draws(browser: Any, page: Path, width: int) -> None:
    """Over all studies and for one task: a picture of some size with points, and a sentence that describes it."""
    driver = opened(browser, page, width)
    found = figures(driver)
    single = {name for name, drawn in found.items() if drawn["empty"]}
    assert single == {"parallel", "relations"}  # these show one task at a time, and say so
    choose(driver, "cars 100 %")
    chosen = figures(driver)
    assert set(chosen) == set(found)
    assert len(chosen) == 8
    for name, drawn in [*((n, d) for n, d in found.items() if n not in single), *chosen.items()]:
        assert min(drawn["height"], drawn["width"] / 5) > 50, name
        assert drawn["rows"] == 30 if name == "relations" else drawn["marks"] > 5, name
        assert drawn["label"], name


def numbers(driver: Any, table: int, column: int) -> list[str]:
    script = """const t = document.querySelectorAll("section.table table")[arguments[0]];
      return [...t.tBodies[0].rows].map((row) => row.cells[arguments[1]].textContent)"""
    return list(driver.execute_script(script, table, column))


def main_table(driver: Any) -> int:
    """The place of the main table among all."""
    tables = "[...document.querySelectorAll('section.table table')]"
    return int(driver.execute_script(f"return {tables}.findIndex((t) => t.closest('#table-main'))"))


def key(text: str) -> tuple[bool, Any]:
    """As Python would sort: the number at the start, text as it is."""
    head = text.split(" ")[0].strip("*")
    try:
        return (False, float(head))
    except ValueError:
        return (False, text)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_column_of_every_table_sorts(browser: Any, page: Path, width: int) -> None:
    """A click sorts upwards, a second one downwards; the head says so; numbers by value, "-" last."""
    driver = opened(browser, page, width)
    script = "return [...document.querySelectorAll('section.table table')].map((t) => t.tHead.rows[0].cells.length)"
    sizes = driver.execute_script(script)
    assert len(sizes) >= 3
    press = """const table = document.querySelectorAll("section.table table")[arguments[0]];
      const head = table.tHead.rows[0].cells[arguments[1]];
      head.querySelector("button").click(); return head.getAttribute("aria-sort")"""
    for table, columns in enumerate(sizes):
        for column in range(columns):
            before = numbers(driver, table, column)
            for direction in ("ascending", "descending"):
                assert driver.execute_script(press, table, column) == direction
                after = numbers(driver, table, column)
                assert sorted(after) == sorted(before)
                plain = [text for text in after if text != "-"]
                assert after == plain + ["-"] * (len(after) - len(plain))
                if all(isinstance(key(text)[1], float) for text in plain):
                    values = [key(text)[1] for text in plain]
                    assert values == sorted(values, reverse=direction == "descending")
    driver.execute_script(press, main_table(driver), 0)
    assert len(driver.execute_script("return document.querySelectorAll('#table-main [aria-sort=ascending]')")) == 1


def test_numbers_with_deviations_sort_by_value(browser: Any, tmp_path: Path) -> None:
    """9.10 stands before 77.03, "< 0.01" and bold figures count, and what is missing comes last both ways."""
    texts = ["77.03 ± 0.74", "-", "9.10 ± 2.00", "**80.00** ± 1.00", "-3.5", "< 0.01", "1e-5"]
    table = Table("made", "Made", ["method", "value"], [[f"m{n}", text] for n, text in enumerate(texts)])
    page = tmp_path / "index.html"
    page.write_text(page_html("made", Answer([], {}), [table], [], [], []), encoding="utf-8")
    driver = opened(browser, page)
    press = "document.querySelectorAll('#table-made thead button')[1].click()"
    upwards = ["-3.5", "1e-5", "< 0.01", "9.10 ± 2.00", "77.03 ± 0.74", "80.00 ± 1.00", "-"]
    for expected in (upwards, [*reversed(upwards[:-1]), "-"]):
        driver.execute_script(press)
        assert numbers(driver, 0, 1) == expected
    assert driver.execute_script("return document.querySelectorAll('#table-made strong').length") == 1


def test_sorting_by_keyboard(browser: Any, page: Path) -> None:
    """The tabulator reaches a column's head from the page's start; Enter and space sort."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    driver = opened(browser, page)
    heads = []
    for _ in range(60):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        heads.append(driver.execute_script("return document.activeElement.closest('th')?.textContent || ''"))
        if heads[-1] == "birds 100 %":
            break
    assert heads[-3:] == ["method", "birds 15 %", "birds 100 %"]
    state = "return document.activeElement.closest('th').getAttribute('aria-sort')"
    for stroke, direction in ((Keys.ENTER, "ascending"), (Keys.SPACE, "descending")):
        ActionChains(driver).send_keys(stroke).perform()
        assert driver.execute_script(state) == direction
    values = [float(text.split()[0]) for text in numbers(driver, main_table(driver), 2)]
    assert values == sorted(values, reverse=True)


def test_many_warnings_leave_the_results_in_sight(browser: Any, page: Path) -> None:
    """Six warnings stand on top, with a link to the others; all of them are among the remarks."""
    driver = opened(browser, page)
    texts = "return [...document.querySelectorAll(arguments[0])].map((item) => item.textContent)"
    top, below = (driver.execute_script(texts, f"{setting} li.warning") for setting in (".remarks.top", "#remarks"))
    assert len(below) > 7
    assert top[:6] == below[:6]
    assert top[6:] == [f"{len(below) - 6} more warnings among the remarks"]


def test_dark_and_light(browser: Any, page: Path) -> None:
    """The button changes the background and says its state; the system's preference is the start."""
    driver = opened(browser, page)
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = driver.execute_script(colour)
    press = "const b = document.getElementById('theme'); b.click(); return b.getAttribute('aria-pressed')"
    assert driver.execute_script(press) == "true"
    dark = driver.execute_script(colour)
    assert dark != light
    assert driver.execute_script(press) == "false"
    assert driver.execute_script(colour) == light
    feature = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    assert opened(driver, page).execute_script(colour) == dark
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_methods_can_be_taken_out(browser: Any, page: Path) -> None:
    """A press on a method's name takes its curve out of every figure, a second one brings it back."""
    driver = opened(browser, page)
    press = "document.querySelectorAll('#legend button')[1].click()"
    counts = [figures(driver)["best_by_trials"]["marks"]]
    for _ in range(2):
        driver.execute_script(press)
        counts.append(figures(driver)["best_by_trials"]["marks"])
    assert counts[1] < counts[0] == counts[2]


def test_the_numbers_of_a_figure_open_as_a_table(browser: Any, page: Path) -> None:
    """What a picture shows can be read, by a screen reader too."""
    driver = opened(browser, page)
    script = """const d = document.querySelector("#figure-validation_test_gap details"); d.open = true;
      return new Promise((done) => setTimeout(() => done(d.querySelectorAll("tbody tr").length), 100))"""
    assert driver.execute_script(script) == 9 * 4


def test_what_lies_near_the_pointer_is_told(browser: Any, page: Path) -> None:
    """The pointer on a mark shows method and numbers."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    driver = opened(browser, page)
    mark = driver.find_element(By.CSS_SELECTOR, "#figure-best_by_trials .mark.s4")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
    ActionChains(driver).move_to_element(mark).perform()
    assert driver.find_element(By.ID, "tip").text.split(":")[0] in ("co_tuning", "bi_tuning", "lwf", "delta", "bss")


def overflow(driver: Any) -> int:
    return int(driver.execute_script("return document.documentElement.scrollWidth - innerWidth"))


def test_a_telephone_scrolls_tables_only(browser: Any, page: Path) -> None:
    """At 390 pixels the page itself has no horizontal scrolling; a wide table scrolls in its box."""
    driver = opened(browser, page, 390)
    assert overflow(driver) == 0
    choose(driver, "birds 15 %")
    assert overflow(driver) == 0
    inner = "const b = document.querySelector('#table-main .scroll'); return b.scrollWidth > b.clientWidth"
    assert driver.execute_script(inner)


@pytest.mark.parametrize(("width", "beside"), [(1280, True), (390, False)])
def test_the_picture_stands_by_the_answer(browser: Any, tmp_path: Path, width: int, beside: bool) -> None:
    """Beside it where there is room, else below; on a desk's screen both are seen at once."""
    run = write_run(tmp_path / "made", ["birds"], [1.0], methods=9, trials=4, files=False)
    write_report(run)
    driver = opened(browser, run.report / "index.html", width)
    boxes = "return ['.answer', '.forests'].map((one) => document.querySelector(one).getBoundingClientRect().toJSON())"
    answer, picture = driver.execute_script(boxes)
    assert (picture["left"] >= answer["right"], picture["top"] >= answer["bottom"]) == (beside, not beside)
    assert picture["right"] <= width
    assert max(answer["bottom"], picture["bottom"]) < 900 or not beside


def test_long_names_and_failed_studies(browser: Any, tmp_path: Path) -> None:
    """A long method name wraps; a study without any success and no retraining leave the page whole."""
    run = write_run(tmp_path / "made", ["birds"], [1.0], methods=2, seeds=0, trials=3, files=False)
    run.experiment_file.write_text(run.experiment_file.read_text().replace('"l2_sp"', f'"{LONG}"'))
    folder = run.study("birds-1.00-l2_sp")
    study = read_json(folder.summary)
    failed = [{**trial, "state": "FAIL", "value": None, "reason": "<b>no</b>"} for trial in study["trials"]]
    write_json(folder.summary, {**study, "method": LONG, "trials": failed})
    folder.selection.unlink()
    write_report(run)
    for width in WIDTHS:
        driver = opened(browser, run.report / "index.html", width)
        assert driver.get_log("browser") == []
        assert overflow(driver) == 0
        assert {name: drawn["empty"] for name, drawn in figures(driver).items()} == {
            "best_by_trials": "",
            "best_by_hours": "",
            "parallel": "",
        }
        assert driver.execute_script("return document.querySelectorAll('b').length") == 0


def test_the_structure_is_semantic(browser: Any, page: Path) -> None:
    """One h1, captions and scopes in every table, a link past the contents, one name for each setting."""
    driver = opened(browser, page)
    count = "return document.querySelectorAll(arguments[0]).length"
    for selector, number in (("h1", 1), ("main", 1), ("a.skip[href='#content']", 1), ("figure:not(:has(h3))", 0)):
        assert driver.execute_script(count, selector) == number, selector
    tables = "section.table table"
    assert driver.execute_script(count, f"{tables}:not(:has(caption))") == 0
    assert driver.execute_script(count, f"{tables} th:not([scope])") == 0
    assert driver.execute_script(count, "figure:not(:has(figcaption))") == 0
    twice = "const ids = [...document.querySelectorAll('[id]')].map((e) => e.id); return ids.length - new Set(ids).size"
    assert driver.execute_script(twice) == 0
    dead = """return [...document.querySelectorAll("nav a")].filter((a) => !document.querySelector(a.hash)).length"""
    assert driver.execute_script(dead) == 0


def test_the_page_of_several_runs(browser: Any, tmp_path: Path) -> None:
    """``compare`` writes a page of its own, without figures: no line on the console, its tables sort."""
    few = {"methods": 2, "seeds": 2, "trials": 3, "files": False}
    runs = [write_run(tmp_path / name, ["birds"], [1.0], seed=n, **few) for n, name in enumerate(("one", "two"))]
    write_comparison(tmp_path / "out", comparison_report(read_runs(runs)))
    driver = opened(browser, tmp_path / "out" / "index.html", 390)
    driver.execute_script("document.querySelector('#table-compare thead button').click()")
    assert numbers(driver, 0, 0) == ["fine_tune", "l2_sp"]
    assert overflow(driver) == 0
    assert driver.get_log("browser") == []
    assert figures(driver) == {}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 60 tasks and rates with 9 methods, 32 trials and 3 seeds each."""
    tasks = [f"task{number}" for number in range(15)]
    run = write_run(tmp_path_factory.mktemp("large") / "made", tasks, (0.15, 0.3, 0.5, 1.0), files=False)
    add_importance_and_relations(run)
    write_report(run)
    return run.report / "index.html"


def test_a_large_run_opens_at_once(browser: Any, large: Path, record_testsuite_property: Any) -> None:
    """540 studies: below 10 MB, few elements a study, laid out as seldom as a small page (3 s on an idle machine)."""
    browser.execute_cdp_cmd("Performance.enable", {})
    driver = opened(browser, large)
    done = {m["name"]: m["value"] for m in driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]}
    timing = "return performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
    seconds = float(driver.execute_script(timing))
    record_testsuite_property("page of 540 studies: seconds to load", seconds)
    record_testsuite_property("page of 540 studies: MB", large.stat().st_size / 1e6)
    assert large.stat().st_size < 10e6
    assert driver.execute_script("return document.querySelectorAll('*').length") < ELEMENTS * 540
    assert 0 < done["LayoutCount"] < LAYOUTS
    assert figures(driver)["best_by_trials"]["marks"] > 50
    resize(driver, 390)
    assert overflow(driver) == 0


def test_no_warnings_no_box_for_them() -> None:
    """The list on top is there with a warning, and not there without one."""
    assert 'class="remarks top"' not in page_html("made", Answer([], {}), [], ["plain"], [], [])
    assert 'class="remarks top"' in page_html("made", Answer([], {}), [], ["WARNING: look"], [], [])
