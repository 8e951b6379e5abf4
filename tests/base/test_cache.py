"""The cache: keys that follow the content, and files that are made once and never by halves."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cotuning_tune.base import cache, private
from cotuning_tune.base.cache import cache_folder, cache_root, cached_arrays, cached_file, content_key, only_one
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.private import host_folders, own_folder, runtime_folder

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
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
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


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("how", ["half", "empty", "altered", "no checksum", "empty checksum", "a link"])
def test_a_damaged_file_is_made_again(root: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
    """A file that has not its checksum is computed again, with one line; then it is whole."""
    wanted = {"a": np.arange(1000)}
    cached_arrays("k", "1", lambda: wanted)
    path, checksum = root / "k" / "1.npz", root / "k" / "1.npz.sha256"
    if how == "half":
        os.truncate(path, 100)
    elif how == "a link":
        path.rename(root / "k" / "moved")
        path.symlink_to("moved")
    elif how == "altered":
        path.write_bytes(path.read_bytes()[:-300] + bytes(300))
    elif how == "no checksum":
        checksum.unlink()
    else:
        (path if how == "empty" else checksum).write_bytes(b"")
    for lines in ([f"{path} is damaged, or its checksum is missing: it is made again"], []):
        caplog.clear()
        np.testing.assert_array_equal(cached_arrays("k", "1", lambda: wanted)["a"], wanted["a"])
        assert [record.message for record in caplog.records] == lines
    assert not path.is_symlink()


def test_a_file_is_checked_once_a_process(root: Path) -> None:
    """While size, time and inode stay, it is not read again for its checksum."""
    cached_file("k", "once", ".bin", lambda path: path.write_bytes(b"x") and None)
    misses = cache._has_digest.cache_info().misses
    for _ in range(3):
        cached_file("k", "once", ".bin", lambda path: None)
    assert cache._has_digest.cache_info().misses == misses + 1


def test_file_and_checksum_are_on_the_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are synced, and the folder after them."""
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: (synced.append(str(Path(f"/proc/self/fd/{number}").readlink())), real(number))
    )
    cached_file("k", "1", ".bin", lambda path: path.write_bytes(b"x") and None)
    assert [Path(name).name.split(".")[-1] for name in synced] == ["bin", synced[1].split(".")[-1], "k"]
    assert ".1.bin.sha256." in synced[1]


def test_the_cache_is_its_owners_alone(root: Path) -> None:
    """The folders that are made have mode 0700, and one that was open is closed."""
    cached_file("k", "1", ".bin", lambda path: path.touch())
    assert (mode(root), mode(root / "k")) == (0o700, 0o700)
    (root / "open").mkdir(mode=0o755)
    assert mode(cache_folder("open")) == 0o700


def test_a_link_in_the_place_of_a_folder_is_refused(root: Path, tmp_path: Path) -> None:
    """A folder of the cache that is a link is not followed; the cache itself may lie behind one."""
    root.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (root / "k").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link, not a folder"):
        cached_file("k", "1", ".bin", lambda path: path.touch())
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to play two users")
def test_a_folder_of_another_user_is_not_worked_in(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the cache, nor one of its folders, nor the folder of the locks."""
    for name in ("k", f"locks-{private.platform.node()}"):
        (root / name).mkdir(parents=True)
        os.chown(root / name, 65534, 65534)
    with pytest.raises(UserError, match="belongs to another user: set COTUNING_TUNE_CACHE"):
        cached_file("k", "1", ".bin", lambda path: path.touch())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with only_one(root / "x"):
        pass
    assert not list((root / f"locks-{private.platform.node()}").iterdir())
    os.chown(root, 65534, 65534)
    with pytest.raises(UserError, match=f"{root} belongs to another user"):
        cache_folder("other")


def test_a_lock_follows_no_link(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is opened below the temporary folder, whatever lies there under the names of old."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / f"cotuning_tune-{os.getuid()}").mkdir()
    before = (tmp_path / f"cotuning_tune-{os.getuid()}").stat().st_mtime_ns
    cached_file("k", "1", ".bin", lambda path: path.write_bytes(b"x") and None)
    assert (tmp_path / f"cotuning_tune-{os.getuid()}").stat().st_mtime_ns == before


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_without_locks_it_goes_on(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """On file systems that have no locks the file is made all the same, and a line says what that means."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    assert cached_file("k", "1", ".bin", lambda path: path.write_bytes(b"x") and None).read_bytes() == b"x"
    assert ["no lock is to be had" in record.message for record in caplog.records] == [True]


def test_the_runtime_folder_is_taken_where_it_is_his(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that others may enter, a link, or none at all is passed over."""
    monkeypatch.setattr(private, "user_id", os.getuid)
    given = tmp_path / "run"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(given))
    assert runtime_folder() != given
    given.mkdir(mode=0o755)
    assert runtime_folder() != given
    given.chmod(0o700)
    assert runtime_folder() == given
    assert next(host_folders("ssh", tmp_path / "cache")) == given / "cotuning_tune-ssh"
    (tmp_path / "link").symlink_to(given)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "link"))
    assert runtime_folder() not in (given, tmp_path / "link")


def test_an_own_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    """Whatever the umask says, all of them are closed to others."""
    before = os.umask(0)
    try:
        own_folder(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert {mode(tmp_path / name) for name in ("a", "a/b", "a/b/c")} == {0o700}
