"""What tests share: one torch thread, a cache folder of the session, image folders made on the spot."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from cotuning_tune import cli
from cotuning_tune.base.files import write_bytes
from cotuning_tune.runs.folder import RunDir
from tests.browser import browser  # noqa: F401 - a fixture of several folders

LEFT_TO = {
    "proof": "'make proof': {} slow proofs",
    "storm": "'make storms': {} long forms",
    "cluster": "'make cluster-test': {} tests on several hosts",
}
settings.register_profile("patient", deadline=None)  # none of them depends on how busy the machine is
settings.load_profile("patient")
left_out = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is left out so far."""
    config.stash[left_out] = Counter()


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count what has a target of its own."""
    for item in items:
        item.config.stash[left_out].update([mark for mark in LEFT_TO if item.get_closest_marker(mark)][-1:])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each process of pytest-xdist has left out the same."""
    node.config.stash[left_out] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """The last line says what was not run, and what runs it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(session.config.stash[left_out])
    yield
    told = [text.format(count) for mark, text in LEFT_TO.items() if (count := session.config.stash[left_out][mark])]
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if told and reporter:
        reporter.write_line(f"left to {'; '.join(told)}")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache; processes that a test starts inherit the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COTUNING_TUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tests share the machine; and what runs on one thread is the same every time."""
    torch.set_num_threads(1)


def _write_image(path: Path, seed: int = 0, mode: str = "RGB", side: tuple[int, int] = (20, 16)) -> Path:
    """An image file of random colours in the format of its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side[1], side[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """``write_image(path, seed, mode, side)`` makes an image file, and the folders above it."""
    return _write_image


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """``image_folder(splits, classes, count)`` makes a folder of JPEG files and returns its path."""

    def make(
        splits: tuple[str, ...] = ("train", "test"), classes: str = "ab", count: int = 4, folder: str = "pictures"
    ) -> Path:
        root = tmp_path / folder
        for seed, (split, name, number) in enumerate(
            (split, name, number) for split in splits or (".",) for name in classes for number in range(count)
        ):
            _write_image(root / split / name / f"{number}.jpg", seed)
        return root

    return make


@pytest.fixture
def driven(tmp_path: Path) -> RunDir:
    """The folder of a run that has had one driver."""
    made = RunDir(tmp_path)
    write_bytes(made.experiment_file, b"")
    made.raise_incarnation()
    return made


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str], list[str]]]:
    """``call(*arguments)`` gives exit code, lines on standard output and lines on standard error."""

    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run
