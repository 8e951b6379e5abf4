"""The command line without Ray: every mistake is one line and exit code 2, and help comes fast."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune import __version__, cli
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.runs.lock import driver_lock

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "search_spaces" / "tiny.toml")
HEAVY = "{'torch', 'torchvision', 'ray', 'optuna', 'numpy', 'PIL', 'tensorboard'}"
EXPERIMENT = """\
[experiment]
tasks = ["mine"]
methods = ["fine_tune"]
backbone = "tiny_cnn"
trials = 2

[task]
size = 8
resize = 8

[data.mine]
format = "image_folder"
root = "pictures"

[train]
epochs = 1

[train.optim]
lr = { low = 1e-3, high = 1e-2, log = true }
"""

Call = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def experiment(tmp_path: Path, image_folder: Callable[..., Path]) -> Path:
    """A valid experiment file with a folder of images beside it."""
    image_folder()
    path = tmp_path / "mine.toml"
    path.write_text(EXPERIMENT)
    return path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def check_one_line(answer: tuple[int, list[str], list[str]], words: list[str]) -> None:
    """Exit code 2, nothing done, and one line on standard error that holds all the words."""
    code, out, err = answer
    assert (code, out, len(err)) == (2, [], 1), err
    assert err[0].startswith("cotuning-tune: ")
    assert [word for word in words if word not in err[0]] == []


def spoil_text(old: str, new: str) -> Callable[[Path], None]:
    return lambda path: replace(path, old, new)


def spoil_file(name: str, content: bytes | None) -> Callable[[Path], None]:
    """Overwrite an image, or take it away."""

    def spoil(path: Path) -> None:
        target = path.parent / "pictures" / name
        target.unlink() if content is None else target.write_bytes(content)

    return spoil


def empty_class(path: Path) -> None:
    for image in (path.parent / "pictures" / "train" / "b").iterdir():
        image.rename(image.with_suffix(".txt"))


MISTAKES = {
    "typo": (
        spoil_text("trials", "trails"),
        ["mine.toml line 5", "'trails'", "'trials'", "backbone, backbones, hours"],
    ),
    "no data folder": (spoil_text('"pictures"', '"nowhere"'), ["nowhere"]),
    "empty class": (empty_class, ["train/b", "holds no image"]),
    "corrupt image": (spoil_file("train/b/1.jpg", b"x"), ["1 of 8", "train/b/1.jpg"]),
    "no seeds": (spoil_text("trials = 2", "seeds = []"), ["mine.toml line 5", "seeds is empty"]),
    "rate 0": (spoil_text("trials = 2", "rates = [0]"), ["mine.toml line 5", "above 0"]),
    "rate 1.5": (spoil_text("trials = 2", "rates = [1.5]"), ["mine.toml line 5", "1.5"]),
    "method": (spoil_text('"fine_tune"', '"fine_tun"'), ["line 3", "'fine_tun'", "'fine_tune'", "co_tuning"]),
    "backbone": (spoil_text('"tiny_cnn"', '"resnet51"'), ["line 4", "'resnet51'", "resnet5", "tiny_cnn"]),
    "data set": (spoil_text('"image_folder"', '"folder"'), ["line 12", "'folder'", "image_folder"]),
    "broken TOML": (spoil_text("trials = 2", "trials = = 2"), ["mine.toml", "line 5"]),
    "unknown table": (spoil_text("[train]", "[trian]"), ["line 15", "'trian'", "'train'"]),
    "wrong type": (spoil_text("trials = 2", 'trials = "many"'), ["line 5", "'many'", "a whole number"]),
    "low > high": (spoil_text("high = 1e-2", "high = 1e-4"), ["line 19", "train.optim.lr", "below"]),
    "log from 0": (spoil_text("low = 1e-3", "low = 0"), ["line 19", "train.optim.lr", "low > 0"]),
    "tracker": (
        spoil_text("trials = 2", 'track = ["mlfow"]'),
        ["mine.toml line 5", "'mlfow'", "mlflow, trackio, wandb"],
    ),
    "no weights": (spoil_text("trials = 2", 'weights = "w.pth"'), ["weights"]),
}


@pytest.mark.parametrize("command", ["train", "run"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(call: Call, experiment: Path, command: str, mistake: str) -> None:
    """A mistake in file or data gives exit code 2 and one line, and no run is left behind."""
    spoil, words = MISTAKES[mistake]
    spoil(experiment)
    runs = experiment.parent / "runs"
    options = ["--method", "fine_tune"] if command == "train" else ["--storage", runs]
    check_one_line(call(command, experiment, *options), words)
    assert not runs.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "bsss"], ["'bsss'", "'bss'", "fine_tune"]),
        (["--method", "bss", "--task", "synthetics"], ["'synthetics'", "'synthetic'"]),
        (["--method", "bss", "--rate", "0"], ["rate 0", "above 0"]),
        (["--method", "bss", "--rate", "1.5"], ["rate 1.5", "at most 1"]),
        (["--method", "bss", "--set", "optim/rl=1"], ["'optim/rl'", "'optim/lr'", "bss/weight"]),
        (["--method", "bss", "--set", "co_tuning/weight=1"], ["'co_tuning/weight'", "bss/weight"]),
        (["--method", "bss", "--set", "optim/lr"], ["optim/lr", "KEY=VALUE"]),
        (["--method", "bss", "--set", "optim/lr=fast"], ["train.optim.lr", "'fast'", "a number"]),
        (["--method", "bss", "--set", "epochs=0"], ["train.epochs", "at least 1"]),
    ],
)
def test_mistakes_of_train(call: Call, options: list[str], words: list[str]) -> None:
    """A mistake among the options of ``train`` gives exit code 2 and one line."""
    check_one_line(call("train", TINY, *options), words)


@pytest.mark.parametrize("command", ["report", "status", "resume", "retrain", "tensorboard"])
def test_no_run(call: Call, tmp_path: Path, command: str) -> None:
    """A folder that holds no run is refused in one line by every command that needs one."""
    check_one_line(call(command, tmp_path), [str(tmp_path), "no run"])


@pytest.mark.parametrize("command", ["train", "run", "search"])
def test_no_experiment_file(call: Call, command: str) -> None:
    """An experiment file that is not there is named in one line."""
    options = ["--method", "bss"] if command == "train" else []
    check_one_line(call(command, "no/such.toml", *options), ["no/such.toml", "cannot be read"])


def test_unknown_method(call: Call) -> None:
    """The space of a method that does not exist is refused with those that do."""
    check_one_line(call("space", "delat"), ["'delat'", "'delta'", "bss"])


def test_a_valid_experiment_trains(call: Call, experiment: Path) -> None:
    """The experiment that the mistakes above are made in trains as it stands."""
    code, out, err = call("train", experiment, "--method", "fine_tune")
    assert (code, err, len(out)) == (0, [], 2)


def test_without_cache(call: Call, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--no-cache`` prints the same training, and stores no image."""
    monkeypatch.setenv("COTUNING_TUNE_CACHE", str(tmp_path / "cache"))
    found = call("train", experiment, "--method", "fine_tune", "--no-cache")
    assert not list((tmp_path / "cache").rglob("*.npy"))
    assert found == call("train", experiment, "--method", "fine_tune")
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 1
    assert found[0] == 0


def test_ten_crop_is_kept_by_the_run(tmp_path: Path) -> None:
    """``run --ten-crop`` writes the key into the run's own experiment file: a resume tests the same way."""
    from cotuning_tune.search.driver import load_experiment

    options = cli.make_parser().parse_args(["run", TINY, "--ten-crop", "--storage", str(tmp_path), "--name", "ten"])
    request = cli._running.request_of(options)
    experiment, (run, _) = request.experiment, request.opened()
    assert experiment.config.test_crops == load_experiment(run).config.test_crops == "ten"
    assert (run.name, experiment.name) == ("ten", "ten")


@pytest.mark.parametrize("given", ["", 'test_crops = "centre"\n', 'test_crops = "ten"\n'])
def test_ten_crop_changes_one_key(experiment: Path, given: str) -> None:
    """``--ten-crop`` changes one thing of an experiment, whatever its file says: how test images are looked at."""
    from cotuning_tune.experiment import read_experiment

    experiment.write_text(EXPERIMENT.replace("[experiment]\n", f"[experiment]\n{given}"))
    plain, options = read_experiment(experiment), cli.make_parser().parse_args(["run", "x", "--ten-crop"])
    changed = cli._options.with_options(plain, options)
    assert changed.config == dataclasses.replace(plain.config, test_crops="ten")
    assert (changed.train, changed.methods, changed.task) == (plain.train, plain.methods, plain.task)


@pytest.mark.parametrize("given", ["", 'experiment.test_crops = "centre"\n'])
def test_options_reach_dotted_keys(experiment: Path, given: str, tmp_path: Path) -> None:
    """Options change an experiment that is written in dotted keys, without a table's header."""
    from cotuning_tune.experiment import read_experiment

    head, rest = EXPERIMENT.split("[experiment]\n")[1].split("\n[", 1)
    keys = "".join(f"experiment.{line}\n" for line in head.splitlines() if line)
    experiment.write_text(f"{given}{keys}[{rest}")
    words = ["run", "x", "--ten-crop", "--source-val", str(tmp_path), "--source-val-images", "9"]
    plain, options = read_experiment(experiment), cli.make_parser().parse_args(words)
    changed = cli._options.with_options(plain, options)
    wanted = {"test_crops": "ten", "source_val": str(tmp_path), "source_val_images": 9}
    assert changed.config == dataclasses.replace(plain.config, **wanted)


def test_train(call: Call) -> None:
    """``train`` shows each epoch's loss and validation accuracy, and that of the kept epoch last."""
    code, out, err = call("train", TINY, "--method", "bss", "--seed", 3)
    assert (code, err) == (0, [])
    assert [line.split()[:3] for line in out[:-1]] == [["epoch", f"{n}/3", "loss"] for n in (1, 2, 3)]
    accuracies = [float(line.split()[-2]) for line in out[:-1]]
    assert out[-1] == f"validation accuracy {accuracies[-1]:.2f} % in epoch 3 (synthetic-1.00-bss, seed 3)"


def test_set(call: Call) -> None:
    """``--set`` changes a hyper-parameter of the training or of the method."""
    shown = [
        call("train", TINY, "--method", "bss", "--set", "epochs=1", *more)[1]
        for more in ([], ["--set", "optim/lr=0.002"], ["--set", "bss/weight=0.1"], ["--set", "optim/lr=1e-3"])
    ]
    assert [len(lines) for lines in shown] == [2, 2, 2, 2]
    assert shown[0] == shown[3]
    assert len({lines[0] for lines in shown[:3]}) == 3


def test_train_goes_on(call: Call, tmp_path: Path) -> None:
    """With ``--out`` a finished training is not done again, and its result is still shown."""
    first = call("train", TINY, "--method", "bss", "--out", tmp_path)[1]
    assert call("train", TINY, "--method", "bss", "--out", tmp_path) == (0, first[-1:], [])


def test_train_does_not_go_on_with_other_settings(call: Call, tmp_path: Path) -> None:
    """With other settings a training does not pass off the state in ``--out`` as its own."""
    call("train", TINY, "--method", "bss", "--out", tmp_path)
    code, out, _ = call("train", TINY, "--method", "bss", "--out", tmp_path, "--set", "optim/lr=0.1")
    assert code == 2 or len(out) == 4


def test_a_training_that_fails(call: Call) -> None:
    """A training that diverges ends with exit code 1 and one line, without traceback."""
    code, _, err = call("train", TINY, "--method", "fine_tune", "--set", "optim/lr=1e30")
    assert (code, len(err)) == (1, 1)
    assert "not finite" in err[0]


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("methods", ["bss", "co_tuning", "delta", "fine_tune", "l2_sp"]),
        ("data", ["fashion_mnist", "image_folder", "synthetic"]),
        ("models", ["efficientnet_lite0", "resnet50", "tiny_cnn"]),
    ],
)
def test_list(call: Call, what: str, names: list[str]) -> None:
    """``list`` shows all there are, a line each; of methods and data also what they are."""
    code, out, err = call("list", what)
    listed = {line.split()[0]: line.split()[1:] for line in out}
    assert (code, err) == (0, [])
    assert list(listed) == sorted(listed)
    assert set(names) <= set(listed)
    assert what == "models" or all(len(words) > 2 for words in listed.values())


@pytest.mark.parametrize(
    ("what", "pattern", "names"),
    [("models", "resnet1*", ["resnet101", "resnet152", "resnet18"]), ("methods", "l2*", ["l2_sp"])],
)
def test_list_of_a_pattern(call: Call, what: str, pattern: str, names: list[str]) -> None:
    """``list`` with a pattern shows the names that match."""
    code, out, err = call("list", what, pattern)
    assert (code, [line.split()[0] for line in out], err) == (0, names, [])


def test_list_of_no_model(call: Call) -> None:
    """A pattern that no backbone matches is a mistake, said in one line."""
    check_one_line(call("list", "models", "resnot*"), ["no backbone matches 'resnot*'"])


def test_images_that_a_backbone_cannot_take(call: Call, experiment: Path) -> None:
    """``train`` says in one line that a transformer takes images of one size."""
    replace(experiment, '"tiny_cnn"', '"vit_b_32"\nweights = "random"')
    check_one_line(call("train", experiment, "--method", "fine_tune"), ["vit_b_32", "task.size = 8", "224"])


def test_space(call: Call) -> None:
    """``space`` shows every key of training and method with default, range and meaning."""
    code, out, _ = call("space", "bss")
    rows = {cells[0]: cells[1:] for line in out if (cells := [cell.strip() for cell in line.split("|")[1:-1]])}
    assert code == 0
    assert rows["methods.bss.weight"][0] == "0.001"
    assert rows["train.batch_size"][:2] == ["48", "pinned"]
    assert [number for number in ("0.0001", "0.03", "True") if number not in rows["train.optim.lr"][1]] == []
    assert [row[1] for row in rows.values() if row[1].count("(") != row[1].count(")")] == []
    assert [key for key in rows if key.startswith("methods.") and not key.startswith("methods.bss.")] == []


def commands() -> list[str]:
    """Every command of the parser."""
    (choices,) = [action.choices for action in cli.make_parser()._actions if action.dest == "command"]
    return list(choices or ())


@pytest.mark.parametrize("command", commands())
def test_help_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command explains itself."""
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert command in capsys.readouterr().out


def test_interrupted(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control-C ends with exit code 85 and one line that says how to go on."""

    def interrupt(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("cotuning_tune.cli._listing._list", interrupt)
    code, out, err = call("list", "data")
    assert (code, out) == (85, [])
    assert "resume" in " ".join(err)


def test_a_run_that_is_held(call: Call, tmp_path: Path) -> None:
    """Another driver at work is no mistake: exit code 75 and its one line, which the help names."""
    run = RunDir(tmp_path / "held")
    run.path.mkdir()
    run.experiment_file.write_text("")
    with driver_lock(run):
        code, out, (line,) = call("migrate", run.path, "--new-identity")
    assert (code, out) == (75, [])
    assert f"{run.path} is being worked on by" in line
    assert "75 another driver works on the run" in " ".join(cli.make_parser().format_help().split())


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no mistake of the user keeps its traceback."""

    def stumble(options: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("cotuning_tune.cli._listing._list", stumble)
    with pytest.raises(ZeroDivisionError):
        cli.main(["list", "data"])


@pytest.mark.parametrize(
    "code",
    [
        "from cotuning_tune.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from cotuning_tune.cli import main\ntry: main(['report', '/'])\nexcept SystemExit: pass",
        "import cotuning_tune.report",
    ],
    ids=["--help", "report", "the package"],
)
def test_fast_starts(code: str) -> None:
    """Help and report start without torch, ray, optuna and numpy."""
    script = f"{code}\nimport sys\nprint('heavy:', sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_the_command_is_installed() -> None:
    """The module runs as a program and tells its version."""
    command = [sys.executable, "-m", "cotuning_tune.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cotuning-tune", __version__]


def test_a_profile_is_shown_without_an_experiment() -> None:
    """Every key of a way with its default."""
    command = [sys.executable, "-m", "cotuning_tune.cli", "launch", "slurm", "--show-profile"]
    assert "nodes = 1  #" in subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
