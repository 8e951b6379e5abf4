"""Debian's Chromium without a window, started once for all tests; they are skipped, by name, where it is missing."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BINARY, DRIVER = "chromium", "chromedriver"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def start(profile: Path) -> Any:
    """A browser with a profile folder of its own, which logs its console and every request."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which(BINARY))
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(str(shutil.which(DRIVER))))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The browser; what a test needs of its size and page it sets itself."""
    missing = [name for name in (BINARY, DRIVER) if shutil.which(name) is None]
    if missing:
        pytest.skip(f"NOT TESTED IN A BROWSER: {' and '.join(missing)} not found; install Debian's chromium-driver")
    pytest.importorskip("selenium", reason="NOT TESTED IN A BROWSER: selenium is not installed")
    driver = start(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def resize(driver: Any, width: int, height: int = 900) -> None:
    """Make the page so wide (pixels), also below the narrowest window that the browser would open."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
