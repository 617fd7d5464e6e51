"""Backbones of torchvision and timm: a pass of zeros finds width and size, and changes nothing."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

from dabench.cli.main import main
from dabench.errors import ConfigError
from dabench.networks import library, probe
from dabench.networks.network import build_classifier


@pytest.mark.parametrize(
    ("name", "side", "width"),
    [
        ("mobilenetv3_small_100", 32, 1024),
        ("lcnet_050", 32, 1280),
        ("convnext_atto", 32, 320),
        ("googlenet", 64, 1024),
        pytest.param("ghostnet_100", 64, 1280, marks=pytest.mark.slow),
        pytest.param("efficientvit_b0", 64, 1280, marks=pytest.mark.slow),
        pytest.param("inception_next_tiny", 64, 2304, marks=pytest.mark.slow),
        pytest.param("vgg11.tv_in1k", 64, 4096, marks=pytest.mark.slow),
        pytest.param("inception_v3", 96, 2048, marks=pytest.mark.slow),
        pytest.param("convnext_tiny", 64, 768, marks=pytest.mark.slow),
        pytest.param("lambda_resnet26t", 64, 2048, marks=pytest.mark.slow),
        pytest.param("maxvit_t", 224, 512, marks=pytest.mark.slow),
    ],
)
def test_the_width_is_that_of_the_output(name: str, side: int, width: int) -> None:
    net = build_classifier(name, "none", 4, side=side)
    out = net(torch.rand(2, 3, side, side))  # in training mode
    assert out.shape == (2, 4)
    assert net.bottleneck[0].in_features == width  # type: ignore[index]
    assert net.eval()(torch.rand(1, 3, side, side)).shape == (1, 4)


def test_a_head_that_makes_vectors_of_maps_is_kept_up_to_its_linear_layer() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 1)
            self.classifier = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.LayerNorm(6), nn.Linear(6, 9)
            )

        def forward(self, images: Tensor) -> Tensor:
            out: Tensor = self.classifier(self.conv(images))
            return out

    net = Net()
    before = copy.deepcopy(net)
    library._strip_head(net, "net")
    assert probe.feature_width(net, "net", 8) == 6
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(before.classifier[3](net(images)), before(images))


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", pytest.param("vit_b_16", marks=pytest.mark.slow)]
)
def test_a_size_that_does_not_fit_is_named_before_data_are_read(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("data were read")

    from dabench import registry

    monkeypatch.setattr(registry.dataset("digits"), "load", never)
    words = ["run", "--method", "source", "--protocol", "sf-uda", "--dataset", "digits"]
    assert main([*words, "--backbone", name, "--weights", "none", "--threads", "1"]) == 2
    line = capsys.readouterr().err
    assert f"error: --backbone {name} does not take images of 32 x 32 px" in line
    assert "--image-size 224" in line


class Counting(nn.Module):
    """Statistics, random numbers and a cache that a pass would move."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm2d(3), nn.Dropout(0.5)
        self.cache: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.cache.append(len(images))
        out: Tensor = self.drop(self.norm(images)).mean((2, 3))
        return out


def test_the_pass_of_zeros_leaves_no_trace() -> None:
    net = Counting()
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    assert probe.feature_width(net, "net", 8) == 3
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert net.cache == []
    assert net.training


def test_what_is_no_vector_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--backbone net gives \(2, 3, 8, 8\).*\(2, F\)"):
        probe.feature_width(nn.Identity(), "net", 8)


@pytest.mark.parametrize("name", ["small-cnn", "small-vit", "efficientnet_lite0", "resnet18"])
def test_networks_start_as_they_would_without_the_pass(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    found = build_classifier(name, "none", 4, side=32).state_dict()
    width = found["bottleneck.0.weight"].shape[1]
    monkeypatch.setattr(probe, "feature_width", lambda *_: width)
    torch.manual_seed(0)
    without = build_classifier(name, "none", 4, side=32).state_dict()
    assert all(torch.equal(found[key], without[key]) for key in without)


@pytest.mark.slow
def test_most_networks_of_both_libraries_run_or_are_refused_in_one_line() -> None:
    import timm
    import torchvision.models

    every = {*timm.list_models(), *torchvision.models.list_models(module=torchvision.models)}
    ran, refused, other = [], [], []
    for name in sorted(every)[::40]:
        make = timm.create_model if timm.is_model(name) else torchvision.models.get_model
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            size = sum(p.numel() for p in make(name).parameters())
        if size > 1e8:
            continue
        try:
            build_classifier(name, "none", 4)
            ran.append(name)
        except ConfigError as error:
            refused.append(str(error))
        except Exception as error:  # noqa: BLE001  what is looked for
            other.append(f"{name}: {type(error).__name__}")
    tried = len(ran) + len(refused) + len(other)
    assert tried >= 20
    assert all(text.isprintable() for text in refused)
    assert len(other) <= 0.05 * tried, other
    assert len(ran) >= 0.9 * tried, refused
