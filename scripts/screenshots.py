"""Pictures of a run's report page and TensorBoard, and of the site: all to look at, a few for the docs.

python scripts/screenshots.py [RUN]: each page wide and narrow, light and dark, by Debian's Chromium, into --out; those
of KEPT also into docs/pictures, cut and with few colours. Without RUN search_spaces/tiny.toml is run first. Exit code 1
where a page is wider than its screen.
"""

import argparse
import io
import os
import shutil
import socket
import subprocess  # nosec B404 # our own commands
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from cotuning_tune.cli._tensorboard import CURVES, PICTURES
from cotuning_tune.report import write_report
from cotuning_tune.runs.folder import RunDir

ROOT = Path(__file__).parents[1]
WIDTHS, SCHEMES = (1280, 390), ("light", "dark")
SCREEN, HIGHEST = 900, 4000  # pixels: the height of a screen, and what is below so many is cut off
PATIENCE_S, SETTLED_S = 120, 2.0  # until a page shows what it shall; until what moves stands still
MOST_BYTES = 60_000
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
SHADOWS = """
let seen = 0; const walk = (root) => root.querySelectorAll("*").forEach((element) => {
  if (element.matches(arguments[0]) && element.getClientRects().length) seen++;
  if (element.shadowRoot) walk(element.shadowRoot);
}); walk(document); return seen"""


@dataclass(frozen=True)
class Page:
    """What is opened. ``shows``: it is there once such an element is; ``start``: the one at which the picture begins.

    ``program``: it fills one screen and scrolls inside.
    """

    name: str
    address: str
    shows: str = "h1"
    start: str = "html"
    program: bool = False


KEPT = {  # in docs/pictures: page, width, scheme, height
    "report": ("report", 1280, "light", 860),
    "report-telephone": ("report", 390, "dark", 860),
    "figures": ("figures", 1280, "light", 800),
    "hparams": ("hparams", 1280, "light", 620),
    "curves": ("curves", 1280, "dark", 620),
}


def start(profile: str) -> Any:
    """A browser with a profile of its own; SystemExit where there is none."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        raise SystemExit("chromium and chromedriver are needed: sh scripts/system_packages.sh")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(driver))


def command(*words: object) -> list[str]:
    """The product's command line, as words."""
    return [sys.executable, "-m", "cotuning_tune.cli", *map(str, words)]


@contextmanager
def pages(run: Path, folder: Path) -> Iterator[list[Page]]:
    """All pages, while TensorBoard runs; the site is built in ``folder``."""
    write_report(RunDir(run))
    site = [sys.executable, "-m", "mkdocs", "build", "-q", "-d", str(folder / "site")]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(site, check=True, cwd=ROOT, env=quiet)  # nosec B603 # our own command
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    report, url = (run / "report" / "index.html").absolute().as_uri(), f"http://127.0.0.1:{port}/"
    board = subprocess.Popen(
        command("tensorboard", run, "--port", port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # nosec B603 # ours
    try:
        _wait_for(port)
        yield [
            Page("report", report),
            Page("figures", report, "figure svg", "#figures"),
            Page("site", (folder / "site" / "index.html").as_uri()),
            Page("site-report", (folder / "site" / "report.html").as_uri()),
            Page("hparams", f"{url}#hparams", "vaadin-grid-cell-content", program=True),
            Page("scalars", f"{url}#timeseries", "mat-card, card-view", program=True),
            Page("curves", f"{url}{CURVES}", "path.line", program=True),
            Page("mistakes", f"{url}{PICTURES}", "#main-image-container img", program=True),
        ]
    finally:
        board.terminate()
        board.wait(30)


def _wait_for(port: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit("TensorBoard does not answer")


def take(driver: Any, page: Page, width: int, scheme: str) -> tuple[Image.Image, bool]:
    """A picture of the page, as high as it is, and whether it is wider than the screen."""
    from selenium.webdriver.support.ui import WebDriverWait

    dark = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    size = {"width": width, "height": SCREEN, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get("about:blank")
    driver.get(page.address)
    WebDriverWait(driver, PATIENCE_S).until(lambda d: d.execute_script(SHADOWS, page.shows))
    time.sleep(SETTLED_S)
    height, wide, above = driver.execute_script(
        "const e = document.documentElement, s = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return [e.scrollHeight, e.scrollWidth, s.top + scrollY]",
        page.start,
    )
    if not page.program:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size | {"height": min(height, HIGHEST)})
    picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    return picture.crop((0, int(above), picture.width, picture.height)), bool(wide > width)


def small(picture: Image.Image) -> bytes:
    """A PNG with as many colours as ``MOST_BYTES`` allow, of those tried the fewest where it allows none."""
    content = b""
    for colours in (128, 64, 32, 16):
        buffer = io.BytesIO()
        picture.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            buffer, "PNG", optimize=True
        )
        if len(content := buffer.getvalue()) <= MOST_BYTES:
            break
    return content


def take_all(driver: Any, found: list[Page], out: Path) -> bool:
    """Write every picture; whether a page is wider than its screen."""
    spilt = False
    for page in found:
        for width in WIDTHS:
            for scheme in SCHEMES:
                picture, wide = take(driver, page, width, scheme)
                path = out / f"{page.name}-{width}-{scheme}.png"
                picture.save(path)
                spilt |= wide
                print(f"{path}{': wider than the screen' if wide else ''}", flush=True)
                for name, (*which, height) in KEPT.items():
                    if which == [page.name, width, scheme]:
                        kept = small(picture.crop((0, 0, width, min(height, picture.height))))
                        (ROOT / "docs" / "pictures" / f"{name}.png").write_bytes(kept)
    return spilt


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="folder of a run that has ended")
    parser.add_argument("--out", type=Path, default=ROOT / ".build" / "pictures", help="folder of all pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder, run = Path(name), options.run
        if run is None:
            tiny = command("run", ROOT / "search_spaces" / "tiny.toml", "--storage", folder)
            subprocess.run(tiny, check=True)  # nosec B603 # our own command
            run = folder / "tiny"
        driver = start(str(folder / "profile"))
        try:
            with pages(run, folder) as found:
                return int(take_all(driver, found, options.out))
        finally:
            driver.quit()


if __name__ == "__main__":
    sys.exit(main())
