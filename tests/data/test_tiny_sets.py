"""Sets of very few images: they are trained on, or refused in one line by every command, before anything runs."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.data import ArrayImages, Listing, Task, TaskConfig
from cotuning_tune.data.images.synthetic import Synthetic
from cotuning_tune.experiment import read_experiment
from cotuning_tune.search.checks import check_studies
from tests.data.test_data_sets import make

Call = Callable[..., tuple[int, list[str], list[str]]]
Counts = Mapping[str, Mapping[str, int]]  # images by split ("" where there are none) and class
METHODS = ("fine_tune", "l2_sp", "delta", "bss", "co_tuning")
TEXT = """
[experiment]
tasks = ["t"]
methods = {methods}
rates = [{rate}]
backbone = "tiny_cnn"
trials = 1
[task]
size = 16
resize = 16
[train]
epochs = 1
[data.t]
"""
MORE = "every class has a single training image: give more images"
EMPTY = "its validation split is empty: fill it, or remove it to have one split off the training split"


@pytest.fixture(params=["image_folder", "csv_list"])
def experiment(request: pytest.FixtureRequest, tmp_path: Path, write_image: Callable[..., Path]) -> Callable[..., Path]:
    """``experiment(counts, rate)`` writes a set of so many images, as a folder or as a list, and a file for it."""

    def write(counts: Counts, rate: float = 1.0) -> Path:
        rows = ["path,label,split" if any(counts) else "path,label"]
        for split, classes in counts.items():
            (tmp_path / "data" / split).mkdir(parents=True, exist_ok=True)
            for label, count in classes.items():
                (tmp_path / "data" / split / label).mkdir(exist_ok=True)
                for _ in range(count):
                    name = str(Path(split, label, f"{len(rows)}.png"))
                    write_image(tmp_path / "data" / name, len(rows))
                    rows.append(",".join([name, label, *filter(None, [split])]))
        (tmp_path / "data" / "list.csv").write_text("\n".join(rows) + "\n")
        where = {"image_folder": 'root = "data"', "csv_list": 'file = "data/list.csv"'}[request.param]
        path = tmp_path / "exp.toml"
        text = TEXT.format(methods=json.dumps(METHODS), rate=rate)
        path.write_text(f'{text}format = "{request.param}"\n{where}\n')
        return path

    return write


def said(path: Path, call: Call) -> dict[str, tuple[int, str]]:
    """Exit code and the only line on standard error by command; of a run what is checked before it."""
    commands = {
        "verify": ["data", "verify", "--experiment", path, "--smallest", 1],
        "describe": ["data", "describe", "--experiment", path, "--sheet", path.parent / "sheet.png"],
        "train": ["train", path, "--method", "fine_tune"],
        "plan": ["plan", path, "--no-probe"],
    }
    found = {}
    for name, words in commands.items():
        code, _, errors = call(*words)
        assert len(errors) <= 1, name
        found[name] = code, "".join(errors).removeprefix("cotuning-tune: ")
    try:
        check_studies(read_experiment(path))
        found["run"] = 0, ""
    except UserError as problem:
        found["run"] = 2, str(problem)
    return found


@pytest.mark.parametrize(
    ("counts", "verified", "why"),
    [
        ({"": {"a": 1, "b": 1}}, 1, MORE),
        ({"": {"a": 2, "b": 2}}, 1, MORE),
        ({"": dict.fromkeys("abcdefgh", 1)}, 1, MORE),
        ({"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}}, 1, MORE),
    ],
    ids=["two images", "two a class", "one a class", "one a class of training"],
)
def test_no_image_for_validation(
    counts: Counts, verified: int, why: str, experiment: Callable[..., Path], call: Call
) -> None:
    """Every command that trains refuses it with one line; ``data verify`` has it among its errors."""
    found = said(experiment(counts), call)
    line = f"t at 100 %: there is no image for validation, {why}"
    assert found == {"verify": (1, ""), "describe": (0, "")} | dict.fromkeys(("train", "plan", "run"), (2, line))


def test_verify_names_what_validation_lacks(experiment: Callable[..., Path], call: Call) -> None:
    """Two images of a class are one to train on and one to test: none is left."""
    path = experiment({"": {"a": 2, "b": 2}})
    _, out, _ = call("data", "verify", "--experiment", path, "--smallest", 1)
    assert out[-3:-1] == ["no image for validation (error): 1", f"  train: {MORE}"]


def test_a_rate_that_leaves_nothing(experiment: Callable[..., Path], call: Call) -> None:
    """The data are well; the rate is named, with a higher one as a way out."""
    found = said(experiment({"": {"a": 6, "b": 6}}, 0.1), call)
    line = f"t at 10 %: there is no image for validation, {MORE} or a higher rate"
    assert found == {"verify": (0, ""), "describe": (0, "")} | dict.fromkeys(("train", "plan", "run"), (2, line))


@pytest.mark.parametrize(
    "counts",
    [
        {"": {"a": 3, "b": 1}},
        {"": {"a": 3, "b": 3}},
        {"": {**dict.fromkeys("abcdefgh", 1), "z": 3}},
        {"train": {"a": 2, "b": 1}, "test": {"a": 1, "b": 1}},
        {"train": {"a": 1, "b": 1}, "val": {"a": 1}, "test": {"a": 1, "b": 1}},
    ],
    ids=["one image to judge by", "three a class", "more classes than other images", "one class alone", "own split"],
)
def test_the_smallest_that_can_be_trained_on(counts: Counts, experiment: Callable[..., Path], call: Call) -> None:
    """Every method trains on it; a class without a test image is an error of ``data verify`` all the same."""
    path = experiment(counts)
    assert check_studies(read_experiment(path))
    assert [call("train", path, "--method", method)[0] for method in METHODS] == [0] * len(METHODS)
    assert call("plan", path, "--no-probe")[0] == 0
    lacking = "" in counts and min(counts[""].values()) < 2
    assert call("data", "verify", "--experiment", path, "--smallest", 1)[0] == lacking


@pytest.mark.parametrize(
    ("counts", "folder", "table"),
    [
        ({"": {}}, "data holds 0 class folder(s); two or more are needed", "0 class(es); two or more are needed"),
        ({"": {"a": 5}}, "data holds 1 class folder(s); two or more are needed", "1 class(es); two or more are needed"),
        (
            {"train": {}, "test": {"a": 1, "b": 1}},
            "data/train holds 0 class folder(s); two or more are needed",
            "no row of the train split",
        ),
        (
            {"train": {"a": 3, "b": 3}, "test": {}},
            "data/test has no folder of the class 'a'",
            "no row of the test split",
        ),
        (
            {"train": {"a": 3, "b": 0}, "test": {"a": 1, "b": 1}},
            "class folder {}/data/train/b holds no image (it is empty)",
            "no training image of class 'b'",
        ),
    ],
    ids=["nothing", "one class", "no training split", "no test split", "no training image of a class"],
)
def test_what_is_no_task(
    counts: Counts, folder: str, table: str, experiment: Callable[..., Path], call: Call, tmp_path: Path
) -> None:
    """The same line from every command; ``plan`` says why it asks."""
    path = experiment(counts)
    folder = folder.format(tmp_path) if "{}" in folder else f"{tmp_path}/{folder}"
    line = folder if "image_folder" in path.read_text() else f"{tmp_path}/data/list.csv has {table}"
    planned = f"t: its size is not known, because it cannot be read: {line}"
    assert said(path, call) == dict.fromkeys(("verify", "describe", "train", "run"), (2, line)) | {"plan": (2, planned)}


def test_an_empty_validation_folder(image_folder: Callable[..., Path], call: Call, tmp_path: Path) -> None:
    """It is not taken for one that is not there: the line says that it may be removed."""
    root = image_folder()
    (root / "val").mkdir()
    path = tmp_path / "exp.toml"
    path.write_text(
        f'{TEXT.format(methods=json.dumps(METHODS), rate=1)}format = "image_folder"\nroot = {json.dumps(str(root))}\n'
    )
    found = said(path, call)
    line = f"t at 100 %: there is no image for validation, {EMPTY}"
    assert found == {"verify": (1, ""), "describe": (0, "")} | dict.fromkeys(("train", "plan", "run"), (2, line))


def test_sets_of_your_own_make() -> None:
    """A data set that gives no training image is one line, whatever it gives for validation."""

    class Nothing(Synthetic):
        """Has a validation split alone."""

        def val(self) -> Listing:
            return self._draw(3)

        def train(self) -> Listing:
            return Listing([], [], ArrayImages(self._draw(1).examples.pixels_N3SS[:0]))  # type: ignore[attr-defined]

    with pytest.raises(UserError, match=r"^mine: there is no training image$"):
        Task("mine", Nothing(Synthetic.Config(), 8), 1.0, TaskConfig(size=8, resize=8))


def test_no_test_image_is_seen_before(image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What gives an empty test split is refused by the check before a search."""
    found = make("image_folder", root=str(image_folder()))
    monkeypatch.setattr(found, "files", lambda split: type(found).files(found, split).some([]))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"^ImageFolder has no test image$"):
        found.check()
