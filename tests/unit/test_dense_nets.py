"""Segmentation networks: shapes, weights by name and by path, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision.models

from dabench.errors import CacheError, ConfigError
from dabench.networks.dense import DenseNetwork, build_segmenter, upsample
from dabench.networks.network import build_classifier

TORCHVISION = ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50")


def small(classes: int = 3) -> DenseNetwork:
    torch.manual_seed(0)
    return build_segmenter("small-seg", "none", classes)


def test_shapes_and_cost() -> None:
    net = small(5)
    images = torch.rand(2, 3, 33, 50)
    features = net.features(images)
    assert features.shape == (2, 64, 9, 13)
    assert net.classifier(features).shape == (2, 5, 9, 13)
    with torch.no_grad():
        assert net(images).shape == (2, 5, 33, 50)
    assert (net.cost.forward, net.cost.backward) == (4, 2)
    assert 2e5 < sum(p.numel() for p in net.parameters()) < 5e5


def test_forward_is_the_upsampled_classifier() -> None:
    net, images = small().eval(), torch.rand(1, 3, 32, 48)
    by_hand = upsample(net.classifier(net.features(images)), (32, 48))
    assert torch.equal(net(images), by_hand)


def test_every_parameter_is_in_a_group_and_stages_freeze() -> None:
    net = small()
    groups = net.parameter_groups(1.0)
    assert sum(len(g["params"]) for g in groups) == len(list(net.parameters()))
    net.freeze_trunk(1)
    net.train()
    assert not net.backbone.stem.training  # type: ignore[union-attr]
    assert not any(p.requires_grad for p in net.backbone.stem.parameters())  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="3 stages"):
        net.freeze_trunk(4)


@pytest.mark.parametrize(
    "name",
    ["small-seg", *TORCHVISION]
    + [pytest.param(f"fcn_resnet{n}", marks=pytest.mark.slow) for n in (50, 101)],
)
def test_one_image_in_training_mode(name: str) -> None:
    net = build_segmenter(name, "none", 3).train()
    out = net(torch.rand(1, 3, 32, 48))
    assert out.shape == (1, 3, 32, 48)
    torch.autograd.backward(out.square().mean())
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(
    "name", [*TORCHVISION[:2], pytest.param(TORCHVISION[2], marks=pytest.mark.slow)]
)
def test_torchvisions_state_gives_torchvisions_answers(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=4, aux_loss=None
    )
    images = torch.rand(2, 3, 40, 56)
    with torch.no_grad():
        theirs.train()(images)  # statistics of their own
    theirs.eval()
    path = tmp_path / "theirs.pt"
    torch.save({"state_dict": theirs.state_dict()}, path)
    ours = build_segmenter(name, str(path), 4).eval()
    assert ours.pretrained
    with torch.no_grad():
        expected = theirs((images - ours.mean) / ours.std)["out"]
        assert torch.allclose(ours(images), expected, atol=1e-4, rtol=1e-4)
    other = build_segmenter(name, str(path), 7)  # another number of classes: a fresh head
    assert other.classifier.weight.shape[0] == 7
    key = "backbone." + next(iter(other.backbone.state_dict()))
    assert torch.equal(other.state_dict()[key], ours.state_dict()[key])
    # the backbone alone; our own names
    torch.save(theirs.backbone.state_dict(), path)
    assert torch.equal(
        build_segmenter(name, str(path), 4).state_dict()[key], ours.state_dict()[key]
    )
    torch.save(ours.state_dict(), path)
    again = build_segmenter(name, str(path), 4)
    assert all(torch.equal(v, ours.state_dict()[k]) for k, v in again.state_dict().items())


def test_weight_files_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(small().state_dict(), path)
    loaded = build_segmenter("small-seg", str(path), 3)
    assert all(torch.equal(v, small().state_dict()[k]) for k, v in loaded.state_dict().items())
    with pytest.raises(ConfigError, match="no such file"):
        build_segmenter("small-seg", str(tmp_path / "absent.pt"), 3)
    torch.save({k: v for k, v in small().state_dict().items() if "deep" not in k}, path)
    with pytest.raises(CacheError, match=r"weights\.pt.*missing.*backbone\.deep"):
        build_segmenter("small-seg", str(path), 3)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CacheError, match=r"weights\.pt"):
        build_segmenter("small-seg", str(path), 3)


def test_names_of_the_other_task_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"segmentation network.*small-cnn"):
        build_classifier("small-seg", "none", 3)
    with pytest.raises(ConfigError, match=r"segmentation network.*small-cnn"):
        build_classifier("deeplabv3_resnet50", "none", 3)
    for name in ("small-cnn", "resnet18", "vit_tiny_patch16_224"):
        with pytest.raises(ConfigError, match=r"classification backbone.*small-seg"):
            build_segmenter(name, "none", 3)
    with pytest.raises(ConfigError, match="did you mean 'small-seg'"):
        build_segmenter("smal-seg", "none", 3)
    with pytest.raises(ConfigError, match="no pretrained"):
        build_segmenter("small-seg", "pretrained", 3)


def test_without_a_network_pretrained_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(ConfigError, match=r"no route to host.*--weights none or --weights PATH"):
        build_segmenter("deeplabv3_resnet50", "pretrained", 3)


def test_images_smaller_than_the_stride() -> None:
    with pytest.raises(ConfigError, match=r"48 x 7 px.*stride of small-seg, 8 px.*--image-size"):
        small()(torch.rand(1, 3, 7, 48))
