"""timm and torchvision load what is exported for them by themselves, and say the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models as torchvision_models
from torchvision import transforms

from cotuning_tune import models
from cotuning_tune.base.errors import UserError
from cotuning_tune.base.files import read_json
from cotuning_tune.export import libraries
from cotuning_tune.export.bundle import open_bundle
from cotuning_tune.export.libraries import IN_TIMM, LARGEST_DIFFERENCE, loaded, name_in, names_of, renamed
from cotuning_tune.export.metadata import TYPES, front_matter
from cotuning_tune.export.predict import pixels_of, predictions
from cotuning_tune.export.torch_model import Classifier
from cotuning_tune.runs.folder import RunDir
from cotuning_tune.scores import METRICS
from tests.export.conftest import CELL, EXPERIMENT, retrain, write_search

Call = Callable[..., tuple[int, list[str], list[str]]]
CLASSES = ["bag", "pullover", "trouser"]
BACKBONES = {
    "timm": 'backbone = "timm/test_resnet.r160_in1k"\nweights = "random"',
    "torchvision": 'backbone = "mobilenet_v3_small"\nweights = "random"',
}
FILES = {"timm": {"config.json"}, "torchvision": {"config.json", "preprocessor_config.json"}}


@pytest.fixture(scope="module", params=list(BACKBONES))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, clothes: Path) -> Path:
    """The export of a run with one study of a library's backbone, in its format, without ``--study``."""
    from cotuning_tune import cli

    run = RunDir(tmp_path_factory.mktemp("runs") / "library")
    text = EXPERIMENT.format(root=clothes).replace('["fine_tune", "co_tuning"]', '["fine_tune"]')
    text = text.replace('backbone = "tiny_cnn"', BACKBONES[request.param]).replace("epochs = 3", "epochs = 1")
    write_search(run, text.replace("size = 23", "size = 32").replace("resize = 28", "resize = 37"))
    retrain(run, (0,))
    out = run.path / "out"
    assert cli.main(["export", str(run.path), "--format", request.param, "--out", str(out)]) == 0
    return out


def _of_library(folder: Path) -> tuple[nn.Module, Callable[[Image.Image], Tensor]]:
    """The model and the transform as the library makes them from the folder alone."""
    found = read_json(folder / "config.json")
    if "pretrained_cfg" in found:
        network: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
        return network.eval(), timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    network = torchvision_models.get_model(found["architecture"], num_classes=found["num_classes"])
    network.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    p = read_json(folder / "preprocessor_config.json")
    steps = [
        transforms.Resize(tuple(p["size"].values())),
        transforms.CenterCrop(tuple(p["crop_size"].values())),
        transforms.ToTensor(),
        transforms.Normalize(p["image_mean"], p["image_std"]),
    ]
    return network.eval(), transforms.Compose(steps)


def test_the_library_alone_says_the_same(exported: Path, clothes: Path) -> None:
    """From the same image files the library's model and transform give our probabilities; its pixels are ours."""
    network, prepare = _of_library(exported)
    description = read_json(exported / "model.json")
    assert description["check"]["other_class"] == 0
    assert description["check"]["largest_difference"] <= LARGEST_DIFFERENCE
    mean, std = (np.array(description["preprocessing"][key])[:, None, None] for key in ("mean", "std"))
    found = list(predictions(open_bundle(exported), clothes / "test"))
    assert len(found) == 27
    for one in found:
        image = prepare(Image.open(clothes / "test" / one.path).convert("RGB"))
        ours = (pixels_of(clothes / "test" / one.path, description["preprocessing"]) - mean) / std
        assert np.allclose(image.numpy(), ours, atol=1e-5)
        with torch.no_grad():
            logits = network(image[None])
        assert np.allclose(logits.softmax(1)[0].numpy(), one.probabilities_T, atol=1e-5)


def test_what_lies_in_the_folder(exported: Path) -> None:
    """Model, card and both descriptions; the classes by name, as the library and the Hub have them."""
    description, config = read_json(exported / "model.json"), read_json(exported / "config.json")
    kind = description["format"]
    assert {path.name for path in exported.iterdir()} == {"README.md", "model.json", "model.safetensors", *FILES[kind]}
    assert config["architecture"] == description["model"] == {"timm": "test_resnet"}.get(kind, "mobilenet_v3_small")
    assert config["num_classes"] == 3
    if kind == "torchvision":
        assert config["id2label"] == dict(zip("012", CLASSES, strict=True))
        return
    assert config["label_names"] == CLASSES
    assert (config["num_features"], config["pretrained_cfg"]["input_size"]) == (96, [3, 32, 32])
    assert timm.create_model(f"local-dir:{exported}", pretrained=True).pretrained_cfg["label_names"] == CLASSES


def test_the_hub_reads_the_card(exported: Path) -> None:
    """The metadata of the card are parsed by the Hub's client: library, task, tags, and the test score as a share."""
    data = ModelCard.load(exported / "README.md").data
    kind = read_json(exported / "model.json")["format"]
    assert (data.library_name, data.pipeline_tag, data.license) == (kind, "image-classification", None)
    assert data.tags == ["image-classification", kind, "transfer-learning", "fine_tune"]
    (result,) = data.eval_results
    tested = read_json(exported.parent / "studies" / "clothes-1.00-fine_tune" / "retrain" / "seed0" / "result.json")
    assert (result.metric_type, result.dataset_name, result.dataset_split) == ("accuracy", "clothes", "test")
    assert result.metric_value == pytest.approx(tested["test_score"] / 100, abs=1e-6)


@pytest.mark.parametrize("name", list(METRICS))
def test_metadata_of_every_metric(name: str, tmp_path: Path) -> None:
    """Each metric has a name of the Hub's, a value of its own scale, and a licence where the Hub has a name for it."""
    metric = METRICS[name]
    given = {"format": "transformers", "whole": False, "data_format": "", "task": "news: a", "method": "spd"}
    head = front_matter("A model", given, metric, 50.0, "MIT")
    data = ModelCard(head + "# A model\n").data
    assert (data.license, data.pipeline_tag, data.library_name) == ("mit", "token-classification", "transformers")
    (result,) = model_index_to_eval_results(data.to_dict()["model-index"])[1]
    assert result.metric_type == TYPES.get(name, name)
    assert result.metric_value == (0.5 if metric.percent else 50.0)
    assert ModelCard(front_matter("A model", given, metric, 50.0, "ask") + "# A\n").data.license is None


def _altered(backbone: str, classes: int = 3) -> Classifier:
    """A classifier on random weights, none of which is what its library would have drawn."""
    source = models.pretrained(backbone, "random")
    network = Classifier(source.backbone, nn.Linear(source.source_head.in_features, classes)).eval()
    generator = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.8, 1.2, generator=generator)
        elif value.dtype.is_floating_point and name not in ("backbone.mean", "backbone.std"):
            value.add_(0.01 * torch.randn(value.shape, generator=generator))
    return network


SMALL = ("resnet18", "densenet121", "efficientnet_b0", "efficientnet_lite0", "mobilenet_v2", "mnasnet0_5")
PAIRS = [("timm", name) for name in SMALL]
PAIRS += [("torchvision", name) for name in ("resnet18", "shufflenet_v2_x0_5", "regnet_y_400mf", "mobilenet_v2")]
PAIRS += [("timm", f"timm/{name}") for name in ("test_vit", "test_efficientnet", "test_convnext", "test_byobnet")]
REST = [("timm", name) for name in IN_TIMM if name not in SMALL]


@pytest.mark.parametrize(
    ("library", "backbone"), [*PAIRS, *(pytest.param(*one, marks=pytest.mark.proof) for one in REST)]
)
def test_the_same_logits(library: str, backbone: str) -> None:
    """Renamed weights of every kind of backbone give the library's network our logits, and every tensor is used."""
    network = _altered(backbone)
    name = name_in(library, backbone, network.head, "fine_tune")
    weights = renamed(network.state_dict(), library, name, 3)
    mean, std = (getattr(network.backbone, key).flatten().tolist() for key in ("mean", "std"))
    given = {"format": library, "model": name, "classes": CLASSES, "preprocessing": {"mean": mean, "std": std}}
    side = 160 if backbone.startswith("timm/") else 64
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = network(images), loaded(weights, given)(images)
    assert float((expected - found).abs().max()) <= LARGEST_DIFFERENCE * max(1.0, float(expected.abs().max()))
    assert float(expected.std()) > 0


def test_padding_of_odd_sides_is_seen() -> None:
    """timm pads EfficientNet-Lite otherwise where a map has an odd side: the logits differ by more than is let pass."""
    network = _altered("efficientnet_lite0")
    weights = renamed(network.state_dict(), "timm", "tf_efficientnet_lite0", 3)
    given = {"format": "timm", "model": "tf_efficientnet_lite0", "classes": CLASSES}
    theirs = loaded(weights, {**given, "preprocessing": {"mean": [127.0] * 3, "std": [128.0] * 3}})
    images = torch.randint(0, 256, (2, 3, 50, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert float((network(images) - theirs(images)).abs().max()) > 10 * LARGEST_DIFFERENCE


def test_what_a_library_has_not(small_run: RunDir, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """A backbone that the library has not, a head of neighbours, an unknown format: one line with what is possible."""
    for library in FILES:
        code, out, err = call("export", small_run.path, "--study", CELL, "--format", library)
        assert (code, out) == (2, [])
        assert err == [
            f"cotuning-tune: --format {library}: {library} has no network with the weights of tiny_cnn;"
            " safetensors, torchscript, onnx can"
        ]
    assert names_of("timm/resnet18.a1_in1k") == {"timm": "resnet18"}
    assert names_of("mnasnet0_5") == {"timm": "mnasnet_050"}
    assert names_of("maxvit_t") == names_of("tiny_cnn") == {}
    with pytest.raises(UserError, match="of vit_b_16; safetensors, torchscript, onnx, torchvision can"):
        name_in("timm", "vit_b_16", nn.Linear(1, 1), "fine_tune")
    with pytest.raises(UserError, match="knn has no linear head; possible: safetensors, torchscript, onnx"):
        name_in("timm", "resnet18", nn.Identity(), "knn")
    with pytest.raises(SystemExit, match="2"):
        call("export", small_run.path, "--format", "keras")
    every = "onnx, safetensors, timm, torchscript, torchvision, transformers"
    assert capsys.readouterr().err.startswith(f"cotuning-tune export: no --format 'keras'; there are: {every} (see")


def test_weights_of_another_network() -> None:
    """Tensors that are not the library's, by shape or by number, are one line that names the first."""
    weights = _altered("resnet18").state_dict()
    with pytest.raises(UserError, match=r"backbone.chain.4.conv1.weight \[64, 64, 3, 3\] is not resnet50's layer1"):
        renamed(weights, "torchvision", "resnet50", 3)
    del weights["head.bias"]
    with pytest.raises(UserError, match="resnet18 has 122 tensors, not 121"):
        renamed(weights, "torchvision", "resnet18", 3)


@pytest.mark.parametrize(("crop", "resize"), [(224, 256), (23, 28), (32, 37), (299, 341), (7, 9), (64, 64)])
def test_timm_resizes_to_our_side(crop: int, resize: int) -> None:
    """timm divides the crop by its share and rounds down: the side is the one of training."""
    assert int(crop / libraries._crop_pct(crop, resize)) == resize
