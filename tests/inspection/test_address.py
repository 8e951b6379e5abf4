"""How the ``data`` commands are told which data set is meant, and what ``list`` and ``prepare`` say."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune import data
from tests.inspection.conftest import SOURCE, Call

DOWNLOAD = """
    fetches = True

    @classmethod
    def download(cls, config):
        from PIL import Image
        root = Path(config.root)
        if root.name == "unreachable":
            raise UserError("example.org does not answer")
        (root / "images").mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (40, 40), (number, 0, 0)).save(root / f"images/{number}.jpg")
        lines = [f"{'train' if n < 6 else 'test'} images/{n}.jpg {n % 2}" for n in range(8)]
        (root / "list.txt").write_text("\\n".join(lines))
        (root / "classes.txt").write_text("wren owl")
"""
EXPERIMENT = """\
[experiment]
tasks = ["other", "mine"]
rates = [0.5]
methods = ["fine_tune"]
backbone = "tiny_cnn"

[task]
val_fraction = 0.25

[data.other]
format = "synthetic"

[data.mine]
format = "image_folder"
root = "pictures"
"""


@pytest.fixture
def experiment(image_folder: Callable[..., Path]) -> Path:
    """An experiment file with a folder of images beside it."""
    path = image_folder().with_name("mine.toml")
    path.write_text(EXPERIMENT)
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify"], ["name a data set", "--experiment FILE"]),
        (["verify", "image_folder", "--experiment", "x.toml"], ["name a data set"]),
        (["verify", "image_foulder"], ["did you mean 'image_folder'", "synthetic"]),
        (["verify", "image_folder"], ["needs its path"]),
        (["verify", "image_folder", "--root", "/none/such"], ["there is no folder /none/such"]),
        (["verify", "synthetic", "--root", "x"], ["unknown key 'root' in [data.synthetic]", "noise"]),
        (["verify", "synthetic", "--set", "noise"], ["KEY=VALUE", "invert=false"]),
        (["verify", "synthetic", "--set", "classes=many"], ["data.synthetic.classes"]),
        (["verify", "--experiment", "/none.toml", "--task", "x"], ["/none.toml cannot be read"]),
        (["describe", "synthetic", "--task", "x"], ["--task", "--experiment"]),
        (["describe", "synthetic", "--rates", "1.5"], ["rate 1.5"]),
        (["describe", "synthetic", "--rates", "0.5", "0"], ["rate 0 "]),
    ],
)
def test_mistakes(call: Call, arguments: list[str], words: list[str]) -> None:
    """Every mistake is one line on standard error that says what is possible, and exit code 2."""
    code, out, err = call("data", *arguments)
    assert (code, out, len(err)) == (2, [], 1), err
    assert [word for word in words if word not in err[0]] == []


def test_experiment(call: Call, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of an experiment file stands for its data set with its options, rates and validation share; what is said
    names it."""
    monkeypatch.chdir(tmp_path)
    arguments = ("--experiment", experiment, "--task", "mine")
    code, out, _ = call("data", "verify", *arguments, "--smallest", 16)
    assert code == 0
    assert out[-1] == "mine: 0 error(s), 0 warning(s) in 16 images"
    code, out, _ = call("data", "describe", *arguments)
    assert (code, out[0]) == (0, "mine: 2 classes")
    assert (tmp_path / "mine.png").is_file()
    assert [line for line in out if "%" in line] == ["| 50 %   |     2 |          2 |"]


def test_first_task_and_unknown_task(call: Call, experiment: Path) -> None:
    """Without --task the first one is meant; an unknown one is refused with the known ones."""
    assert call("data", "verify", "--experiment", experiment)[1][-1].startswith("other: 0 error")
    code, _, err = call("data", "verify", "--experiment", experiment, "--task", "mein")
    assert code == 2
    assert "did you mean 'mine'?" in err[0]


def test_list(call: Call, new_kind: Callable[[str, str], None]) -> None:
    """Every data set has its line: published counts, whether it can be downloaded, what it is."""
    new_kind("listed", SOURCE)
    new_kind("fetched", SOURCE + DOWNLOAD)
    code, out, _ = call("data", "list")
    assert code == 0
    assert [line.split()[0] for line in out] == ["name", *data.names()]
    rows = {line.split()[0]: line.split(maxsplit=6)[1:] for line in out}
    assert rows["listed"] == ["2", "6", "-", "2", "no", "Birds of the tests: a list names the files."]
    assert rows["fetched"][4] == "yes"


def test_prepare_says_what_is_there(call: Call, listed: Path) -> None:
    """A complete folder is said to be complete, with its counts and the size of its files."""
    code, out, _ = call("data", "prepare", "listed", "--root", listed)
    size = sum(path.stat().st_size for path in (listed / "images").iterdir())
    assert code == 0
    assert out == [
        f"listed is complete in {listed}: 2 classes, 6 train images, 2 test images, {size / 1000:.0f} kB",
    ]


def test_prepare_without_download(call: Call, listed: Path, tmp_path: Path) -> None:
    """What cannot be downloaded is explained: the owners' page, the layout, and exit code 2."""
    code, out, err = call("data", "prepare", "listed", "--root", tmp_path / "nowhere")
    assert code == 2
    assert out[0] == "listed comes from https://example.org/birds; its folder must look like this:"
    assert out[1:] == ["DIR/list.txt    split file class", "DIR/images/     the files"]
    assert err == [f"cotuning-tune: {tmp_path / 'nowhere'} has no list.txt"]


def test_prepare_incomplete(call: Call, listed: Path) -> None:
    """An incomplete folder is refused with what it lacks."""
    (listed / "images/3.jpg").unlink()
    (listed / "classes.txt").write_text("wren owl kite")
    code, _, err = call("data", "prepare", "listed", "--root", listed)
    assert code == 2
    assert err == [
        f"cotuning-tune: {listed} is incomplete: 3 classes instead of the published 2;"
        " 1 listed train image(s) missing, as images/3.jpg"
    ]


def test_prepare_downloads_once(call: Call, new_kind: Callable[[str, str], None], tmp_path: Path) -> None:
    """What can be downloaded is fetched once; a second call finds it; a failed download is one line."""
    new_kind("fetched", SOURCE + DOWNLOAD)
    first = call("data", "prepare", "fetched", "--root", tmp_path / "here")
    assert first[0] == 0
    assert "complete" in first[1][0]
    assert call("data", "prepare", "fetched", "--root", tmp_path / "here") == first
    code, out, err = call("data", "prepare", "fetched", "--root", tmp_path / "unreachable")
    assert (code, out, err) == (2, [], ["cotuning-tune: example.org does not answer"])


def test_prepare_what_needs_no_folder(call: Call) -> None:
    """Made-up images need no folder, and it is said so."""
    code, out, _ = call("data", "prepare", "synthetic")
    assert code == 0
    assert out == ["synthetic needs no folder: 4 classes, 48 train images, 48 test images"]
