"""Take pictures of a run's report page and of the site, wide and narrow, light and dark, with Debian's Chromium.

python scripts/screenshots.py RUN/report/index.html site/index.html --out DIR
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
HIGHEST = 4000  # pixels of a picture
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


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


def take(driver: Any, page: Path, most: tuple[int, int], scheme: str, out: Path) -> bool:
    """Write a picture of the page, of a width and as high as it is, at ``most``; True where it is wider than that."""
    width, highest = most
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(page.absolute().as_uri())
    height, wide = driver.execute_script("let e = document.documentElement; return [e.scrollHeight, e.scrollWidth]")
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size | {"height": min(height, highest)})
    driver.save_screenshot(str(out))
    return bool(wide > width)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="+", type=Path, help="HTML files")
    parser.add_argument("--out", type=Path, default=Path("screenshots"), help="folder of the pictures")
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS, help="of the screen, in pixels")
    parser.add_argument("--highest", type=int, default=HIGHEST, help="what is below so many pixels is cut off")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    spilt = 0
    with tempfile.TemporaryDirectory() as profile:
        driver = start(profile)
        try:
            for page in options.pages:
                for width in options.widths:
                    for scheme in SCHEMES:
                        name = f"{page.parent.name}-{page.stem}-{width}-{scheme}.png"
                        wide = take(driver, page, (width, options.highest), scheme, options.out / name)
                        spilt += wide
                        print(f"{options.out / name}{': wider than the screen' if wide else ''}")
        finally:
            driver.quit()
    return int(spilt > 0)


if __name__ == "__main__":
    sys.exit(main())
