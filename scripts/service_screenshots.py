"""Take the pictures of docs/service.md of a running service, with Debian's Chromium, signed in by a one-time link.

python scripts/service_screenshots.py "$(cotuning-tune serve --link)" --out docs/pictures
python scripts/service_screenshots.py --walk .build/walk   (what tests/service/test_walk.py has taken)
"""

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from screenshots import start

HIGHEST = 1000  # pixels of a picture
MOST_BYTES = 60_000
WIDE, NARROW = 1280, 390
PICTURES = {  # name: where it is taken, the width, the scheme; {run} and {study}: the newest run with studies
    "service-runs": ("/", WIDE, "light"),
    "service-run": ("/runs/{run}", WIDE, "light"),
    "service-study": ("{study}", WIDE, "light"),
    "service-submit": ("/submit?example=1", WIDE, "light"),
    "service-queue": ("/queue", WIDE, "dark"),
    "service-narrow": ("/runs/{run}", NARROW, "dark"),
}


STEPS = {"first-paused": 560, "compared": 575, "exported": 900}  # pictures of the walk: how much of them, in pixels


def pack_walk(folder: Path, out: Path) -> int:
    """The pictures of the walk, cut and packed."""
    for name, height in STEPS.items():
        with Image.open(folder / f"{name}.png") as image:
            buffer = io.BytesIO()
            image.crop((0, 0, image.width, height)).save(buffer, "PNG")
        (out / f"service-{name.removeprefix('first-')}.webp").write_bytes(packed(buffer.getvalue()))
    return 0


def show(driver: Any, address: str, width: int, scheme: str) -> int:
    """Open a page in a width, as high as it is; how wide it is."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 400, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(address)
    height, wide = driver.execute_script("let e = document.documentElement; return [e.scrollHeight, e.scrollWidth]")
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size | {"height": min(height, HIGHEST)})
    return int(wide)


def links(driver: Any, beginning: str) -> list[str]:
    """The addresses on a page that begin so."""
    found = driver.execute_script("return [...document.querySelectorAll('main a')].map(a => a.getAttribute('href'))")
    return [address for address in found if address.startswith(beginning)]


def packed(png: bytes) -> bytes:
    """A picture as WebP, of a quality at which it has at most so many bytes."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in (90, 80, 70, 60, 50):
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality, method=6)
        if len(buffer.getvalue()) <= MOST_BYTES:
            break
    return buffer.getvalue()


def places(driver: Any, address: str) -> dict[str, str]:
    """The newest run that has studies, and the first of them."""
    show(driver, f"{address}/", WIDE, "light")
    for run in links(driver, "/runs/"):
        driver.get(address + run)
        if studies := [one for one in links(driver, f"{run}/studies/") if "/trials/" not in one]:
            return {"run": run.removeprefix("/runs/"), "study": studies[0]}
    raise SystemExit("no run of this service has begun a study: submit one, and wait for its first trial")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("link", nargs="?", default="", help="as 'cotuning-tune serve --link' prints it")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), help="folder of the pictures")
    parser.add_argument("--walk", type=Path, help="folder of the walk's pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.walk:
        return pack_walk(options.walk, options.out)
    address, spilt = options.link.partition("/sign-in/")[0], 0
    with tempfile.TemporaryDirectory() as profile:
        driver = start(profile)
        try:
            driver.get(options.link)
            driver.find_element("css selector", "main button").click()
            known = places(driver, address)
            for name, (path, width, scheme) in PICTURES.items():
                wide = show(driver, address + path.format(**known), width, scheme)
                spilt += wide > width
                content = packed(driver.get_screenshot_as_png())
                (options.out / f"{name}.webp").write_bytes(content)
                print(f"{name}.webp: {len(content)} bytes{', wider than the screen' if wide > width else ''}")
        finally:
            driver.quit()
    return int(spilt > 0)


if __name__ == "__main__":
    sys.exit(main())
