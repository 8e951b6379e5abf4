"""Files of a run in a folder and in an object store: written whole, created once, waited for."""

import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import (
    append_line,
    create,
    fetch_folder,
    move,
    move_folder,
    open_new,
    place,
    remove_folder,
    write_bytes,
    write_json,
)
from cotuning_tune.runs import ledger
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import driver_lock
from tests.servers import Line, bucket, s3_server

Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    """An S3 server with the bucket ``files``, behind a line that can be cut."""
    with s3_server() as port:
        line = Line(port)
        with bucket(line.port, "files"):
            yield line


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of this machine, or one of the object store."""
    if request.param == "folder":
        return place(tmp_path)
    request.getfixturevalue("line")
    return place(f"s3://files/{tmp_path.name}")


def test_written_whole_and_over(root: Path) -> None:
    """A file and the folders above it come to be; a second write takes the place of the first."""
    path = root / "a" / "b.txt"
    for text in (b"first", b"second, longer"):
        write_bytes(path, text)
        assert path.read_bytes() == text
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_created_once(root: Path) -> None:
    """Of several that create the same file at the same time exactly one succeeds; its content stays."""
    path, made = root / "number", []

    def attempt(name: bytes) -> None:
        try:
            create(path, name)
            made.append(name)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=attempt, args=(b"%d" % n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert path.read_bytes() == made[0]


def test_lines_are_appended(root: Path) -> None:
    """A line is added; a half-written one is completed to a line of its own."""
    path = root / "book"
    append_line(path, "one")
    write_bytes(path, path.read_bytes() + b"tw")
    append_line(path, "three")
    assert path.read_text() == "one\ntw\nthree\n"


def test_moved(root: Path) -> None:
    """A file takes another's place; a folder takes all that is below it along."""
    write_bytes(root / "old", b"old")
    write_bytes(root / "new", b"new")
    move(root / "old", root / "new")
    assert (root / "new").read_bytes() == b"old"
    assert not (root / "old").exists()
    write_bytes(root / "trials" / "3" / "deep" / "file", b"x")
    move_folder(root / "trials" / "3", root / "trials" / "3.unknown")
    assert (root / "trials" / "3.unknown" / "deep" / "file").read_bytes() == b"x"
    assert not (root / "trials" / "3" / "deep" / "file").exists()


def test_written_on_and_on(root: Path) -> None:
    """What has been flushed is there for others; the rest when the file is closed."""
    with open_new(root / "events") as file:
        file.write(b"one")
        file.flush()
        assert (root / "events").read_bytes() == b"one"
        file.write(b"two")
    assert (root / "events").read_bytes() == b"onetwo"


@pytest.mark.parametrize("size", [10, 60_000_000])
@pytest.mark.parametrize("read", ["read_bytes", "read_text"])
def test_an_object_replaced_while_it_is_read(line: Line, size: int, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever another process replaces an object, a reader gets the old or the new content, whole."""
    import boto3
    import s3fs

    path, call = place("s3://files/replaced"), s3fs.S3FileSystem._call_s3
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{line.port}")
    write_bytes(path, b"0" * size)

    async def and_replace(self: s3fs.S3FileSystem, method: str, *args: object, **words: object) -> object:
        done = await call(self, method, *args, **words)
        client.put_object(Bucket="files", Key="replaced", Body=b"1" * size)
        return done

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", and_replace)
    for there in (path, path.parent / "replaced", pickle.loads(pickle.dumps(path))):
        found = getattr(there, read)()
        assert len(found) == size
        assert len(set(found)) == 1


def test_a_run_anywhere(root: Path) -> None:
    """Driver numbers rise, one driver holds the lock, the ledger's chain holds: in a folder and in s3."""
    run = RunDir(root)
    write_bytes(run.experiment_file, b"[experiment]")
    assert [run.raise_incarnation() for _ in range(3)] == [1, 2, 3]
    with driver_lock(RunDir.open(str(root))), pytest.raises(UserError, match="is being worked on by"), driver_lock(run):
        pass
    assert not run.lock.exists()
    for number in range(3):
        ledger.append(run.ledger, {"seed": number})
    assert ledger.broken_lines(run.ledger) == []
    write_json(run.study("a").trial(0).result, {"state": "COMPLETE"})
    assert [study.name for study in run.study_folders()] == ["a"]
    assert len(list(run.path.glob("studies/*/trials/*/result.json"))) == 1


def test_event_files_are_fetched(line: Line, tmp_path: Path) -> None:
    """The copy for TensorBoard: what has grown grows in place, so a reader reads on; what is gone goes."""
    source = place("s3://files/events")
    write_bytes(source / "a" / "one", b"1")
    write_bytes(source / "two", b"22")
    fetch_folder(source, tmp_path)
    with (tmp_path / "two").open("rb") as reader:
        assert reader.read() == b"22"
        write_bytes(source / "two", b"2233")
        remove_folder(source / "a")
        write_bytes(source / "b" / "three", b"3")
        fetch_folder(source, tmp_path)
        assert reader.read() == b"33"
    assert {p.name: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == {"two": b"2233", "three": b"3"}


def test_a_folder_is_removed(tmp_path: Path) -> None:
    """With all that lies in it; one that is not there is no mistake."""
    write_bytes(tmp_path / "x" / "y" / "file", b"1")
    for _ in range(2):
        remove_folder(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_an_outage_pauses(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    """While the store cannot be reached a write waits and says so in one line; then it goes on."""
    path, written = place("s3://files/outage/state"), []
    write_bytes(path, b"before")
    line.cut()
    writer = threading.Thread(target=lambda: written.append(write_bytes(path, b"after")))
    writer.start()
    writer.join(12)
    assert writer.is_alive()
    assert not written
    line.mend()
    writer.join(60)
    assert not writer.is_alive()
    assert path.read_bytes() == b"after"
    paused = [record.message for record in caplog.records if record.message.startswith("paused:")]
    assert len(paused) == 1
    assert "Could not connect to the endpoint" in paused[0]


@pytest.mark.parametrize("where", ["gs://bucket/runs", "s3://", "file:///runs"])
def test_other_places_are_refused(where: str) -> None:
    """One line that says what is possible."""
    with pytest.raises(UserError, match="a folder or s3://BUCKET/PREFIX is possible"):
        place(where)


def test_a_bucket_that_is_not_there_is_no_outage(line: Line) -> None:
    """What waiting does not mend is an OSError at once."""
    with pytest.raises(OSError, match="bucket"):
        write_bytes(place("s3://nobody/has/this"), b"x")
