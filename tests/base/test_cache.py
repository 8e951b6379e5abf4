"""The cache: keys that follow the content, and files that are made once and never by halves."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotuning_tune.base.cache import cache_root, cached_arrays, cached_file, content_key

KILLED = """
import os, signal
from cotuning_tune.base.cache import cached_file
def make(path):
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
cached_file("kind", "key", ".bin", make)
"""
SLOW = """
import sys, time
from pathlib import Path
from cotuning_tune.base.cache import cached_file
log = Path(sys.argv[1])
def note(word):
    with log.open("a") as file:
        file.write(word + "\\n")
def make(path):
    note("made")
    while log.read_text().count("asks") < 3:
        time.sleep(0.01)
    time.sleep(0.1)
    path.write_bytes(b"whole")
note("asks")
assert cached_file("kind", "key", ".bin", make).read_bytes() == b"whole"
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_root_from_the_environment(root: Path) -> None:
    """The environment says where the cache lies."""
    assert cache_root() == root


def test_root_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the environment's word the cache lies in the home folder."""
    monkeypatch.delenv("COTUNING_TUNE_CACHE")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_root() == Path("/home/someone/.cache/cotuning_tune")


def test_a_relative_root_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative cache folder does not move with the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COTUNING_TUNE_CACHE", "here")
    assert cache_root() == tmp_path / "here"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([{"a": 1, "b": 2}], [{"b": 2, "a": 1}]),
        ([np.arange(6).reshape(2, 3)], [np.arange(6).reshape(3, 2).reshape(2, 3)]),
        ([np.arange(6).reshape(2, 3).T], [np.ascontiguousarray(np.arange(6).reshape(2, 3).T)]),
        ([(1, 2)], [[1, 2]]),
    ],
)
def test_equal_contents_have_equal_keys(one: list[Any], other: list[Any]) -> None:
    """The order of a table's keys and the memory layout of an array do not matter."""
    assert content_key(*one) == content_key(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        (["a"], ["a", ""]),
        ([1], ["1"]),
        ([1, 2], [12]),
        ([1], [1.0]),
        ([[1, 2], [3]], [[1], [2, 3]]),
        ([np.arange(6)], [np.arange(6).reshape(2, 3)]),
        ([np.zeros(2, np.int32)], [np.zeros(2, np.float32)]),
        ([np.zeros(2)], [np.zeros(3)]),
        ([np.arange(6).reshape(2, 3)], [np.arange(6).reshape(3, 2).T]),
        ([b"a", b"b"], [b"a\0b"]),
        ([b'"a"'], ["a"]),
    ],
)
def test_other_contents_have_other_keys(one: list[Any], other: list[Any]) -> None:
    """A key changes with every value, type, shape, and with the borders between parts."""
    assert content_key(*one) != content_key(*other)


def test_a_key_is_the_same_in_every_process() -> None:
    """A key depends on the content alone, not on the process."""
    code = "from cotuning_tune.base.cache import content_key; print(content_key({'a': [1, 'x']}, 'b'))"
    run = [sys.executable, "-c", code]
    key = subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ})
    assert key.stdout.strip() == content_key({"a": [1, "x"]}, "b")


def test_made_once(root: Path) -> None:
    """The second call finds the file; another key or another kind is made by itself."""
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        path.write_bytes(b"content")

    paths = [cached_file(*names, ".bin", make) for names in (("k", "1"), ("k", "1"), ("k", "2"), ("j", "1"))]
    assert len(made) == 3
    assert paths[0] == paths[1] == root / "k" / "1.bin"
    assert {path.read_bytes() for path in paths} == {b"content"}


def test_a_failure_leaves_nothing(root: Path) -> None:
    """After a failed computation no file is left, and the next call computes again."""

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        cached_file("k", "1", ".bin", fail)
    assert list(root.rglob("*.bin")) == []
    assert cached_file("k", "1", ".bin", lambda path: path.touch()).exists()


def test_a_killed_writer_leaves_no_half_file(root: Path) -> None:
    """After a kill in the middle of writing the next call computes again, without waiting."""
    ended = subprocess.run([sys.executable, "-c", KILLED], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (root / "kind" / "key.bin").exists()
    path = cached_file("kind", "key", ".bin", lambda to: to.write_bytes(b"whole") and None)
    assert path.read_bytes() == b"whole"


def test_processes_wait_for_the_first(root: Path, tmp_path: Path) -> None:
    """Of processes that ask at the same time one computes; all get its file."""
    log = tmp_path / "log"
    command = [sys.executable, "-c", SLOW, str(log)]
    for process in [subprocess.Popen(command) for _ in range(3)]:
        assert process.wait() == 0
    assert sorted(log.read_text().split()) == ["asks"] * 3 + ["made"]


def test_threads_wait_for_the_first(root: Path) -> None:
    """Threads of one process wait for each other too."""
    made, barrier = [], threading.Barrier(4)

    def make(path: Path) -> None:
        made.append(path)
        time.sleep(0.1)
        path.touch()

    def ask() -> None:
        barrier.wait()
        cached_file("k", "1", ".bin", make)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_arrays_come_back(root: Path) -> None:
    """Arrays from the cache have the computed names, types and values, and are computed once."""
    computed = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True])}
    calls: list[int] = []

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return computed

    for _ in range(2):
        found = cached_arrays("k", "1", compute)
        assert found.keys() == computed.keys()
        for name, array in computed.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)
    assert len(calls) == 1
