"""Experiment files: studies, spaces, specs, and every mistake with its line."""

import dataclasses
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from cotuning_tune import methods
from cotuning_tune.base.errors import UserError
from cotuning_tune.experiment import Experiment, Study, parse, read_experiment
from cotuning_tune.hyper import Choice, Parameter, Range
from cotuning_tune.training import TrainingSpec

SHIPPED = sorted((Path(__file__).parents[1] / "search_spaces").glob("*.toml"))
TEXT = """\
[experiment]
tasks = ["synthetic", "mine"]
methods = ["fine_tune", "bss"]
rates = [0.5, 1]
backbone = "tiny_cnn"
trials = 4

[task]
size = 16
resize = 16

[data.mine]
format = "synthetic"
classes = 3

[train]
epochs = 3

[train.optim]
lr = { low = 1e-2, high = 1e-1, log = true }
head_lr_factor = [1, 3]

[methods.bss]
k = 2
"""


@pytest.fixture
def experiment() -> Experiment:
    return parse(TEXT, "example")


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """``written(old, new)`` writes the text with one part replaced and returns the file."""

    def write(old: str = "", new: str = "") -> Path:
        assert old in TEXT
        (tmp_path / "spoilt.toml").write_text(TEXT.replace(old, new, 1) if old else TEXT + new)
        return tmp_path / "spoilt.toml"

    return write


def test_studies(experiment: Experiment) -> None:
    """There is a study for each task, rate and method; tasks change slowest, methods fastest."""
    assert [study.name for study in experiment.studies] == [
        f"{task}-{rate}-{method}"
        for task in ("synthetic", "mine")
        for rate in ("0.50", "1.00")
        for method in ("fine_tune", "bss")
    ]


@pytest.mark.parametrize(("rate", "shown"), [(1.0, "1.00"), (0.15, "0.15"), (0.125, "0.125"), (0.005, "0.005")])
def test_rates_in_names(rate: float, shown: str) -> None:
    """A rate stands in a study's name with two digits, or with all where two would round it."""
    assert Study("t", rate, "m").name == f"t-{shown}-m"


def test_defaults(experiment: Experiment) -> None:
    """What a file does not say is as published: three seeds, TPE, the file's name."""
    c = experiment.config
    assert (experiment.name, c.seeds, c.sampler, c.weights) == ("example", (0, 1, 2), "tpe", "")
    assert experiment.resources.cpu_per_trial == 1


def test_space_of_a_study(experiment: Experiment) -> None:
    """A study's space holds the training's parameters and those of its own method, overrides applied."""
    space = experiment.space("bss")
    assert space["epochs"] == Parameter(3)
    assert space["optim/lr"] == Parameter(1e-3, Range(1e-2, 1e-1, log=True))
    assert space["optim/head_lr_factor"] == Parameter(10.0, Choice((1.0, 3.0)))
    assert space["bss/k"] == Parameter(2)
    assert space["bss/weight"].search is not None
    assert [key for key in experiment.space("fine_tune") if key.startswith("bss/")] == []


@pytest.mark.parametrize("name", methods.names())
def test_weight_decay(name: str) -> None:
    """A method that brings its own penalty gets no weight decay of the optimiser's; for the others it is searched."""
    text = TEXT.replace('["fine_tune", "bss"]', f'["{name}", "{"bss" if name != "bss" else "l2_sp"}"]')
    own = methods.method(name).replaces_weight_decay
    searched = Parameter(5e-4, Range(1e-6, 1e-2, log=True))
    assert parse(text, "x").space(name)["optim/weight_decay"] == (Parameter(0.0) if own else searched)


def test_shared_parameters_have_the_same_places() -> None:
    """Every method's searched parameters come after those of the training, pinned or not for that method."""
    shared = ["optim/lr", "optim/head_lr_factor", "optim/weight_decay"]
    every = parse(TEXT.replace('["fine_tune", "bss"]', str(methods.names())).replace("'", '"'), "x")
    for name in methods.names():
        order = every.order(name)
        searched = [key for key, parameter in every.space(name).items() if parameter.search is not None]
        assert order[:3] == shared
        assert all(key.startswith(f"{name}/") for key in order[3:])
        assert set(searched) <= set(order)


def test_a_search_for_a_model(experiment: Experiment) -> None:
    """By default one search has all trials, its three best are confirmed, and every seed is retrained."""
    assert (experiment.config.aim, experiment.searches, experiment.trials) == ("model", 1, 4)
    assert (experiment.rule, experiment.confirmations, experiment.seeds) == ("confirm", 3, (0, 1, 2))
    few = parse(TEXT.replace("trials = 4", "trials = 2"), "x")
    assert few.confirmations == 2
    for rule in ("max", "loss"):
        other = parse(TEXT.replace("trials = 4", f'selection = "{rule}"'), "x")
        assert (other.rule, other.confirmations) == (rule, 0)


def test_hours_limit_in_place_of_trials_or_beside_them() -> None:
    """With hours alone there is no number of trials; the three best are confirmed all the same."""
    found = parse(TEXT.replace("trials = 4", "hours = 8"), "x")
    assert (found.config.hours, found.trials, found.confirmations) == (8.0, 0, 3)
    both = parse(TEXT.replace("trials = 4", "hours = 8\ntrials = 2"), "x")
    assert (both.config.hours, both.trials, both.confirmations) == (8.0, 2, 2)


def _methods(keys: str) -> Experiment:
    return parse(TEXT.replace("trials = 4", f'aim = "methods"\n{keys}'), "x")


@pytest.mark.parametrize(
    ("keys", "searches", "trials"),
    [
        ("", 8, 4),
        ("trials = 64", 8, 8),
        ("trials = 35", 8, 4),
        ("trials = 31", 7, 4),
        ("trials = 8", 2, 4),
        ("trials = 32\nsearches = 16", 16, 2),
        ("trials = 4\nsearches = 2", 2, 2),
    ],
)
def test_a_comparison_shares_the_trials_out(keys: str, searches: int, trials: int) -> None:
    """With aim = 'methods' small searches share the trials, one seed each, choosing the best without confirmations."""
    found = _methods(keys)
    assert (found.searches, found.trials) == (searches, trials)
    assert (found.rule, found.confirmations, found.seeds) == ("max", 0, (0,))
    assert _methods(f'{keys}\nselection = "loss"').rule == "loss"


@pytest.mark.parametrize(
    "keys", ["trials = 7", "trials = 1", "searches = 1", "searches = 17", "trials = 3\nsearches = 2"]
)
def test_too_few_trials_to_share_out(keys: str) -> None:
    """Fewer than two searches, or than two trials for each, is one line that says how many are needed."""
    with pytest.raises(UserError, match=r"give 8 trials or more, and 2 or more for each search") as caught:
        _methods(keys)
    assert "\n" not in str(caught.value)


def test_confirmations_have_a_split_of_their_own(experiment: Experiment) -> None:
    """A further split is another validation split of the same sample; all else of a training stays."""
    study = Study("mine", 0.5, "bss")
    specs = [experiment.spec(study, {}, 0, split) for split in (0, 1, 2)]
    assert [spec.task_config["val_seed"] for spec in specs] == [0, 1000, 2000]
    assert len({str(dataclasses.replace(spec, task_config={}).to_json()) for spec in specs}) == 1
    other = parse(TEXT.replace("size = 16", "val_seed = 5\nsize = 16", 1), "x")
    assert [other.spec(study, {}, 0, split).task_config["val_seed"] for split in (0, 1)] == [5, 1005]


def test_spec(experiment: Experiment) -> None:
    """A study's spec holds searched values, pins, and elsewhere the defaults moved into their ranges."""
    spec = experiment.spec(Study("mine", 0.5, "bss"), {"bss/weight": 0.02, "optim/lr": 0.05}, seed=7)
    assert (spec.task, spec.format, spec.rate, spec.method, spec.seed) == ("mine", "synthetic", 0.5, "bss", 7)
    assert spec.method_config == {"weight": 0.02, "k": 2}
    assert {k: spec.train[k] for k in ("optim/lr", "optim/head_lr_factor", "epochs")} == {
        "optim/lr": 0.05,
        "optim/head_lr_factor": 3.0,
        "epochs": 3,
    }
    assert (spec.task_config["size"], spec.data_options["classes"]) == (16, 3)


def test_specs_survive_json(experiment: Experiment) -> None:
    """A spec that went through JSON is the same."""
    for study in experiment.studies:
        spec = experiment.spec(study, {}, 0)
        assert TrainingSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_space_text(experiment: Experiment) -> None:
    """The written space is TOML that holds every range with its first value, and every pin."""
    tables = tomllib.loads(experiment.space_text())
    assert tables["train"]["optim/lr"] == {"low": 1e-2, "high": 1e-1, "log": True, "first": 1e-2}
    assert tables["train"]["optim/head_lr_factor"] == {"options": [1.0, 3.0], "first": 3.0}
    assert tables["train"]["epochs"] == 3
    assert tables["methods"]["bss"]["k"] == 2
    assert tables["methods"].keys() == {"fine_tune", "bss"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files(path: Path) -> None:
    """Every experiment file of the repository is valid, and opens with the command that runs it."""
    assert read_experiment(path).studies
    assert re.match(rf"# cotuning-tune (run|search) search_spaces/{path.name}.*\n# [A-Z0-9]", path.read_text())


def test_a_shipped_experiment_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare name is a shipped experiment's, and its paths start here; a file of that name wins, a folder does not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo_photos").mkdir()
    found = read_experiment("demo_photos")
    assert (found.name, found.base, found.data["photos"]["root"]) == ("demo_photos", tmp_path, str(tmp_path / "photos"))
    (tmp_path / "tiny").write_text(TEXT)
    assert read_experiment("tiny").text == TEXT
    with pytest.raises(UserError, match="no shipped experiment 'dmeo', did you mean 'demo'") as told:
        read_experiment("dmeo")
    assert re.search("there are: ablation, .*, tiny", str(told.value))
    with pytest.raises(UserError, match=r"no file search_spaces/demo\.toml; the shipped experiment is called 'demo'"):
        read_experiment("search_spaces/demo.toml")


def test_data_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data folder given by a relative path lies beside the experiment file, wherever one works."""
    text = TEXT.replace('format = "synthetic"\nclasses = 3', 'format = "image_folder"\nroot = "pictures"')
    (tmp_path / "exp.toml").write_text(text)
    monkeypatch.chdir(tmp_path.parent)
    found = read_experiment(Path(tmp_path.name) / "exp.toml")
    assert found.data["mine"]["root"] == str(tmp_path / "pictures")


@pytest.mark.parametrize(
    ("given", "kept"), [("w.pth", "{}/w.pth"), ("IMAGENET1K_V1", "IMAGENET1K_V1"), ("random", "random")]
)
def test_weights(tmp_path: Path, given: str, kept: str) -> None:
    """A file of weights lies beside the experiment file; names of published weights stay as they are."""
    text = TEXT.replace("trials = 4", f'weights = "{given}"')
    assert parse(text, "x", tmp_path).config.weights == kept.format(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("trials = 4", "trails = 4", 6, ["'trails'", "'trials'", "backbone", "seeds"]),
        ("trials = 4", 'trials = "many"', 6, ["experiment.trials", "'many'", "whole number"]),
        ("trials = 4", "trials = 0", 6, ["at least 1"]),
        ("trials = 4", "trials = [4, 8]", 6, ["cannot be searched"]),
        ("trials = 4", "hours = -1", 6, ["experiment.hours", "at least 0"]),
        ("trials = 4", "hours = nan", 6, ["experiment.hours", "at least 0"]),
        ("trials = 4", "hours = 0\ntrials = 0", 7, ["experiment.trials", "at least 1"]),
        ("trials = 4", "hours = 8\naim = 'methods'", 6, ["experiment.hours", "aim = 'model'"]),
        ("trials = 4", "val_splits = 0", 6, ["val_splits = 0", "at least 1"]),
        ("trials = 4", "val_splits = 2\npruner = 'asha'", 6, ["val_splits = 2", "pruner = 'none'"]),
        ("trials = 4", "searches = 4", 6, ["experiment.searches", "aim = 'methods'"]),
        ("trials = 4", "selection = 'mean'", 6, ["'mean'", "max", "confirm", "loss"]),
        ("trials = 4", "aim = 'method'", 6, ["'method'", "'methods'"]),
        ("trials = 4", "aim = 'methods'\ntrials = 7", 7, ["7 trials", "8 trials or more"]),
        ("epochs = 3", "epoch = 'first'", 17, ["'first'", "last", "best"]),
        ("trials = 4", "seeds = []", 6, ["experiment.seeds is empty"]),
        ("trials = 4", "seeds = [1, 1]", 6, ["twice"]),
        ("trials = 4", 'sampler = "tpes"', 6, ["'tpe'", "random"]),
        ("[0.5, 1]", "[0]", 4, ["0 is not a sampling rate", "above 0"]),
        ("[0.5, 1]", "[1.5]", 4, ["1.5 is not a sampling rate"]),
        ("[0.5, 1]", "[nan]", 4, ["nan is not a sampling rate"]),
        ('"bss"]', '"bsss"]', 3, ["'bsss'", "'bss'", "co_tuning"]),
        ('["fine_tune", "bss"]', "[]", 3, ["experiment.methods is empty"]),
        ('"tiny_cnn"', '"tiny_cn"', 5, ["'tiny_cn'", "'tiny_cnn'", "resnet50"]),
        ('["synthetic", "mine"]', '["synthetics", "mine"]', 2, ["'synthetics'", "'synthetic'"]),
        ('["synthetic", "mine"]', '["synthetic"]', 12, ["'mine'", "synthetic"]),
        ("classes = 3", "clases = 3", 14, ["[data.mine]", "'clases'", "'classes'"]),
        ('format = "synthetic"', 'format = "sythetic"', 13, ["'sythetic'", "'synthetic'"]),
        ("epochs = 3", "epochs = 0", 17, ["train.epochs", "at least 1"]),
        ("low = 1e-2", "low = 0", 20, ["train.optim.lr", "low > 0"]),
        ("low = 1e-2", "low = 1", 20, ["train.optim.lr", "1.0 is not below high 0.1"]),
        ("low = 1e-2, ", "", 20, ["low and high"]),
        ("head_lr_factor = [1, 3]", "head_lr_factor = []", 21, ["empty"]),
        ("head_lr_factor", "momentun", 21, ["[train.optim]", "'momentun'", "'momentum'", "weight_decay"]),
        ("[train.optim]", "[train.optin]", 19, ["'optin'", "'optim'"]),
        ("k = 2", "k = 2.5", 24, ["methods.bss.k", "2.5", "whole number"]),
        ("[methods.bss]", "[methods.bbs]", 23, ["'bbs'", "'bss'"]),
        ("[task]", "[tsak]", 8, ["'tsak'", "'task'", "experiment"]),
        ("size = 16\nresize = 16", "size = 20\nresize = 16", 9, ["task.size = 20"]),
        ("resize = 16", "resize = 16\nval_fraction = 1", 11, ["task.val_fraction = 1"]),
        ("[methods.bss]", "[methods.delta]\nwieght = 1\n[methods.bss]", 24, ["'wieght'", "'weight'"]),
        ("[task]", "[resources]\ncpu_per_trial = 0\n[task]", 9, ["resources.cpu_per_trial = 0"]),
        ("[task]", "[resources]\ngpu_per_trial = 1.5\n[task]", 9, ["resources.gpu_per_trial = 1.5", "'auto'"]),
        ("[task]", "[resources]\ngpu_per_trial = 'aut'\n[task]", 9, ["'aut': a number or 'auto' is needed"]),
        ("[task]", "[task", 8, []),
    ],
)
def test_mistakes(written: Callable[..., Path], old: str, new: str, line: int, words: list[str]) -> None:
    """A mistake is one line with file, line number, what is wrong and what there is instead."""
    path = written(old, new)
    with pytest.raises(UserError) as caught:
        read_experiment(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert f"line {line}" in message
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('backbone = "tiny_cnn"\n', "", ["experiment.backbone is missing"]),
        (TEXT, "", ["experiment.tasks is missing"]),
        ("trials = 4", 'name = "a/b"', ["'a/b'", "letters"]),
        ("[experiment]", "resources = 3\n[experiment]", ["resources = 3", "table"]),
        ("[methods.bss]\nk = 2", "[methods]\nbss = 2", ["methods.bss", "2", "table"]),
        ('[data.mine]\nformat = "synthetic"\nclasses = 3', "[data]\nmine = 3", ["data.mine = 3", "table"]),
        ('format = "synthetic"', "format = 3", ["data set '3'", "synthetic"]),
    ],
)
def test_mistakes_without_a_line(written: Callable[..., Path], old: str, new: str, words: list[str]) -> None:
    """Something missing, or a value where a table belongs, is one line that says so."""
    with pytest.raises(UserError) as caught:
        read_experiment(written(old, new))
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epochs = 3", "epochs = { low = 0, high = 9 }", ["train.epochs", "at least 1"]),
        ("epochs = 3", "batch_size = [48, 0]", ["train.batch_size", "at least 1"]),
        ("head_lr_factor = [1, 3]", "momentum = -1", ["train.optim.momentum", "-1"]),
        ("low = 1e-2, high = 1e-1, log = true", "low = -1, high = 1", ["train.optim.lr", "-1"]),
        ("k = 2", "k = 0", ["methods.bss.k", "0", "at least 1"]),
        ("classes = 3", "classes = 0", ["classes", "0"]),
        ("classes = 3", "images = 0", ["images", "0"]),
    ],
)
def test_values_without_a_meaning(written: Callable[..., Path], old: str, new: str, words: list[str]) -> None:
    """A pin, an end of a range or an option that no training can use is refused before anything runs."""
    with pytest.raises(UserError) as caught:
        read_experiment(written(old, new))
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("trials = 4", "stopper = 'asha'", 6, "unknown key 'stopper' in [experiment]: it is called 'pruner' now"),
        ('format = "syn', 'kind = "syn', 13, "unknown key 'kind' in [data.mine]: it is called 'format' now"),
        ("size = 16", "smallest_crop = 0.2", 9, "unknown key 'smallest_crop' in [task]: it is called 'min_scale' now"),
        (
            'format = "synthetic"\nclasses = 3',
            'format = "fgvc_aircraft"\npart = "train"',
            14,
            "unknown key 'part' in [data.mine]: it is called 'split' now",
        ),
    ],
)
def test_a_former_key(written: Callable[..., Path], old: str, new: str, line: int, message: str) -> None:
    """A key that had another name is one line with its present name, wherever it stands."""
    path = written(old, new)
    with pytest.raises(UserError) as caught:
        read_experiment(path)
    assert str(caught.value) == f"{path} line {line}: {message}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 3", "lr = 0.1", "unknown key 'lr' in [train]; did you mean [train.optim] lr?"),
        ("trials = 4", "epochs = 4", "unknown key 'epochs' in [experiment]; did you mean [train] epochs?"),
        ("size = 16", "k = 16", "unknown key 'k' in [task]; did you mean [methods.bss] k?"),
        ("k = 2", "classes = 2", "unknown key 'classes' in [methods.bss]; did you mean [data.mine] classes?"),
        (
            "k = 2",
            "weights = 2",
            "unknown key 'weights' in [methods.bss]; did you mean 'weight' or [experiment] weights?",
        ),
        ("[task]", "[optim]", "unknown table 'optim'; did you mean [train.optim]?"),
        ("[experiment]", "trials = 4\n[experiment]", "unknown table 'trials'; did you mean [experiment] trials?"),
        ("[task]", "[bss]\nk = 2\n[task]", "unknown table 'bss'; did you mean [methods.bss]?"),
        (
            "classes = 3",
            "clases = 3",
            "unknown key 'clases' in [data.mine]; did you mean 'classes'? there are: classes, ",
        ),
        ("k = 2", "zzz = 2", "unknown key 'zzz' in [methods.bss]; there are: k, weight"),
    ],
)
def test_a_misplaced_key(written: Callable[..., Path], old: str, new: str, message: str) -> None:
    """A key or table that another table knows is suggested with that table; else the nearest name, and all names."""
    with pytest.raises(UserError) as caught:
        read_experiment(written(old, new))
    assert str(caught.value).partition(": ")[2].startswith(message)


def test_a_misplaced_key_beside_nonsense() -> None:
    """The search for a key's table survives tables that are none."""
    with pytest.raises(UserError, match=r"unknown table 'lr'; did you mean \[train.optim\] lr\?"):
        parse("lr = 1\nexperiment = 3\ndata = 4", "x")


def test_rows(experiment: Experiment) -> None:
    """A trial of full length reports once an epoch, or once an interval of its iterations."""
    assert experiment.rows() == 3
    assert parse(TEXT.replace("epochs = 3", "iterations = 9000\ninterval = 400"), "example").rows() == 23


def test_median_with_passes_of_unknown_number(written: Callable[..., Path]) -> None:
    """The median rule counts reports: with iterations it needs their interval, and says so."""
    path = written("trials = 4", 'trials = 4\npruner = "median"')
    path.write_text(path.read_text().replace("epochs = 3", "iterations = 90"))
    with pytest.raises(UserError, match=r"line 7: .*needs train\.interval"):
        read_experiment(path)
    path.write_text(path.read_text().replace("iterations = 90", "iterations = 90\ninterval = 9"))
    assert read_experiment(path).rows() == 10


@pytest.mark.parametrize("epoch", ['"best"', '["last", "best"]'])
def test_every_label_leaves_no_epoch_to_choose(written: Callable[..., Path], epoch: str) -> None:
    """Retraining on every label needs the last epoch, pinned: there is no image to choose another by."""
    path = written("trials = 4", 'retrain_on = "trainval"')
    assert read_experiment(path).config.retrain_on == "trainval"
    path.write_text(path.read_text().replace("epochs = 3", f"epoch = {epoch}"))
    with pytest.raises(UserError, match=r"line 6: .*train\.epoch = 'last' then"):
        read_experiment(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe[experiment]"], ids=["missing", "no text"])
def test_unreadable_file(tmp_path: Path, content: bytes | None) -> None:
    """A file that is missing or no text is a user's error with its path."""
    path = tmp_path / "exp.toml"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"exp\.toml"):
        read_experiment(path)
