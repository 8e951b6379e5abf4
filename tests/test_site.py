"""The site of the docs: built strictly, every page in its navigation, nothing asked of any other host."""

import os
import re
import runpy
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}  # what a browser asks for
ADDRESS = re.compile(r"url\(\s*['\"]?(?:https?:)?//|@import\s+['\"](?:https?:)?//")


def build(folder: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    """``mkdocs build --strict``, as ``make docs``."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(folder)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )


class Loads(HTMLParser):
    """Collects what a page loads from an address with a host."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        address = found.get(LOADED.get(tag, "")) or ""
        if re.match(r"(https?:)?//", address) and found.get("rel") != "canonical":
            self.foreign.append(address)


def foreign(page: str) -> list[str]:
    """The addresses with a host that a page makes a browser ask for."""
    parser = Loads()
    parser.feed(page)
    return parser.foreign


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_is_built_strictly(site: Path) -> None:
    """Each page of docs/ is one of the site; a broken link or anchor would have ended the build."""
    assert {path.stem for path in ROOT.glob("docs/*.md")} <= {path.stem for path in site.glob("*.html")}


def test_it_asks_nothing_of_other_hosts(site: Path) -> None:
    """No page loads a script, style, font or image from elsewhere, and no style sheet does."""
    found = {path.name: foreign(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert {name: addresses for name, addresses in found.items() if addresses} == {}
    assert [path for path in site.rglob("*.css") if ADDRESS.search(path.read_text(encoding="utf-8"))] == []
    assert foreign('<script src="https://a.example/x.js"></script>') == ["https://a.example/x.js"]


def test_a_lost_anchor_is_found(tmp_path: Path) -> None:
    """The settings of mkdocs.yml make a link to a heading that is not there an error, and a page that nobody lists."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[x](#nowhere)")
    (tmp_path / "docs" / "alone.md").write_text("# Alone")
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    settings = text[text.index("\nvalidation:") : text.index("\nnav:")]
    (tmp_path / "mkdocs.yml").write_text(f"site_name: x\n{settings}\nnav: [index.md]\n")
    done = build(tmp_path / "out", tmp_path / "mkdocs.yml")
    assert done.returncode == 1
    assert "#nowhere" in done.stderr
    assert "alone.md" in done.stderr


def test_the_pictures_are_those_of_the_script() -> None:
    """``scripts/draw_pictures.py`` draws what docs/ has."""
    script = runpy.run_path(str(ROOT / "scripts" / "draw_pictures.py"))
    for name, draw in script["PICTURES"].items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == draw()


@pytest.mark.proof
def test_its_search_asks_no_other_host(site: Path, browser: Any) -> None:
    """In a browser words are found by the site alone, without the network."""
    from selenium.webdriver.support.ui import WebDriverWait

    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.get(f"http://127.0.0.1:{server.server_port}/index.html?q=extend")
        found = "return [...document.querySelectorAll('.md-search-result__item h1')].map(e => e.innerText)"
        WebDriverWait(browser, 120).until(lambda driver: driver.execute_script(found))
        assert "Resuming and extending" in browser.execute_script(found)
        asked = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        server.shutdown()
    assert [name for name in asked if f"//127.0.0.1:{server.server_port}/" not in name] == []
