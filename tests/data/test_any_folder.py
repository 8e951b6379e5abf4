"""Whatever strangers hand over: each file is taken, told or refused in one line, and the checks agree with training.

``ANY_FOLDER=20`` draws twenty times as many examples, others each time.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.pixels import decoded
from cotuning_tune.data import SPLITS, FileDataSet, Task, TaskConfig
from cotuning_tune.data.images.csv_list import CsvList
from cotuning_tune.data.images.image_folder import ImageFolder
from cotuning_tune.inspection.verify import check_file, verify
from cotuning_tune.models.images._weights import load_network, read_checkpoint
from tests.data import strangers
from tests.data.strangers import Entry, Table

TIMES = int(os.environ.get("ANY_FOLDER", "1"))
STOPS_TRAINING = ("corrupt", "missing", "validation")
pytestmark = pytest.mark.timeout(600 * TIMES)  # a hang is an error too
DECODE = st.sampled_from(["each", "each", "once"])


def drawn(examples: int) -> settings:
    """The same examples each time, unless more are asked for."""
    return settings(
        max_examples=examples * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True)
def _small_giants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flipped bits make giants: here they are refused from a million pixels on, so that none takes long."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1 << 19)


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder, deleted in the end."""
    path = Path(tempfile.mkdtemp()).resolve()
    try:
        yield path
    finally:
        shutil.rmtree(path)


def one_line(problem: UserError) -> None:
    """What every refusal is."""
    text = str(problem)
    assert text.strip()
    assert text.isprintable()


def opened(data: FileDataSet, decode: str) -> str:
    """Open the task as a search does, and look at every image; what is said against it, "" for nothing."""
    data.decode = decode
    try:
        task = Task("it", data, 1.0, TaskConfig(size=8, resize=8, decode=decode))  # type: ignore[arg-type]
        for split in (task.train, task.val):
            assert split.stored(range(len(split))).shape == (len(split), 3, 8, 8)
        task.check()
    except UserError as problem:
        one_line(problem)
        return str(problem)
    named = [name for split in SPLITS if split != "test" and (found := data.files(split)) for name in found.names]
    assert sorted(task.train.names + task.val.names) == sorted(named)
    return ""


def agrees(data: FileDataSet, refusal: str) -> None:
    """``data verify`` has an error that stops training where training is refused, and nowhere else."""
    found = verify(data, 1, 1)
    assert all(finding.line.isprintable() for finding in found.findings)
    stopping = [finding for finding in found.findings if finding.kind in STOPS_TRAINING]
    assert bool(stopping) == bool(refusal), (refusal, stopping)


@drawn(250)
@given(strangers.folders(), DECODE)
def test_any_folder(entries: list[Entry], decode: str) -> None:
    """Every file is an image of one split or told with a reason, or the folder is refused in one line."""
    with folder() as root:
        made = strangers.write(root, entries)
        try:
            data = ImageFolder(ImageFolder.Config(root=str(root)), 8)
            files = [found for split in SPLITS if (found := data.files(split))]
        except UserError as problem:
            one_line(problem)
            return
        taken = [name for found in files for name in found.names]
        assert len(taken) == len(set(taken))
        passed = {name for found in files for names in found.passed.values() for name in names}
        known = passed | set(taken)
        assert [name for name in made if not known & {name, *map(str, PurePosixPath(name).parents)}] == []
        assert all(line.isprintable() for line in data.not_taken())
        agrees(data, opened(data, decode))


@drawn(300)
@given(strangers.tables(), DECODE)
def test_any_list(table: Table, decode: str) -> None:
    """Every row is an image of one split, or the list is refused in one line."""
    with folder() as root:
        for number, name in enumerate(strangers.NAMES):
            (root / name).write_bytes(strangers.png(number))
        (root / "list.csv").write_bytes(table.content)
        try:
            data = CsvList(CsvList.Config(file=str(root / "list.csv")), 8)
        except UserError as problem:
            one_line(problem)
            return
        files = [found for split in SPLITS if (found := data.files(split))]
        taken = [name for found in files for name in found.names]
        assert len(taken) == len(set(taken))
        assert table.rows in (None, len(taken))
        agrees(data, opened(data, decode))


@drawn(450)
@given(strangers.image_files())
def test_any_image_file(content: bytes) -> None:
    """It has pixels, or a reason in one line; ``data verify`` says the same of it as training."""
    with warnings.catch_warnings(), folder() as root:
        warnings.simplefilter("ignore")
        (root / "x.jpg").write_bytes(content)
        pixels, checked = decoded(content, 8), check_file(root / "x.jpg")
        if isinstance(pixels, str):
            one_line(UserError(pixels))
            assert checked.kind == "corrupt"
            assert checked.problem
        else:
            assert (pixels.shape, pixels.dtype) == ((3, 8, 8), np.uint8)
            assert checked.problem == ""


@drawn(250)
@given(strangers.checkpoints(), st.sampled_from(["new", "old", "cut", "safetensors"]), st.integers(0, 1 << 16))
def test_any_checkpoint(found: object, form: str, place: int) -> None:
    """It fills the network with finite numbers, or is refused in one line."""
    with folder() as root:
        content = strangers.stored(found, old=form == "old")
        path = root / ("x.safetensors" if form == "safetensors" else "x.pth")
        path.write_bytes(content[: place % (len(content) + 1)] if form == "cut" else content)
        network = strangers.Network()
        try:
            head, _ = load_network(network, "fc", read_checkpoint(path), "it")
        except UserError as problem:
            one_line(problem)
            return
        values = [*network.state_dict().values(), *head.state_dict().values()]
        assert all(torch.isfinite(value).all() for value in values)
