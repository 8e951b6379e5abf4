"""Image files decoded once by several processes that start together, some of which are killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.test_decoding import SIZE, made

COUNT = 300
BUILDERS = Path(__file__).parent / "builders.py"


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """An undisturbed start of three processes, then eight with a fourth killed before at a drawn write."""
    from tests.conftest import _write_image

    folder = tmp_path_factory.mktemp("together")
    made(folder / "pictures", COUNT, _write_image)
    environment = {**os.environ, "COTUNING_TUNE_CACHE": str(folder / "cache")}
    command = [sys.executable, str(BUILDERS), str(folder / "pictures"), str(SIZE), "5", "8"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_of_processes_that_start_together_one_decodes(rounds: list[dict]) -> None:
    """Three processes that open one folder at the same moment decode it once, and all get it."""
    assert rounds[0]["codes"] == [0, 0, 0]
    assert len(rounds[0]["builds"]) == 1


def test_whatever_is_killed_the_file_is_whole(rounds: list[dict]) -> None:
    """After a kill -9 at any moment the next processes get the very bytes of an undisturbed decoding."""
    assert len(rounds) == 9
    assert all(r["codes"] == [0, 0, 0] and r["same"] for r in rounds)


def test_kills_hit_the_work_and_it_is_gone_on_with(rounds: list[dict]) -> None:
    """Each kill hits the decoding: then a second one goes on, from blocks that are already there."""
    assert [len(r["builds"]) for r in rounds] == [1, *[2] * 8]
    assert sum("already there" in r["builds"][1] for r in rounds[1:]) >= 6


def test_kills_leave_nothing_behind(rounds: list[dict]) -> None:
    """At the end the cache holds the file, its checksums, the quick key and empty locks."""
    assert all(
        set(r["left"]) <= {".npy", ".sums", ".digests", ".lock"} and r["left"].count(".npy") == 1 for r in rounds
    )
