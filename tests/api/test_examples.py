"""Every example does what it says, as a user would run it."""

import os
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

from tests.search.conftest import ROOT

pytestmark = pytest.mark.proof
EXAMPLES = ROOT / "examples"


def example(name: str, *arguments: object, folder: Path) -> str:
    """What it prints."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executed in a kernel: progress, tables and the model; nothing of Ray's or Optuna's own in between."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=900, kernel_name="python3", resources=where).execute()
    cells = [cell.outputs for cell in book.cells if cell.cell_type == "code"]
    said = ["".join(out.text for out in outputs if out.get("name") == "stdout") for outputs in cells]
    wrong = "".join(out.text for outputs in cells for out in outputs if out.get("name") == "stderr")
    assert set(wrong.splitlines()) == {"co_tuning: the weights of tiny_cnn are random, its head knows no classes"}
    assert "search: 12/12" in said[1]
    assert "retrain: 4/4" in said[1]
    assert cells[1][-1].data["text/html"].startswith("<p>Take ")
    assert [len(outputs) for outputs in cells][2:] == [1, 1, 2, 2, 1]
    assert "state='done'" in cells[-1][0].data["text/plain"]


def test_own_photos(tmp_path: Path) -> None:
    """Two kinds of photos to a model that knows new ones."""
    draws = np.random.default_rng(0)
    for kind, colour in (("day", 200), ("night", 30)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for number in range(20):
            photo = np.clip(draws.normal(colour, 20, (60, 80, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(photo).save(tmp_path / "photos" / kind / f"{number}.jpg")
    (tmp_path / "photos" / "night" / "19.jpg").rename(tmp_path / "new.jpg")
    told = example("own_photos.py", "photos", "new.jpg", folder=tmp_path)
    assert "Take " in told
    assert told.splitlines()[-1].startswith("new.jpg: night (")


def test_a_callback(tmp_path: Path) -> None:
    """It hears every trial and seed, and the answer follows."""
    told = example("callback.py", ROOT / "search_spaces" / "tiny.toml", folder=tmp_path).splitlines()
    assert sum("on validation" in line for line in told) == 21
    assert sum("on test" in line for line in told) == 9
    assert told[-1].startswith("Best(synthetic-1.00-")
