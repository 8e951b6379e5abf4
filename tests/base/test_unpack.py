"""Archives that are unpacked once into the cache: whole or not at all, and nothing outside of it."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune.base import unpack
from cotuning_tune.base.cache import cache_root
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.unpack import Target, unpack_zip, unpacked

Parts = dict[str | zipfile.ZipInfo, bytes]


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """``pack(parts)`` writes a zip archive."""

    def write(parts: Parts, packing: int = zipfile.ZIP_STORED) -> Path:
        with zipfile.ZipFile(tmp_path / "my photos.zip", "w", packing) as archive:
            for name, data in parts.items():
                archive.writestr(name, data)
        return tmp_path / "my photos.zip"

    return write


def left() -> list[str]:
    """What lies in the folder of what is unpacked."""
    folder = cache_root() / "unpacked"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_once(pack: Callable[..., Path], tmp_path: Path) -> None:
    """Unpacked at the first call; a lost file or a changed archive makes it anew; the folder has the archive's name."""
    archive = pack({"a/1.jpg": b"one", "b\\2.jpg": b"two", "empty/": b""})
    found = unpack_zip(archive)
    assert ((found.root / "a/1.jpg").read_bytes(), (found.root / "b/2.jpg").read_bytes()) == (b"one", b"two")
    (found.root / "a/1.jpg").write_bytes(b"ONE")
    assert unpack_zip(archive) == found
    assert (found.root / "a/1.jpg").read_bytes() == b"ONE", "it was unpacked twice"
    (found.root / "a/1.jpg").unlink()
    assert (unpack_zip(archive).root / "a/1.jpg").read_bytes() == b"one"
    assert [name.partition("-")[0] for name in left()] == ["my_photos.zip"]
    assert unpack_zip(pack({"a/1.jpg": b"other"})).root != found.root


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil.jpg", r"leads out of it"),
        ("a/../../evil.jpg", r"leads out of it"),
        ("/evil.jpg", r"leads out of it"),
        ("..\\evil.jpg", r"leads out of it"),
        ("a/1.jpg", r"two files of it are called a/1\.jpg"),
        ("a/1.jpg/2.jpg", r"two files of it are called a/1\.jpg/2\.jpg"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_cannot_be(tmp_path: Path, name: str, words: str) -> None:
    """One that leads out and one that is there already are refused, and nothing is left."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/1.jpg", b"one")
        archive.writestr(name, b"evil")
    with pytest.raises(UserError, match=words) as caught:
        unpack_zip(tmp_path / "x.zip")
    assert str(tmp_path / "x.zip") in str(caught.value)
    assert left() == []
    assert list(tmp_path.rglob("evil.jpg")) == []


def test_links_are_not_made(pack: Callable[..., Path]) -> None:
    """A link in an archive is named in the record."""
    link = zipfile.ZipInfo("a/passwd.jpg")
    link.external_attr = 0o120777 << 16
    found = unpack_zip(pack({link: b"/etc/passwd", "a/1.jpg": b"one"}))
    assert found.record == ["a/passwd.jpg"]
    assert [path.name for path in (found.root / "a").iterdir()] == ["1.jpg"]


def test_a_bomb(pack: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that grows out of all proportion, or beyond the room there is, is refused; nothing is left."""
    archive = pack({"a.bmp": bytes(1 << 21)}, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(unpack, "SPARE", 1 << 10)
    with pytest.raises(UserError, match=r"my photos\.zip would unpack to more than .* no archive of images grows so"):
        unpack_zip(archive)
    monkeypatch.setattr(unpack, "SPARE", 1 << 30)
    monkeypatch.setattr(unpack, "KEPT_FREE", shutil.disk_usage(archive).total)
    with pytest.raises(UserError, match=r"takes more room than there is in .*set COTUNING_TUNE_CACHE"):
        unpack_zip(archive)
    assert left() == []


def test_damaged(pack: Callable[..., Path], tmp_path: Path) -> None:
    """Half an archive, a wrong checksum, an encrypted part and no archive at all are one line."""
    whole = pack({"a.jpg": b"one" * 1000}).read_bytes()
    encrypted = bytearray(whole)
    encrypted[6] |= 1
    encrypted[whole.index(b"PK\x01\x02") + 8] |= 1
    cases = {b"": "cannot be unpacked", whole[:2000]: "cannot be unpacked", whole.replace(b"neo", b"nEo", 1): "CRC"}
    for data, words in (cases | {bytes(encrypted): "a.jpg is encrypted"}).items():
        (tmp_path / "bad.zip").write_bytes(data)
        with pytest.raises(UserError, match=words) as caught:
            unpack_zip(tmp_path / "bad.zip")
        assert str(caught.value).startswith(str(tmp_path / "bad.zip"))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"none\.zip cannot be read: it is not a file"):
        unpack_zip(tmp_path / "none.zip")
    assert left() == []


def test_what_a_killed_one_left_is_cleared(pack: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that was being filled does not count, and goes when it is made again."""
    archive = pack({"a.jpg": b"one"})

    def half(target: Target) -> None:
        target.add("a.jpg", b"o")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            unpacked("zip", archive, [archive], None, half)
    assert len(left()) == 1
    assert (unpack_zip(archive).root / "a.jpg").read_bytes() == b"one"
    assert len(left()) == 1
    assert not left()[0].startswith(".")


def test_processes_that_start_together(pack: Callable[..., Path]) -> None:
    """One unpacks, the others wait for it and take what it made."""
    archive = pack({f"{n}.jpg": bytes(1 << 16) for n in range(200)})
    script = "import sys; from pathlib import Path; from cotuning_tune.base.unpack import unpack_zip"
    script += "; print(unpack_zip(Path(sys.argv[1])).root)"
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(archive)], stdout=-1, stderr=-1, text=True)
        for _ in range(3)
    ]
    told = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], told
    assert len({out for out, _ in told}) == 1
    assert sum("unpacking" in problems for _, problems in told) == 1
    assert len(left()) == 1
