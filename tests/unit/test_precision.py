"""``--precision``: the passes of a network in a lower precision, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dabench
from dabench.config.spec import resolve
from dabench.errors import ConfigError
from dabench.networks import precision
from dabench.networks.foreign_dense import wrap_segmenter
from dabench.networks.network import ClassifierNetwork, build_classifier
from dabench.networks.precision import PRECISIONS, set_precision

IMAGES = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network() -> ClassifierNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_classifier("small-cnn", "none", 5)


def gradients(name: str | None, size: float = 1.0, pull: float = 0.0) -> list[Tensor]:
    """Return gradients of ``size`` times an entropy, and of a pull on the weights."""
    net = network().train()
    set_precision(net, name)
    answers = net(IMAGES).softmax(1)
    assert answers.dtype == torch.float32
    loss = -(answers * answers.log()).sum(1).mean() * size
    if pull:
        loss = loss + pull * sum(p.square().sum() for p in net.backbone.parameters())
    torch.autograd.backward(loss)
    found = [p.grad for p in net.backbone.parameters() if p.grad is not None]
    assert {g.dtype for g in found} == {torch.float32}
    return found


def cosine(one: list[Tensor], two: list[Tensor]) -> float:
    flat = [torch.cat([g.flatten() for g in each]).double() for each in (one, two)]
    return float(torch.cosine_similarity(flat[0], flat[1], dim=0))


@pytest.mark.parametrize("name", PRECISIONS)
def test_features_are_near_and_whole(name: str) -> None:
    net = network().eval()
    usual = net.features(IMAGES)
    set_precision(net, name)
    found = net.features(IMAGES)
    assert found.dtype == torch.float32
    assert not torch.equal(found, usual)
    assert torch.allclose(found, usual, atol=0.02 * float(usual.detach().abs().max()))
    assert {p.dtype for p in net.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", PRECISIONS)
def test_gradients_have_the_direction_and_length_of_32(name: str) -> None:
    usual, found = gradients(None), gradients(name)
    assert len(found) == len(usual)
    assert cosine(found, usual) > {"bf16": 0.97, "fp16": 0.999}[name]  # 8 and 11 binary digits
    lengths = [torch.cat([g.flatten() for g in each]).norm() for each in (found, usual)]
    assert float(lengths[0] / lengths[1]) == pytest.approx(1, abs=0.05)


def test_gradients_that_float16_cannot_hold_do_not_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entropies near their end are so small."""
    size = 1e-5
    usual = gradients(None, size)
    assert cosine(gradients("fp16", size), usual) > 0.99
    monkeypatch.setattr(precision, "SCALE", 1.0)
    assert cosine(gradients("fp16", size), usual) < 0.99


def test_a_pull_on_the_weights_is_not_scaled() -> None:
    with_it, without = gradients("fp16", 1.0, 0.5), gradients("fp16", 1.0)
    pulls = [one - two for one, two in zip(with_it, without, strict=True)]
    for pull, weight in zip(pulls, network().backbone.parameters(), strict=True):
        assert torch.allclose(pull, weight.detach(), atol=1e-4)


def test_gradients_of_images() -> None:
    def of_images(name: str | None) -> Tensor:
        net, images = network().eval(), IMAGES.clone().requires_grad_()
        set_precision(net, name)
        return torch.autograd.grad(net(images).square().sum(), images)[0]

    usual = of_images(None)
    for name in PRECISIONS:
        assert cosine([of_images(name)], [usual]) > 0.98
        assert float(of_images(name).norm() / usual.norm()) == pytest.approx(1, abs=0.05)


class Segmenter(nn.Module):
    """A user's model, whose answers lie in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 4, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": self.head(self.trunk(images).relu())}


@pytest.mark.parametrize("headless", [False, True])
def test_a_segmenter_of_somebody_else(headless: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Segmenter()
    if headless:  # something stands behind the head: trunk and classifier are one
        model.head = nn.Sequential(model.head, nn.Softplus())  # type: ignore[assignment]
    net = wrap_segmenter(model, 4, IMAGES)
    assert (net.head_name is None) == headless
    usual = net(IMAGES)
    for name in PRECISIONS:
        set_precision(net, name)
        found = net(IMAGES)
        assert found.dtype == torch.float32
        assert not torch.equal(found, usual)
        assert torch.allclose(found, usual, atol=0.02)
        torch.autograd.backward(found.square().mean())
        assert net.backbone.trunk.weight.grad is not None  # type: ignore[union-attr]


def test_it_stands_in_a_spec_only_where_it_is_lower() -> None:
    given = {"method": "tent", "protocol": "online-tta", "dataset": "digits"}
    [plain], [named] = resolve(given), resolve({**given, "precision": "32"})
    assert plain == named
    assert "precision" not in plain.to_dict()
    [lower] = resolve({**given, "precision": "bf16"})
    assert lower.to_dict()["precision"] == "bf16"
    with pytest.raises(ConfigError, match="--precision half: expected 32, bf16, fp16"):
        resolve({**given, "precision": "half"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "protocol"), [("tent", "online-tta"), ("shot", "sf-uda"), ("dine", "bb-uda")]
)
def test_a_run_in_bf16_starts_from_the_same_source_model(
    method: str, protocol: str, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"protocol": protocol, "source_epochs": 1, "threads": 1}
    given |= {"results": tmp_path, "cache_dir": tmp_path / "cache", "device": "cpu"}
    short = {"protocol_options": {"shifts": "fog:3"}}
    given |= {"epochs": 1} if protocol != "online-tta" else short
    usual = dabench.run(method, **given)
    found = dabench.run(method, precision="bf16", **given)
    assert found.record["ids"]["source"] == usual.record["ids"]["source"]
    assert found.record["spec"]["precision"] == "bf16"
    assert found.record["scores"] != usual.record["scores"]
