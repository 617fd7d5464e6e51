"""Networks of the field by name: files as their authors wrote them load, and answer as there."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dabench.cli.main import main
from dabench.errors import CacheError, ConfigError
from dabench.networks import library, published
from dabench.networks.network import build_classifier
from dabench.networks.weight_files import load_checkpoint
from dabench.source_models.foreign import ForeignModel

State = dict[str, Tensor]
Layout = dict[str, tuple[int, ...]]


def norm(name: str, width: int, *, batch: bool = True) -> Layout:
    """Names and shapes of a normalisation layer's tensors."""
    parts = ("weight", "bias", *(("running_mean", "running_var") if batch else ()))
    found: Layout = {f"{name}.{part}": (width,) for part in parts}
    return found | ({f"{name}.num_batches_tracked": ()} if batch else {})


def linear(name: str, inputs: int, outputs: int) -> Layout:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def pairs(stage: int, block: int, widths: tuple[int, ...]) -> tuple[int, int]:
    """Channels into and out of a block."""
    return (widths[stage - 1] if block == 0 else widths[stage]), widths[stage]


def pre_activation(
    stem: str, count: int, widths: tuple[int, ...], short: str = "", batch: bool = True
) -> Layout:
    found: Layout = {"conv1.weight": (widths[0], 3, 3, 3)}
    for stage in range(1, len(widths)):
        for block in range(count):
            (a, b), name = pairs(stage, block, widths), stem.format(stage, block)
            found |= norm(f"{name}.bn1", a, batch=batch)
            found |= {f"{name}.conv1.weight": (b, a, 3, 3)}
            found |= norm(f"{name}.bn2", b, batch=batch)
            found |= {f"{name}.conv2.weight": (b, b, 3, 3)}
            if short and a != b:
                found |= {f"{name}.{short}.weight": (b, a, 1, 1)}
    return found


def wide_layout(depth: int, factor: int, classes: int) -> Layout:
    widths = (16, 16 * factor, 32 * factor, 64 * factor)
    body = pre_activation("block{}.layer.{}", (depth - 4) // 6, widths, "convShortcut")
    return body | norm("bn1", widths[-1]) | linear("fc", widths[-1], classes)


def resnet_layout(depth: int, classes: int) -> Layout:
    widths = (16, 16, 32, 64)
    found: Layout = {"conv1.weight": (16, 3, 3, 3)} | norm("bn1", 16)
    for stage in (1, 2, 3):
        for block in range((depth - 2) // 6):
            (a, b), name = pairs(stage, block, widths), f"layer{stage}.{block}"
            found |= {f"{name}.conv1.weight": (b, a, 3, 3)} | norm(f"{name}.bn1", b)
            found |= {f"{name}.conv2.weight": (b, b, 3, 3)} | norm(f"{name}.bn2", b)
    return found | linear("linear", 64, classes)


def resnext_layout(classes: int) -> Layout:
    widths = (64, 256, 512, 1024)
    found: Layout = {"conv_1_3x3.weight": (64, 3, 3, 3)} | norm("bn_1", 64)
    for stage, inner in zip((1, 2, 3), (128, 256, 512), strict=True):
        for block in range(3):
            (a, b), name = pairs(stage, block, widths), f"stage_{stage}.{block}"
            found |= {f"{name}.conv_reduce.weight": (inner, a, 1, 1)}
            found |= norm(f"{name}.bn_reduce", inner)
            found |= {f"{name}.conv_conv.weight": (inner, inner // 4, 3, 3)}
            found |= norm(f"{name}.bn", inner)
            found |= {f"{name}.conv_expand.weight": (b, inner, 1, 1)}
            found |= norm(f"{name}.bn_expand", b)
            if block == 0:
                found |= {f"{name}.downsample.0.weight": (b, a, 1, 1)}
                found |= norm(f"{name}.downsample.1", b)
    return found | linear("classifier", 1024, classes)


def group_layout(classes: int) -> Layout:
    body = pre_activation("layer{}.{}", 4, (16, 16, 32, 64), batch=False)
    return body | norm("bn", 64, batch=False) | linear("fc", 64, classes)


def preact_layout(classes: int) -> Layout:
    widths = (64, 64, 128, 256, 512)
    body = pre_activation("layer{}.{}", 2, widths, "shortcut.0")
    return body | norm("bn", 512) | linear("linear", 512, classes)


def filled(layout: Layout) -> State:
    """Random tensors; scales keep activations from growing or dying."""
    draw = torch.Generator().manual_seed(0)
    state: State = {}
    for name, shape in layout.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif len(shape) == 1:
            state[name] = 0.5 + torch.rand(shape, generator=draw)
        else:
            fan_in = int(np.prod(shape[1:]))
            state[name] = torch.randn(shape, generator=draw) / fan_in**0.5
    return state


class Reference:
    """What the authors' code computes, written from a state dict alone."""

    def __init__(self, state: State) -> None:
        self.state = state

    def norm(self, x: Tensor, name: str) -> Tensor:
        s = self.state
        weight, bias = s[f"{name}.weight"], s[f"{name}.bias"]
        if f"{name}.running_mean" not in s:
            return F.group_norm(x, 8, weight, bias)
        return F.batch_norm(x, s[f"{name}.running_mean"], s[f"{name}.running_var"], weight, bias)

    def conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups)

    def blocks(self, form: str) -> list[tuple[str, int]]:
        """Names of the blocks in their order, with their strides."""
        there = {".".join(key.split(".")[: form.count(".") + 1]) for key in self.state}
        every = [(form.format(s, b), s, b) for s in range(1, 5) for b in range(9)]
        return [(n, 2 if s > 1 and b == 0 else 1) for n, s, b in every if n in there]

    def head(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x.mean((2, 3)), self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def pre(self, x: Tensor, form: str, last: str, head: str) -> Tensor:
        x = self.conv(x, "conv1")
        for name, stride in self.blocks(form):
            a = F.relu(self.norm(x, f"{name}.bn1"))
            y = self.conv(a, f"{name}.conv1", stride)
            y = self.conv(F.relu(self.norm(y, f"{name}.bn2")), f"{name}.conv2")
            short = next(
                (k for k in ("convShortcut", "shortcut.0") if f"{name}.{k}.weight" in self.state),
                None,
            )
            if short:
                x = self.conv(a, f"{name}.{short}", stride)
            elif stride == 2:
                x = F.avg_pool2d(x, 2)
                x = torch.cat([x, torch.zeros_like(x)], 1)
            x = x + y
        return self.head(F.relu(self.norm(x, last)), head)

    def resnext(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x, "conv_1_3x3"), "bn_1"))
        for name, stride in self.blocks("stage_{}.{}"):
            y = F.relu(self.norm(self.conv(x, f"{name}.conv_reduce"), f"{name}.bn_reduce"))
            y = F.relu(self.norm(self.conv(y, f"{name}.conv_conv", stride), f"{name}.bn"))
            y = self.norm(self.conv(y, f"{name}.conv_expand"), f"{name}.bn_expand")
            if name.endswith(".0"):
                x = self.norm(self.conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = F.relu(x + y)
        return self.head(x, "classifier")


def user_resnet20(state: State, x: Tensor) -> Tensor:
    """The user's file of the tests, which was written for itself."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
    try:
        from cifar_resnet20 import build
    finally:
        sys.path.pop(0)
    model = build()
    model.load_state_dict(state)
    logits: Tensor = model.eval()(x)
    return logits


def wide(state: State, x: Tensor) -> Tensor:
    return Reference(state).pre(x, "block{}.layer.{}", "bn1", "fc")


def grouped(state: State, x: Tensor) -> Tensor:
    return Reference(state).pre(x, "layer{}.{}", "bn", "fc")


def preact(state: State, x: Tensor) -> Tensor:
    return Reference(state).pre(x, "layer{}.{}", "bn", "linear")


def module(state: State) -> Any:
    return {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}


HALF, CIFAR = [0.5] * 3, ([0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616])
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
#: name -> layout, what stands around it in the published file, answers, classes, mean and std
Answers = Callable[[State, Tensor], Tensor]
CASES: dict[str, tuple[Layout, Callable[[State], Any], Answers, int, list[float], list[float]]] = {
    "resnet20": (resnet_layout(20, 10), module, user_resnet20, 10, *IMAGENET),
    "wrn-40-2": (wide_layout(40, 2, 10), module, wide, 10, HALF, HALF),
    "resnext29-32x4d": (
        *(resnext_layout(100), module),
        *(lambda state, x: Reference(state).resnext(x), 100, HALF, HALF),
    ),
    "resnet26-gn": (group_layout(10), lambda s: {"net": s}, grouped, 10, HALF, HALF),
    "preactresnet18": (preact_layout(10), lambda s: s, preact, 10, *CIFAR),
}


@pytest.mark.parametrize("name", CASES)
def test_a_published_file_answers_as_its_authors_code(name: str, tmp_path: Path) -> None:
    layout, around, answers, classes, mean, std = CASES[name]
    state, path = filled(layout), tmp_path / "published.pt"
    torch.save(around(state), path)
    network, _ = ForeignModel(name, str(path)).wrap(classes, (16, 16))
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    shape = (1, 3, 1, 1)
    with torch.no_grad():
        x = (images - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
        expected = answers(state, x)
        found = network(images)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    # without --classes there are as many as the file has
    assert ForeignModel(name, str(path)).build(None)[0][-1].out_features == classes  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("wrn-28-10", wide_layout(28, 10, 10)),
        *((f"resnet{depth}", resnet_layout(depth, 10)) for depth in (32, 44, 56)),
    ],
)
def test_larger_networks_have_the_published_layout(name: str, layout: Layout) -> None:
    with torch.device("meta"):
        network = published.CIFAR_MODELS[name].build(10)
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == layout
    # RobustBench's "Standard" takes images as they are
    mean, std = ([0.0] * 3, [1.0] * 3) if name == "wrn-28-10" else IMAGENET
    assert published.CIFAR_MODELS[name].normalisation == (tuple(mean), tuple(std))
    assert set(published.CIFAR_MODELS) == {*CASES, "wrn-28-10", "resnet32", "resnet44", "resnet56"}


@pytest.mark.slow
def test_the_wide_network_of_robustbench(tmp_path: Path) -> None:
    """As "Standard", with the unused blocks that other WRN-28-10 files hold."""
    layout = wide_layout(28, 10, 10)
    state, path = filled(layout), tmp_path / "Standard.pt"
    spare = {f"sub_{k}": v for k, v in state.items() if k.startswith("block1.")}
    torch.save(module(state | spare), path)
    network, _ = ForeignModel("wrn-28-10", str(path)).wrap(10, (32, 32))
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(images), wide(state, images), rtol=1e-4, atol=1e-4)
    net = build_classifier("wrn-28-10", str(path), 4, side=32)
    assert torch.equal(net.backbone[0].weight, state["conv1.weight"])  # type: ignore[index]


def test_unused_blocks_belong_to_one_name_alone() -> None:
    assert published.is_beside("wrn-28-10", "sub_block1.layer.0.conv1.weight")
    assert not published.is_beside("wrn-40-2", "sub_block1.layer.0.conv1.weight")


@pytest.mark.parametrize("pair", [("mu", "sigma"), ("normalize.mean", "normalize.std")])
def test_the_input_travels_with_the_file(pair: tuple[str, str], tmp_path: Path) -> None:
    state, path = filled(resnet_layout(20, 3)), tmp_path / "wrapped.pt"
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    inner = {f"model.{key}": value for key, value in state.items()}
    torch.save(inner | {pair[0]: mean.view(1, 3, 1, 1), pair[1]: std.view(1, 3, 1, 1)}, path)
    _, found, _ = ForeignModel("resnet20", str(path)).build(3)
    assert found == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    _, said, _ = ForeignModel("resnet20", str(path), std="1,1,1").build(3)
    assert said == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    whole = inner | {pair[0]: mean.view(1, 3, 1, 1), pair[1]: std.view(1, 3, 1, 1)}
    torch.save({f"module.{key}": value for key, value in whole.items()}, path)  # DataParallel
    assert ForeignModel("resnet20", str(path)).build(3)[1] == found
    torch.save(inner | {pair[0]: mean}, path)
    with pytest.raises(CacheError, match="are not mean and std of three channels"):
        ForeignModel("resnet20", str(path)).build(3)


@pytest.mark.parametrize(
    "name",
    [
        *("resnet20", "resnet26-gn"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("wrn-40-2", "resnext29-32x4d", "preactresnet18")
        ),
    ],
)
def test_they_are_backbones_that_start_from_nothing(name: str, tmp_path: Path) -> None:
    net = build_classifier(name, "none", 4, side=16)
    loss = net(torch.rand(4, 3, 16, 16)).square().sum()
    torch.autograd.backward(loss)
    assert all(p.grad is not None for p in net.parameters())
    layout, around, *_ = CASES[name]
    state, path = filled(layout), tmp_path / "published.pt"
    torch.save(around(state), path)
    net = build_classifier(name, str(path), 4, side=32)
    own = net.backbone.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in own.items())
    assert {key.split(".")[0] for key in state.keys() - own.keys()} <= {
        *("fc", "linear", "classifier")
    }


def test_names_and_weights_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resnet20 has no weights that are fetched by name"):
        build_classifier("resnet20", "pretrained", 3)
    with pytest.raises(ConfigError, match="give --source-checkpoint FILE"):
        ForeignModel("resnet20").build(3)
    path = tmp_path / "other.pt"
    torch.save(filled(resnet_layout(32, 10)), path)
    with pytest.raises(CacheError, match=r"unexpected: layer1\.3"):
        ForeignModel("resnet20", str(path)).build(10)


def test_weights_of_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The field's ResNet-50 is torchvision's first; its newest is another network's equal."""
    import torchvision.models

    asked: list[Any] = []

    def recorded(name: str, **how: Any) -> Any:
        asked.append((name, how["weights"].name))
        raise OSError("no network")

    monkeypatch.setattr(torchvision.models, "get_model", recorded)
    for name in ("resnet50.IMAGENET1K_V1", "resnet50"):
        with pytest.raises(ConfigError, match="could not be fetched"):
            ForeignModel(name).build(None)
        with pytest.raises(ConfigError, match="could not be fetched"):
            build_classifier(name, "pretrained", 3)
    assert asked == [("resnet50", "IMAGENET1K_V1")] * 2 + [("resnet50", "IMAGENET1K_V2")] * 2
    with pytest.raises(ConfigError, match=r"expected path\.py:function"):
        ForeignModel("resnet50.IMAGENET1K_V9").build(None)


def test_whole_networks_are_built_for_any_number_of_classes() -> None:
    """What an adapted model is read back into."""
    for name in ("resnet20", "resnet18.IMAGENET1K_V1"):
        *_, head = published.unfilled(name, 7).modules()
        assert isinstance(head, torch.nn.Linear)
        assert head.out_features == 7


def test_how_published_images_were_prepared() -> None:
    theirs = "0676ba61" + "0" * 56  # resnet50-0676ba61.pth
    first = published.preparation("resnet50.IMAGENET1K_V1", theirs)
    assert first == {
        "size": 224, "interpolation": "bilinear", "crop": 0.875, "weights": "IMAGENET1K_V1"
    }  # fmt: skip
    with pytest.warns(UserWarning, match=r"not resnet50-0676ba61\.pth.*SHA-256 \(11111111\)"):
        other = published.preparation("resnet50.IMAGENET1K_V1", "1" * 64)
    assert other == {key: first[key] for key in ("size", "interpolation", "crop")}
    assert published.preparation("resnet50", None)["weights"] == "IMAGENET1K_V2"
    assert published.preparation("resnet50", theirs) == {}
    vit = published.preparation("vit_base_patch16_224.augreg_in1k", None)
    assert (vit["interpolation"], vit["crop"]) == ("bicubic", 0.9)
    assert published.preparation("wrn-28-10", theirs)["interpolation"] == "none"


def test_torchvision_names_bring_the_input_that_their_weights_were_trained_with() -> None:
    """Most have ImageNet's mean and std; one has .5."""
    assert library.torchvision_normalisation("resnet50.IMAGENET1K_V2") == published.IMAGENET
    assert library.torchvision_normalisation("efficientnet_v2_l") == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("name", "side"),
    [("googlenet", 64), pytest.param("inception_v3", 80, marks=pytest.mark.slow)],
)
def test_two_networks_of_torchvision_turn_their_input(name: str, side: int, tmp_path: Path) -> None:
    """Built from a file with further heads, or built anew for what was saved."""
    import torchvision.models

    path = tmp_path / "weights.pt"
    own = torchvision.models.get_model(name, num_classes=3, init_weights=False)
    torch.save(own.state_dict(), path)
    built, _, _ = ForeignModel(name, str(path)).build(3)
    again = published.unfilled(name, 3)
    again.load_state_dict(built.state_dict())
    load_checkpoint(again, path, "weights", partial(published.is_beside, name))
    own.transform_input = True
    images = torch.rand(2, 3, side, side)
    for network in (built, again):
        assert torch.equal(network.eval()(images), own.eval()(images))
    for weights in (str(path), "none"):
        assert library.from_torchvision(name, weights).transform_input is True


def test_a_vision_transformer_has_the_size_of_its_weights() -> None:
    assert library.of_file("vit_b_16.IMAGENET1K_SWAG_E2E_V1") == {"image_size": 384}
    assert library.of_file("vit_b_16.IMAGENET1K_V1") == {"image_size": 224}
    assert library.of_file("vit_b_16") == library.of_file("resnet50.IMAGENET1K_V1") == {}


def test_timm_networks_are_prepared_as_in_their_test() -> None:
    """``input_size`` is that of training."""
    how = published.preparation("resnet50.a1_in1k", None)
    assert (how["size"], how["crop"]) == (288, 1.0)


def test_densenet_files_of_torchvision_load_under_their_old_names(tmp_path: Path) -> None:
    import torchvision.models

    own = torchvision.models.DenseNet(8, (2, 2), 16, num_classes=3)
    old = {
        re.sub(r"(\.(?:norm|conv))([12]\.)", r"\1.\2", k): v for k, v in own.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    path = tmp_path / "densenet.pt"
    torch.save(old, path)
    fresh = torchvision.models.DenseNet(8, (2, 2), 16, num_classes=3)
    load_checkpoint(fresh, path, "--source-checkpoint")
    for key, value in fresh.state_dict().items():
        assert torch.equal(value, own.state_dict()[key]), key


def test_vit_of_timm_is_fed_by_its_own_card(tmp_path: Path) -> None:
    import timm

    path = tmp_path / "vit.pt"
    torch.save(timm.create_model("vit_tiny_patch16_224", num_classes=3).state_dict(), path)
    _, (mean, std), _ = ForeignModel("vit_tiny_patch16_224.augreg_in21k_ft_in1k", str(path)).build(
        3
    )
    assert (mean, std) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("name", "crop"),
    [
        pytest.param("swin_tiny_patch4_window7_224.ms_in1k", 0.9, marks=pytest.mark.slow),
        ("convnext_atto.d2_in1k", 0.95),
    ],
)
def test_swin_and_convnext_of_timm_load_and_answer_as_there(
    name: str, crop: float, tmp_path: Path
) -> None:
    """A filled file in timm's names: all of it is taken, and pictures are normalised as trained."""
    import timm

    torch.manual_seed(0)
    own = timm.create_model(name.split(".")[0], num_classes=3).eval()
    path = tmp_path / "weights.pt"
    torch.save(own.state_dict(), path)
    network, _ = ForeignModel(name, str(path)).wrap(3, (224, 224))
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), own((images - mean) / std))
    how = published.preparation(name, "1" * 64)
    assert (how["interpolation"], how["crop"]) == ("bicubic", crop)
    state = own.state_dict()
    state["head.fc.more"] = state.pop("head.fc.bias")
    torch.save(state, path)
    with pytest.raises(CacheError, match=r"head\.fc\."):
        ForeignModel(name, str(path)).build(3)


def test_the_record_says_what_the_input_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for domain in ("a", "b"):
        for name in ("ant", "bee", "cat"):
            folder = tmp_path / "data" / domain / name
            folder.mkdir(parents=True)
            for i in range(3):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    path = tmp_path / "resnet20.pt"
    torch.save(module(filled(resnet_layout(20, 3))), path)
    words = ["run", "--method", "source", "--protocol", "sf-uda", "--dataset", "image-folder"]
    words += ["--data-root", str(tmp_path / "data"), "--source", "a", "--target", "b"]
    words += ["--image-size", "32", "--source-model", "resnet20", "--source-checkpoint", str(path)]
    words += ["--results", str(tmp_path / "results"), "--cache-dir", str(tmp_path / "cache")]
    words += ["--threads", "1", "--device", "cpu", "--json", "--no-progress"]
    assert main([*words, "--protocol.held_out", "0"]) == 0
    record = json.loads(Path(json.loads(capsys.readouterr().out)["record"]).read_text())
    about = record["source_model"]
    assert about["normalisation"] == {"mean": IMAGENET[0], "std": IMAGENET[1]}
    assert about["prepared"] == {"size": 32, "interpolation": "none", "crop": 1.0}
    assert len(record["ids"]["source_checkpoint"]) == 64


CIFAR_FOLDER = Path(os.environ.get("DABENCH_DATA", "/nonexistent")) / "cifar10"


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR_FOLDER.is_dir(), reason="DABENCH_DATA has no cifar10")
def test_the_published_resnet20_on_real_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No function and no mean: the name says both. .81 on the JPEG test images."""
    weights = CIFAR_FOLDER.parent / "weights" / "resnet20-12fca82f.th"
    words = ["run", "--method", "source", "--protocol", "sf-uda", "--dataset", "image-folder"]
    words += ["--data-root", str(CIFAR_FOLDER), "--source", "train", "--target", "test"]
    words += ["--image-size", "32", "--source-model", "resnet20"]
    words += ["--source-checkpoint", str(weights), "--protocol.held_out", "0"]
    words += ["--results", str(tmp_path / "results"), "--cache-dir", str(tmp_path / "cache")]
    assert main([*words, "--threads", "1", "--device", "cpu", "--json", "--no-progress"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["scores"]["accuracy"]
    assert accuracy == pytest.approx(0.81, abs=0.01)
