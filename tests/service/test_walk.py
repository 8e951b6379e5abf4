"""Everything that a person does with the service, in Chromium, on a real service with real drivers: from the one-time
link to an exported model. Each step is a picture in ``.build/walk``."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import resize
from tests.servers import free_port
from tests.service.test_browser import complaints, press, shows
from tests.service.test_serve import EXPERIMENT

pytestmark = pytest.mark.proof
PICTURES = Path(__file__).parents[2] / ".build" / "walk"


@pytest.fixture
def link(tmp_path: Path) -> Iterator[str]:
    """The one-time link that the command prints."""
    words = ["serve", "--root", str(tmp_path / "service"), "--port", str(free_port())]
    process = subprocess.Popen([sys.executable, "-m", "cotuning_tune.cli", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = next(line for line in process.stdout if "/sign-in/" in line)
    yield found.rpartition(": ")[2].strip()
    process.terminate()
    process.wait(30)
    process.stdout.close()


def until(browser: Any, *words: str) -> None:
    """Wait until the page shows these, by itself."""
    deadline, shown = time.monotonic() + 400, shows(browser, *words)
    while not shown():
        assert time.monotonic() < deadline, browser.execute_script("return document.body.innerText")
        time.sleep(0.3)


def until_state(browser: Any, state: str) -> None:
    """Wait until the run that is shown is in that state."""
    script = "let e = document.querySelector('main .state'); return e ? e.innerText.trim() : ''"
    deadline = time.monotonic() + 400
    while browser.execute_script(script) != state:
        assert time.monotonic() < deadline, browser.execute_script("return document.body.innerText")
        time.sleep(0.3)


def picture(browser: Any, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / f"{name}.png").write_bytes(browser.get_screenshot_as_png())


def submit(browser: Any, at: str, name: str) -> None:
    browser.get(f"{at}/submit")
    browser.find_element("name", "experiment").send_keys(EXPERIMENT)
    until(browser, "It can be run.")
    browser.find_element("name", "name").send_keys(name)
    picture(browser, f"{name}-submit")
    press(browser, "Submit")


def test_a_search_from_the_link_to_the_model(browser: Any, link: str) -> None:
    at = link.partition("/sign-in/")[0]
    resize(browser, 1280)
    browser.get(link)
    press(browser, "Sign in")
    until(browser, "Runs")
    submit(browser, at, "first")
    until_state(browser, "running")
    until(browser, "of 12 trials")
    picture(browser, "first-running")
    press(browser, "Pause")
    until_state(browser, "paused")
    picture(browser, "first-paused")
    press(browser, "Resume")
    until_state(browser, "done")
    picture(browser, "first-done")
    run = browser.current_url
    browser.find_element("id", "trials").send_keys("4")
    press(browser, "Extend")
    until_state(browser, "running")
    until_state(browser, "done")
    picture(browser, "first-extended")
    submit(browser, at, "second")
    until_state(browser, "done")
    browser.get(f"{at}/")
    for box in browser.find_elements("css selector", "main input[name=run]"):
        box.click()
    press(browser, "Compare the ticked ones")
    until(browser, "experiment.trials", "first", "second")
    picture(browser, "compared")
    browser.get(run)
    press(browser, "Export")
    until(browser, "model.")
    picture(browser, "exported")
    assert complaints(browser) == []
