"""Image files decoded once: interrupted, without room, changed meanwhile; and decoded each time."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import DecodedImages, EachTimeImages, ImageFiles, TaskConfig, open_task
from cotuning_tune.data.images import _decoding
from cotuning_tune.runs.snapshot import DataChanged
from cotuning_tune.training import TrainingJob, TrainingSpec

Write = Callable[..., Path]
SIZE = 24


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and blocks of four images."""
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_decoding, "BLOCK", 4)
    return tmp_path / "cache" / "images"


@pytest.fixture
def files(tmp_path: Path, write_image: Write) -> ImageFiles:
    """Ten images that have rested for a minute."""
    return made(tmp_path / "pictures", 10, write_image)


def made(root: Path, count: int, write_image: Write) -> ImageFiles:
    """So many image files of random colours."""
    for number in range(count):
        write_image(root / f"{number:04d}.jpg", number, side=(40, 30))
    return again(root)


def again(root: Path) -> ImageFiles:
    """The files of a folder as a new process sees them."""
    return ImageFiles(root, sorted(path.name for path in root.iterdir()), SIZE)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of the cache by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def rested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a minute pass on the clock that the quick key looks at."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 60)


def test_the_file_holds_every_image(files: ImageFiles, cache: Path) -> None:
    """The stored file is an npy of all images in order, blocks and the smaller last one alike."""
    images = DecodedImages(files)
    (path,) = cache.glob("*.npy")
    expected = np.stack([files.decode(position) for position in range(10)])
    np.testing.assert_array_equal(np.load(path), expected)
    assert torch.equal(images.take([9, 0, 5]), torch.from_numpy(expected[[9, 0, 5]]))


@pytest.mark.parametrize("kind", [DecodedImages, EachTimeImages])
def test_both_ways_give_the_same(files: ImageFiles, kind: type) -> None:
    """Decoded once or each time: the same pixels, number and fingerprint."""
    images, other = kind(again(files.root)), DecodedImages(files)
    assert len(images) == 10
    assert torch.equal(images.take([3, 3, 8]), other.take([3, 3, 8]))
    assert images.fingerprint() == other.fingerprint()


def test_each_time_stores_nothing(files: ImageFiles, cache: Path) -> None:
    """Decoding each time leaves the cache folder empty."""
    EachTimeImages(files).take(range(10))
    assert contents(cache) == {}


def test_each_time_names_a_broken_file(files: ImageFiles) -> None:
    """A broken file is a line that names it, when its turn comes."""
    (files.root / "0004.jpg").write_bytes(b"no image")
    images = EachTimeImages(files)
    assert len(images.take([3, 5])) == 2
    with pytest.raises(UserError, match=r"1 of 10 images .*0004\.jpg \(no image that is known\)"):
        images.take([3, 4])


def test_training_is_the_same_with_and_without_the_cache(image_folder: Callable[..., Path]) -> None:
    """Two epochs of a trial, decoded once or each time, end in the same numbers and weights, and the same state key."""
    root = image_folder(count=8)
    ends = []
    for decode in ("once", "each"):
        spec = TrainingSpec(
            task="mine",
            format="image_folder",
            rate=1.0,
            method="co_tuning",
            backbone="tiny_cnn",
            seed=0,
            task_config={"size": 16, "resize": 18, "decode": decode},
            data_options={"root": str(root)},
            train={"epochs": 2, "batch_size": 4},
        )
        job = TrainingJob(spec)
        rows = [job.advance(), job.advance()]
        numbers = [{k: v for k, v in row.items() if k not in ("seconds", "time")} for row in rows]
        ends.append((numbers, job._key, job.trainer.task.fingerprint(), job.trainer.model.state_dict()))
    assert ends[0][:3] == ends[1][:3]
    assert all(torch.equal(value, ends[1][3][key]) for key, value in ends[0][3].items())


def test_the_task_says_how_to_decode(image_folder: Callable[..., Path], cache: Path) -> None:
    """``task.decode = "each"`` decodes each time and makes no file."""
    config = TaskConfig(size=16, resize=16, decode="each")
    task = open_task("mine", 1.0, config, {"root": str(image_folder())}, "image_folder")
    assert isinstance(task.train.examples, EachTimeImages)
    assert contents(cache) == {}


def test_place_and_size_are_said_once(files: ImageFiles, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Before decoding a line says how many images go where, and how large that is; later none."""
    DecodedImages(files)
    DecodedImages(again(files.root))
    (path,) = cache.glob("*.npy")
    assert [record.message for record in caplog.records] == [f"decoding 10 images once into {path} (0 MB)"]


def test_long_work_says_how_far_it_is(
    files: ImageFiles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While it takes long, lines say how many images are done."""
    monkeypatch.setattr(_decoding, "SAY_EVERY_S", -1.0)
    DecodedImages(files)
    said = [record.message for record in caplog.records][1:]
    assert said == [f"decoded {count} of 10 images" for count in (4, 8, 10)]


def test_the_quick_key_spares_reading(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that have rested are not read again at the next opening."""
    rested(monkeypatch)
    DecodedImages(files)
    monkeypatch.setattr(_decoding, "_digest_of", lambda path: pytest.fail(f"{path} was read"))
    assert again(files.root).content() == files.content()


def test_files_just_written_are_read_again(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files written within the last seconds may change unseen by the clock: no quick key is kept."""
    DecodedImages(files)
    read = list[Path]()
    plain = _decoding._digest_of
    monkeypatch.setattr(_decoding, "_digest_of", lambda path: read.append(path) or plain(path))
    assert again(files.root).content() == files.content()
    assert len(read) == 10


def test_a_change_that_hides_is_seen(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file changed with its size and time put back is another content: the time of its entry tells."""
    rested(monkeypatch)
    first = DecodedImages(files)
    path = files.root / "0003.jpg"
    before = path.stat()
    path.write_bytes((files.root / "0004.jpg").read_bytes().ljust(before.st_size, b"\0")[: before.st_size])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert again(files.root).content() != first.fingerprint()


def test_a_file_that_changes_meanwhile_is_refused(
    files: ImageFiles, write_image: Write, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is exchanged between its key and its decoding is named; nothing is stored."""
    assert files.digests
    write_image(files.root / "0006.jpg", 77)
    with pytest.raises(UserError, match=r"0006\.jpg \(changed while it was read\)"):
        DecodedImages(files)
    assert contents(cache) == {}


def test_a_missing_file(files: ImageFiles) -> None:
    """A file that has gone is one line with its name."""
    (files.root / "0002.jpg").unlink()
    with pytest.raises(UserError, match=r"0002\.jpg cannot be read: No such file"):
        DecodedImages(files)


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fsync"])
def test_a_full_disk(files: ImageFiles, cache: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Where the disk is full, at the start or in the middle, one line says how much is needed and what to do."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(UserError) as caught:
            DecodedImages(files)
    assert "No space left on device" in str(caught.value)
    assert "10 decoded images take 0 MB" in str(caught.value)
    assert "COTUNING_TUNE_CACHE" in str(caught.value)
    assert "--no-cache" in str(caught.value)
    assert contents(cache) == {}
    assert len(DecodedImages(files)) == 10


def test_a_cache_folder_that_cannot_be(files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that cannot be made is one line with its place."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"file/cache: .*COTUNING_TUNE_CACHE"):
        DecodedImages(files)


def interrupted(files: ImageFiles, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin the decoding and break off, as Ctrl-C does, at the block after so many."""
    blocks = []

    def stop(self: object, data: int, done: int, block: int) -> list[str]:
        blocks.append(block)
        if len(blocks) > after:
            raise KeyboardInterrupt
        return make(self, data, done, block)

    make = _decoding._Build._make
    with monkeypatch.context() as patch:
        patch.setattr(_decoding, "cores", lambda: 1)
        patch.setattr(_decoding._Build, "_make", stop)
        with pytest.raises(KeyboardInterrupt):
            DecodedImages(files)


@pytest.mark.parametrize(
    ("spoil", "redone"), [("nothing", 2), ("a finished block", 6), ("the record", 6), ("the length", 10)]
)
def test_finished_blocks_are_not_decoded_again(
    files: ImageFiles, cache: Path, monkeypatch: pytest.MonkeyPatch, spoil: str, redone: int
) -> None:
    """An interrupted decoding goes on from its finished blocks; one whose bytes have not its digest is redone."""
    interrupted(files, 2, monkeypatch)
    (data,), (done,) = cache.glob(".*.building"), cache.glob(".*.done")
    assert not list(cache.glob("[!.]*.npy"))
    if spoil == "a finished block":
        data.write_bytes(data.read_bytes()[:1000] + b"spoilt" + data.read_bytes()[1006:])
    elif spoil == "the record":
        done.write_bytes(done.read_bytes()[:40])
    elif spoil == "the length":
        os.truncate(data, 200)
    decode, seen = ImageFiles.decode, []
    expected = torch.from_numpy(np.stack([decode(files, position) for position in range(10)]))
    monkeypatch.setattr(ImageFiles, "decode", lambda self, *asked: seen.append(asked) or decode(self, *asked))
    images = DecodedImages(again(files.root))
    assert len(seen) == redone
    assert torch.equal(images.take(range(10)), expected)
    assert not list(cache.glob(".*"))


def test_another_host_that_is_first(files: ImageFiles, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts that share the cache may build at once: the later one takes the file that is there, unchanged."""
    publish = _decoding._Build._publish

    def late(self: _decoding._Build) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(_decoding._Build, "_publish", publish)
            other = _decoding._Build(self.files, self.path)
            other.run()
            other.clear()
        first.append(self.path.stat().st_ino)
        publish(self)

    first: list[int] = []
    monkeypatch.setattr(_decoding._Build, "_publish", late)
    assert len(DecodedImages(files)) == 10
    (path,) = cache.glob("*.npy")
    assert [path.stat().st_ino] == first
    assert not list(cache.glob(".*"))


def test_without_links_it_is_renamed(files: ImageFiles, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without links the file gets its name by a rename."""

    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "links are not known here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert len(DecodedImages(files)) == 10
    assert sorted(Path(name).suffix for name in contents(cache)) == [".npy", ".sums"]


def spoil(path: Path, how: str) -> None:
    """What a power cut, a full disk or a hand may do to a file of the cache."""
    if how == "half":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "zeros":
        path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    elif how == "no checksums":
        path.with_name(f"{path.name}.sums").unlink()
    elif how == "a link":
        path.rename(path.with_name("moved"))
        path.symlink_to("moved")


@pytest.mark.parametrize("how", ["half", "empty", "zeros", "no checksums", "a link"])
def test_a_damaged_file_is_made_again(
    files: ImageFiles, cache: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Decoded images that have not their checksums are decoded again, with a line that says so."""
    expected = DecodedImages(files).take(range(10))
    (path,) = cache.glob("*.npy")
    spoil(path, how)
    caplog.clear()
    assert torch.equal(DecodedImages(again(files.root)).take(range(10)), expected)
    assert caplog.records[0].message.startswith(f"{path} is damaged, or its checksums are")
    assert not path.is_symlink()
    caplog.clear()
    assert torch.equal(DecodedImages(again(files.root)).take(range(10)), expected)
    assert not caplog.records


@pytest.mark.parametrize("content", [b"", b"{", b"x" * 32, b"x" * 352])
def test_a_damaged_quick_key_is_made_again(
    files: ImageFiles, cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """A quick key that is torn, or says what nobody vouches for, is not followed."""
    rested(monkeypatch)
    name = files.content()
    (entry,) = cache.glob("*.digests")
    entry.write_bytes(content)
    assert again(files.root).content() == name
    assert again(files.root).content() == name
    assert entry.read_bytes() != content


def test_the_images_are_checked_once_a_process(files: ImageFiles, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened again, an unchanged file is not read again."""
    DecodedImages(files)
    checked = _decoding._has_digests.cache_info().misses
    for _ in range(3):
        DecodedImages(again(files.root))
    assert _decoding._has_digests.cache_info().misses == checked + 1


def test_images_that_are_not_kept_are_checked_once(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded each time they are asked for, all of them are decoded at the first start, and after a change."""
    rested(monkeypatch)
    EachTimeImages(files).check()
    monkeypatch.setattr(ImageFiles, "decode", lambda self, position, digest: f"{position} was decoded")
    EachTimeImages(again(files.root)).check()
    with (files.root / "0003.jpg").open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match=r"10 of 10 images .* cannot be read: 0000.jpg \(0 was decoded\)"):
        EachTimeImages(again(files.root)).check()


def test_an_image_that_changes_between_two_looks(files: ImageFiles) -> None:
    """Its pixels are those of the start, or the training ends: other data are not trained on unseen."""
    images = EachTimeImages(files)
    before = images.take([3])
    (files.root / "0003.jpg").write_bytes((files.root / "0004.jpg").read_bytes())
    with pytest.raises(DataChanged, match=r"^0003.jpg in .* changed since the start: put them back"):
        images.take([2, 3])
    assert before.shape == (1, 3, SIZE, SIZE)
