"""The service in Chromium: signed in by a link, submitted, watched live, stopped and resumed; narrow screens."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from cotuning_tune.service.people import link
from cotuning_tune.service.tables import RUN
from tests.browser import resize
from tests.service.household import EXPERIMENT, STUDY, check, fill, submitted
from tests.service.served import Served, listening, wait_for

pytestmark = pytest.mark.proof
WIDTHS = (390, 1280)


@pytest.fixture
def at(served: Served, browser: Any) -> Any:
    """The address of a service whose link has been used in the browser by its button."""
    served.runs.check = check
    with listening(served) as address:
        browser.get(f"{address}/sign-in/{link(served.store, 'ann', served.now())}")
        press(browser, "Sign in")
        wait_for(lambda: browser.title.startswith("Runs"))
        yield address
        browser.get("about:blank")
        browser.delete_all_cookies()


def press(browser: Any, text: str) -> None:
    """Press the button of this text."""
    browser.find_element("xpath", f"//main//button[normalize-space()='{text}']").click()


def text_of(browser: Any) -> str:
    """All that the page shows; '' while it changes."""
    return str(browser.execute_script("return document.body ? document.body.innerText : ''"))


def shows(browser: Any, *words: str) -> Callable[[], bool]:
    """Whether the page shows all of these."""
    return lambda: all(word in text_of(browser) for word in words)


def summarise(served: Served, done: int) -> None:
    """What the reconciler would have read in summary.json."""
    with served.store.writing() as connection:
        connection.execute(RUN.update().values(summary={"budget": 8, "done": done, "running": 1, "trial_hours": 0.1}))


def complaints(browser: Any) -> list[str]:
    """What the browser has complained of: errors of scripts, and what the policy has forbidden."""
    return [line["message"] for line in browser.get_log("browser") if "favicon" not in line["message"]]


def test_a_search_is_submitted_watched_live_stopped_and_resumed(served: Served, browser: Any, at: str) -> None:
    """What moves comes by itself; what is being typed, and what was unfolded, stays as it is."""
    resize(browser, 1280)
    browser.get(f"{at}/submit")
    area = browser.find_element("name", "experiment")
    area.send_keys(EXPERIMENT + "wrong = 1")
    wait_for(shows(browser, "unknown key 'wrong'", "Line 5"))
    assert area.get_attribute("value").endswith("wrong = 1")
    browser.execute_script("arguments[0].value = ''", area)
    area.send_keys(EXPERIMENT)
    wait_for(shows(browser, "It can be run.", "10 trainings"))
    browser.find_element("name", "name").send_keys("birds-1")
    press(browser, "Submit")
    wait_for(lambda: "/runs/" in browser.current_url)
    wait_for(shows(browser, "queued", "No study has begun"))
    (run,) = served.runs.listed(served.people["ann"])["runs"]
    served.world.life(run).needed = 10_000
    served.round()
    served.round()
    fill(run)
    browser.find_element("css selector", "#change summary").click()
    browser.find_element("id", "trials").send_keys("32")
    for done in (2, 5):
        summarise(served, done)
        wait_for(shows(browser, "running", f"{done} of 8 trials", "trial 4"))
    assert browser.find_element("id", "trials").get_attribute("value") == "32"
    assert browser.find_element("id", "least").is_displayed()
    press(browser, "Pause")
    wait_for(lambda: served.round() or shows(browser, "paused", "Resume continues it where it stopped")())
    press(browser, "Resume")
    wait_for(lambda: served.round() or shows(browser, "Its driver hands out", "pause by ann", "resume by ann")())
    assert complaints(browser) == []


def test_a_page_says_when_the_service_does_not_answer_and_when_a_session_has_ended(
    served: Served, browser: Any, at: str
) -> None:
    """It is never stale without a word, and comes back by itself."""
    browser.get(f"{at}/queue")
    network = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", network)
    wait_for(shows(browser, "The service does not answer"))
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", network | {"offline": False})
    wait_for(lambda: "does not answer" not in text_of(browser))
    browser.delete_all_cookies()
    wait_for(shows(browser, "your session has ended"))
    browser.get_log("browser")


def test_no_page_is_wider_than_its_screen(served: Served, browser: Any, at: str) -> None:
    """Also with names of a hundred characters; wide tables scroll in their own box."""
    run = submitted(served, "ann", "x" * 100, labels={"k" * 100: "v" * 100})
    fill(run, study="y" * 100, trials=30)
    fill(run, study=STUDY, ended=True)
    other = submitted(served, "ann", "short")
    submitted(served, "ann", "z" * 100, least=9)
    served.round()
    with served.store.writing() as connection:
        connection.execute(RUN.update().where(RUN.c.id == other["id"]).values(reason="r" * 300))
    log = f"{run['folder']}/log"
    with open(log, "a") as file:  # noqa: PTH123
        file.write("l" * 500)
    browser.get_log("performance")  # of what came before
    of_run = [f"/runs/{run['id']}{end}" for end in ("", "/log", f"/studies/{STUDY}", f"/studies/{STUDY}/trials/3")]
    of_run += [f"/runs/{run['id']}/studies/{'y' * 100}", f"/runs/{other['id']}"]
    pages = ["/", "/submit?example=1", "/queue", f"/compare?run={run['id']}&run={other['id']}", "/me", "/none", *of_run]
    wide = []
    for width in WIDTHS:
        resize(browser, width)
        for page in pages:
            browser.get(at + page)
            found = browser.execute_script("return document.documentElement.scrollWidth")
            wide += [(page, width, found)] if found > width else []
    assert wide == []
    messages = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if url.startswith(("http", "ws")) and not url.startswith(at)] == []
    browser.get_log("browser")
