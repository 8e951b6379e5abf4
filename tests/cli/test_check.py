"""``check`` and ``run --dry-run``: all that could fail, in one list; ``--set`` changes an experiment's text."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune import cli
from cotuning_tune.plan.inventory import free_memory
from tests.cli.test_cli import EXPERIMENT, TINY, check_one_line, replace

Call = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def experiment(tmp_path: Path, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A valid experiment file with a folder of images beside it; runs would go beside it too."""
    image_folder(count=6)
    path = tmp_path / "mine.toml"
    path.write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    return path


def states(out: list[str]) -> dict[str, list[str]]:
    """The lines of a check by their state."""
    return {state: [line for line in out if line.startswith(state)] for state in ("ok", "problem", "warning")}


def test_nothing_wrong(call: Call, experiment: Path) -> None:
    """Each thing has its line, nothing is a problem, and nothing is made."""
    code, out, _ = call("check", experiment, "--no-probe")
    found = states(out)
    assert (code, found["problem"]) == (0, [])
    wanted = ("file", "data mine", "backbone tiny_cnn", "method fine_tune", "images of mine", "storage", "studies")
    assert [what for what in wanted if not any(line[9:].startswith(what) for line in found["ok"])] == []
    assert not (experiment.parent / "runs").exists()


def test_every_problem_is_listed(call: Call, experiment: Path) -> None:
    """A broken image, one in two splits, a closed place and a database that is away: four lines, exit code 2."""
    train = experiment.parent / "pictures" / "train"
    (train / "a" / "0.jpg").write_bytes(b"x")
    (experiment.parent / "pictures" / "test" / "b" / "1.jpg").write_bytes((train / "b" / "2.jpg").read_bytes())
    place = experiment.parent / "taken"
    place.touch()
    url = "postgresql://me:secret@127.0.0.1:1/none"
    code, out, err = call("check", experiment, "--no-probe", "--storage", place / "runs", "--optuna-storage", url)
    wrong = "\n".join(states(out)["problem"])
    assert code == 2
    words = ("train/a/0.jpg", "test/b/1.jpg", "is not a folder", "storage of the studies")
    assert [word for word in words if word not in wrong] == []
    assert "secret" not in "\n".join([*out, *err])
    assert len(states(out)["problem"]) == len(set(states(out)["problem"]))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"pictures"', '"nowhere"', "there is no folder"),
        ('backbone = "tiny_cnn"', 'backbone = "vit_b_32"\nweights = "random"', "cannot take images of task.size = 8"),
        ('backbone = "tiny_cnn"', 'backbone = "tiny_cnn"\nweights = "w.pth"', "weights"),
    ],
)
def test_one_mistake_is_said_once(call: Call, experiment: Path, old: str, new: str, words: str) -> None:
    """What one mistake brings about in several checks is one problem."""
    replace(experiment, old, new)
    code, out, _ = call("check", experiment, "--no-probe")
    (line,) = states(out)["problem"]
    assert code == 2
    assert words in line


def test_a_wrong_file_is_a_problem(call: Call, experiment: Path) -> None:
    """A file that cannot be read as an experiment is the one problem."""
    replace(experiment, "trials", "trails")
    code, out, _ = call("check", experiment)
    assert (code, len(out)) == (2, 1)
    assert out[0].startswith("problem  file: ")
    assert "'trials'" in out[0]


def test_another_run_is_in_the_way(call: Call, experiment: Path) -> None:
    """A folder that holds the run of another experiment is a problem, that of this one a warning."""
    run = experiment.parent / "runs" / "mine"
    (run / "studies").mkdir(parents=True)
    (run / "experiment.toml").write_text(EXPERIMENT + "\n")
    code, out, _ = call("check", experiment, "--no-probe")
    (line,) = states(out)["problem"]
    assert code == 2
    assert "a different experiment file" in line


def test_a_dry_run_plans_checks_and_starts_nothing(call: Call, experiment: Path) -> None:
    """``run --dry-run`` prints the plan of the changed experiment, and what check finds."""
    code, out, _ = call("run", experiment, "--dry-run", "--no-probe", "--set", "experiment.seeds=[0]")
    assert code == 0
    assert "- trainings: 1 studies x (2 trials + 2 on another split + 1 retrained) = 5" in out
    assert "ok       method fine_tune" in out
    assert not (experiment.parent / "runs").exists()


@pytest.mark.parametrize("command", [["run", "--dry-run"], ["check"]])
def test_without_the_cache(call: Call, experiment: Path, command: list[str]) -> None:
    """``--no-cache`` counts no room for it; else 24 images of 8 by 8 pixels."""
    for more, needed in (((), "4.6 kB"), (("--no-cache",), "0 B")):
        _, out, _ = call(*command, experiment, "--no-probe", *more)
        assert [line for line in out if line.startswith(f"ok       image cache: {needed} needed")] != [], out


def test_memory_that_is_not_there(call: Call, experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that need more memory than is free are a problem with its cure."""
    monkeypatch.setattr("cotuning_tune.pipeline.check.free_memory", lambda: 1000)
    code, out, _ = call("check", experiment)
    (line,) = states(out)["problem"]
    assert code == 2
    assert line.startswith("problem  memory: ")
    assert "train.batch_size" in line


def test_free_memory_is_told() -> None:
    """On a Linux machine it is more than nothing."""
    assert free_memory() > 0 or not Path("/proc/meminfo").exists()


def test_set_changes_the_text_that_a_run_keeps(experiment: Path) -> None:
    """Values are TOML, or a word; comments stay; a key in quotes and a range's end can be named."""
    experiment.write_text(f"# mine\n{EXPERIMENT}  # narrow\n")
    pairs = ["experiment.sampler=qmc", "train.optim.lr.low=2e-3", 'data."mine".split_seed=3', "methods.fine_tune={}"]
    words = ["run", str(experiment), *(word for pair in pairs for word in ("--set", pair))]
    request = cli._running.request_of(cli.make_parser().parse_args(words))
    found = request.experiment
    tables = tomllib.loads(found.text)
    assert found.config.sampler == tables["experiment"]["sampler"] == "qmc"
    assert found.train["optim/lr"].extremes == (2e-3, 1e-2)
    assert tables["data"]["mine"] == {"format": "image_folder", "root": "pictures", "split_seed": 3}
    assert [word for word in ("# mine", "# narrow") if word not in found.text] == []


def test_the_end_of_a_key_is_enough(experiment: Path) -> None:
    """A key is known by its end where no other ends so, also of a table that the file does not have."""
    pairs = ["trials=7", "optim.weight_decay=0.5", "gpu_per_trial=0", "test_fraction=0.5"]
    words = ["run", str(experiment), *(word for pair in pairs for word in ("--set", pair))]
    changed = cli._running.request_of(cli.make_parser().parse_args(words)).experiment
    tables = tomllib.loads(changed.text)
    assert (changed.config.trials, tables["train"]["optim"]["weight_decay"]) == (7, 0.5)
    assert (tables["resources"]["gpu_per_trial"], tables["data"]["mine"]["test_fraction"]) == (0, 0.5)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("weight=1", ["--set weight can be ", " keys: say which, as methods."]),
        ("trails=1", ["--set trails", "unknown table 'trails'"]),
        ("train.epoch_s=1", ["--set train.epoch_s", "'epoch_s'", "epochs"]),
        ("train.epochs.x=1", ["--set train.epochs.x", "there is a value", "3"]),
        ("foo.bar=1", ["--set foo.bar", "'foo'", "experiment"]),
        ("train.optim.lr.low=2", ["--set train.optim.lr.low", "is not below high"]),
        ("train.epochs=many", ["--set train.epochs", "'many'", "a whole number"]),
        ("a b=3", ["--set a b", "a dotted key"]),
        ("train.epochs", ["--set train.epochs", "KEY=VALUE"]),
    ],
)
@pytest.mark.parametrize("command", ["run", "search", "plan"])
def test_mistakes_of_set(call: Call, command: str, pair: str, words: list[str]) -> None:
    """A key that there is not, or a value that it does not take, is one line that names it."""
    check_one_line(call(command, TINY, "--set", pair), words)
