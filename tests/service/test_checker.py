"""The check of an experiment that somebody else has written: bounded in time, and with data of the service's alone."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cotuning_tune.service.checker import Checker
from cotuning_tune.service.problems import NotReady, Problem

SPACES = Path(__file__).parents[2] / "search_spaces"
PHOTOS = """
[experiment]
tasks = ["photos"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
[data.photos]
format = "image_folder"
root = "{root}"
"""


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    (root / "photos").mkdir()
    (root / "inside").symlink_to("photos")
    (root / "outside").symlink_to("/etc")
    return root


@pytest.fixture(scope="module")
def checker(roots: Path) -> Iterator[Checker]:
    return Checker((roots.resolve(),))


def test_it_counts_what_a_run_takes(checker: Checker) -> None:
    found = checker.check((SPACES / "tiny.toml").read_text(), "tiny")
    assert (found.trials, found.cpus, found.gpus) == (
        4,
        1.0,
        found.content["gpu_per_trial"] or 0.01,
    )
    assert found.content["trainings"] >= len(found.content["studies"]) * found.trials


def test_a_mistake_has_its_line_and_key(checker: Checker) -> None:
    text = '[experiment]\ntasks = ["synthetic"]\nmethods = ["fine_tun"]\nbackbone = "tiny_cnn"\n'
    with pytest.raises(Problem, match="did you mean 'fine_tune'") as raised:
        checker.check(text, "a")
    assert raised.value.content() | {"detail": ""} == {
        "type": "about:blank",
        "title": "The request cannot be carried out",
        "status": 422,
        "detail": "",
        "cure": "",
        "key": "experiment.methods",
        "line": 3,
    }


@pytest.mark.parametrize("root", ["photos", "inside", "./photos", "photos/../photos"])
def test_data_of_the_service_are_taken(checker: Checker, roots: Path, root: str) -> None:
    found = checker.check(PHOTOS.format(root=root), "a")
    assert f'root = "{roots.resolve() / "photos"}"' in found.text


@pytest.mark.parametrize(
    "root",
    ["/etc", "..", "../..", "photos/../..", "outside", "outside/ssl", "/", "~/", "/proc/self/cwd", "inside/../../x"],
)
def test_other_folders_are_refused(checker: Checker, root: str) -> None:
    with pytest.raises(Problem, match="the data of this service lie below") as raised:
        checker.check(PHOTOS.format(root=root), "a")
    assert raised.value.key == "data.photos.root"


@pytest.mark.parametrize(
    "key", ['weights = "/etc/passwd.pth"', 'source_val = "/etc"', 'weights = "../secret.safetensors"']
)
def test_other_files_are_refused(checker: Checker, key: str) -> None:
    text = PHOTOS.format(root="photos").replace('backbone = "tiny_cnn"', f'backbone = "tiny_cnn"\n{key}')
    with pytest.raises(Problem, match="the data of this service lie below"):
        checker.check(text, "a")


def test_folders_of_texts_models_are_refused(checker: Checker) -> None:
    text = (SPACES / "tiny_ner.toml").read_text()
    with pytest.raises(Problem, match="the data of this service lie below"):
        checker.check(re.sub('backbone = ".*"', 'backbone = "hf//etc"', text), "a")


def test_commands_are_refused(checker: Checker) -> None:
    text = PHOTOS.format(root="photos").replace("backbone =", 'on_end = "reboot"\nbackbone =')
    with pytest.raises(Problem, match="on_end is a command"):
        checker.check(text, "a")


@pytest.mark.parametrize(
    "text", ["[" * 30000, ".".join("a" * 30000) + " = 1", "x = " + "[" * 20000, "a" * 60000, "\0", "x = {" * 9000]
)
def test_what_is_made_to_take_long_is_refused(checker: Checker, text: str) -> None:
    with pytest.raises((Problem, NotReady)):
        checker.check(text, "a")


def test_without_roots_no_folder_is_read() -> None:
    with pytest.raises(Problem, match="reads no folders of data"):
        Checker(()).check(PHOTOS.format(root="/etc"), "a")
