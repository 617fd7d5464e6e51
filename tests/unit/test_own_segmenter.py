"""A segmentation model of the user's own as a network: what it answers, and what is refused."""

from __future__ import annotations

import dataclasses
import runpy
import urllib.error
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models
from torch import Tensor, nn
from torch.nn import functional as F

from dabench import registry
from dabench.contract.access import Online, Recorder, TargetBatch
from dabench.contract.data import Frames
from dabench.contract.protocol import DensePlan
from dabench.contract.types import Task
from dabench.errors import ConfigError
from dabench.networks.foreign_dense import wrap_segmenter
from dabench.source_models.foreign import ForeignModel
from dabench.source_models.loading import state_hash
from dabench.source_models.parts import SourceParts

K, HEIGHT, WIDTH = 11, 16, 24
IMAGES = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
FILE = Path(__file__).parents[1] / "models" / "tiny_segmenter.py"
SCOPE = runpy.run_path(str(FILE))
wrap = partial(wrap_segmenter, num_classes=K, example=IMAGES, name="mine")


def model(function: str = "build", change: Callable[[Tensor], Any] | None = None) -> nn.Module:
    """Return a model of the user's file, or one that changes its answers, with drawn weights."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        found: nn.Module = SCOPE["Changed"](change) if change else SCOPE[function]()
        for norm in (m for m in found.modules() if isinstance(m, nn.BatchNorm2d)):
            nn.init.normal_(norm.running_mean, std=0.1)
    return found.eval()


# -- the network --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "head"), [("build", "out"), ("resized", "net.out"), ("cut", None)]
)
def test_answers_are_the_models_and_classifiers_are_found(function: str, head: str | None) -> None:
    own = model(function)
    before = state_hash(own)
    network = wrap(own, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.5, 0.4, 0.3), (0.2, 0.2, 0.3)))
    with torch.no_grad():
        expected = own((IMAGES - mean) / std)
        expected = expected["out"] if isinstance(expected, dict) else expected
        expected = F.interpolate(expected, (HEIGHT, WIDTH), mode="bilinear")
        # frames of data sets lie channels last
        found = network(IMAGES.to(memory_format=torch.channels_last))
        torch.testing.assert_close(found, expected)
        features = network.features(IMAGES)
    assert network.head_name == head
    assert features.shape == (1, 6 if head else K, HEIGHT // 2, WIDTH // 2)
    assert isinstance(network.classifier, nn.Conv2d if head else nn.Identity)
    assert (network.cost.forward > 0, state_hash(own)) == (True, before)
    network.features(IMAGES).sum().backward()
    twin_names = {n.removeprefix("backbone.") for n, _ in network.named_parameters()}
    assert len(twin_names) == len(list(own.parameters()))


def test_a_head_must_be_the_last_thing() -> None:
    assert wrap(model("corners")).head_name is None  # resized otherwise than dabench would
    with pytest.raises(ConfigError, match=r"does something after its layer net.out"):
        wrap(model("corners"), head="net.out")
    with pytest.raises(ConfigError, match=r"no convolution 'net.ot' with 11 outputs.*'net.out'"):
        wrap(model("resized"), head="net.ot")
    assert wrap(model("resized"), head="net.out").head_name == "net.out"
    named = wrap(model(change=lambda y: {"loss": None, "logits": y}))  # as transformers answers
    assert named.head_name == "net.out"
    alone = nn.Conv2d(3, K, 3, padding=1)
    torch.testing.assert_close(wrap(alone)(IMAGES), alone(IMAGES))


BAD: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "more": (lambda y: torch.cat((y, y[:, :1]), 1), "has 12 outputs a pixel.*11 classes.*:11"),
    "fewer": (lambda y: y[:, 1:], "has 10 outputs a pixel"),
    "vector": (lambda y: y.mean((2, 3)), r"answered \(1, 11\) float32; expected \(B, K, h, w\)"),
    "classes": (lambda y: y.argmax(1)[:, None], r"answered \(1, 1, 8, 12\) int64"),
    "pair": (lambda y: (y, y), "answered a tuple of 2; expected .* return them alone"),
    "dictionary": (lambda y: {"main": y}, "answered a dictionary of main"),
    "none": (lambda y: None, "answered a NoneType"),
    "nan": (lambda y: y * float("nan"), "logits that are not finite"),
    "softmax": (lambda y: y.softmax(1), "answers by probabilities.*leave the softmax out"),
    "batch": (lambda y: torch.cat((y, y)), r"answered 1 image\(s\) by 2"),
}


@pytest.mark.parametrize("what", BAD)
def test_answers_that_are_no_logits_are_refused(what: str) -> None:
    change, message = BAD[what]
    with pytest.raises(ConfigError, match=f"^mine .*{message}") as error:
        wrap(model(change=change))
    assert "\n" not in str(error.value)


def test_sizes_that_it_does_not_take_are_refused_on_the_stream_too() -> None:
    network = wrap(model("cut"))
    with pytest.raises(ConfigError, match=r"take images of 24 x 8 px.*ValueError: too small\)"):
        network(IMAGES[:, :, :8])


@pytest.mark.parametrize(
    "method",
    [
        "source",
        "bn-adapt",
        "tent",
        "max-squares",
        "eta",
        "roid",
        "cotta",
        "tta-aug",
        "transadapt",
        "target-supervised",
    ],
)
def test_methods_need_no_classifier(method: str) -> None:
    options: dict[str, Any] = {}
    if method == "transadapt":
        options = {"module": False, "unsup_output": "same", "by_shift": False}
    torch.manual_seed(0)
    network = wrap(model("cut"))
    adapted = registry.method(method)(**options)
    task = Task("segmentation", tuple("abcdefghijk"), HEIGHT, False, True, WIDTH)
    if method == "target-supervised":
        adapted.reveal(np.zeros((1, 32, 48), np.uint8))  # type: ignore[union-attr]
    adapted.begin(Online(task, network, 1, 0, Recorder(), {}))
    images = torch.rand(1, 3, 32, 48)  # scaled views of CoTTA are smaller
    for number in range(2):
        logits = adapted.step(TargetBatch(images, torch.tensor([number])))
    assert logits.shape == (1, K, 32, 48)
    assert logits.isfinite().all()


def test_parts_need_a_classifier_and_source_images(dense_plan: DensePlan, tmp_path: Path) -> None:
    options = {"head_steps": 1, "module_steps": 1}
    method = registry.method("transadapt")(**options)
    all_options = {name: getattr(method, name) for name in method.source_options}

    def make(plan: DensePlan, source_data: str, network: Any) -> SourceParts:
        given = (plan, network, "ab" * 16, all_options, tmp_path, "cpu", method.version)
        return SourceParts(*given, source_data)

    ends = wrap_segmenter(model("build"), K, IMAGES)
    ends = wrap_segmenter(
        nn.Sequential(ends.backbone.conv, nn.ReLU(), nn.Conv2d(6, 3, 1)), 3, IMAGES
    )
    first, other = make(dense_plan, "one", ends), make(dense_plan, "two", ends)
    first(method)
    other(method)
    assert first.about["key"] != other.about["key"]  # trained on other images
    cut = wrap_segmenter(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), 3, IMAGES)
    with pytest.raises(ConfigError, match=r"^transadapt: .*does not end in one.*use tent"):
        make(dense_plan, "one", cut)(method)
    nothing = Frames(np.zeros((0, 32, 48, 3), np.uint8), np.zeros((0, 32, 48), np.uint8), "")
    with pytest.raises(ConfigError, match=r"TransAdapt trains parts .* and the data set has none"):
        make(dataclasses.replace(dense_plan, source=nothing), "one", ends)(method)


# -- names of torchvision -----------------------------------------------------------------------


def test_a_model_of_torchvision_with_a_checkpoint(tmp_path: Path) -> None:
    name, path = "deeplabv3_mobilenet_v3_large", tmp_path / "net.pt"
    torch.manual_seed(0)
    own: Any = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=K, aux_loss=True
    ).eval()
    torch.save(own.state_dict(), path)
    network, _ = ForeignModel(name, str(path)).wrap_dense(K, (HEIGHT, WIDTH))
    assert network.head_name == "classifier.4"  # type: ignore[union-attr]
    with torch.no_grad():
        expected = own((IMAGES - network.mean) / network.std)["out"]
        torch.testing.assert_close(network(IMAGES), expected)
    assert float(network.mean.flatten()[0]) == pytest.approx(0.485)


def test_names_without_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    name = "lraspp_mobilenet_v3_large"
    with pytest.raises(ConfigError, match=r"know 21 classes, and the data set has 11; give"):
        ForeignModel(name).wrap_dense(K, (HEIGHT, WIDTH))
    with pytest.raises(ConfigError, match=r"could not be fetched .*use --source-checkpoint FILE"):
        ForeignModel(name).wrap_dense(21, (HEIGHT, WIDTH))
    with pytest.raises(ConfigError, match=r"segmentation model of torchvision .*lraspp"):
        ForeignModel("resnet18").wrap_dense(K, (HEIGHT, WIDTH))
    with pytest.raises(ConfigError, match=r"name of a classification model"):
        ForeignModel(name).wrap(K, (HEIGHT, WIDTH))
