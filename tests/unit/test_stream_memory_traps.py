"""Where NOTE, RMT, AdaContrast and REM go wrong, and what bad input meets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dabench import registry
from dabench.config.signature import validate_options
from dabench.contract.access import Online, Recorder, TargetBatch
from dabench.contract.types import Task
from dabench.errors import ConfigError
from dabench.methods.functional.feature_queue import FeatureQueue
from dabench.networks.network import ClassifierNetwork, build_classifier

SIDE, BATCH = 8, 6
VIT: dict[str, Any] = {"img_size": SIDE, "patch_size": 2, "embed_dim": 8, "depth": 4}
OPTIONS: dict[str, dict[str, Any]] = {
    "adacontrast-online": {"queue": 20, "warm_up": 6},
    "rmt": {},
    "note": {"memory": 4, "every": 3},
    "rem": {},
}


def convolutional(k: int) -> ClassifierNetwork:
    """Two BatchNorm layers; the second sees one value per channel."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8)),
        )
        return ClassifierNetwork(backbone, 8, k, bottleneck=0, weight_norm=False).eval()


def transformer(k: int, **how: Any) -> ClassifierNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = VisionTransformer(**(VIT | {"num_heads": 2, "num_classes": 0} | how))
        return ClassifierNetwork(vit, 8, k, bottleneck=0, weight_norm=False).eval()


def begun(name: str, k: int = 5, net: Any = None, side: int = SIDE, **options: Any) -> Any:
    torch.manual_seed(0)
    method = registry.method(name)(**(OPTIONS[name] | options))
    task = Task("classification", tuple(map(str, range(k))), side)
    usual = transformer(k) if name == "rem" else convolutional(k)
    method.begin(Online(task, net or usual, BATCH, 0, Recorder()))
    return method


def images(count: int = BATCH, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def push(method: Any, x: Tensor) -> Tensor:
    logits: Tensor = method.step(TargetBatch(x, torch.arange(len(x))))
    assert torch.isfinite(logits).all()
    return logits


@pytest.mark.parametrize("k", [2, 1000])
@pytest.mark.parametrize("name", OPTIONS)
def test_few_and_many_classes(name: str, k: int) -> None:
    """NOTE's memory has fewer places than there are classes, or one class fills it."""
    method = begun(name, k)
    for x in (images(), images(1, 1), images(6, 2)):
        assert push(method, x).shape == (len(x), k)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_batch_of_one_picture_six_times(name: str) -> None:
    """All features are equal; every key of the queue but the own is alike."""
    method = begun(name)
    same = images(1).expand(BATCH, -1, -1, -1)
    for x in (same, same, images(6, 3)):
        push(method, x)
    assert all(torch.isfinite(p).all() for p in method.net.parameters())


# -- NOTE ------------------------------------------------------------------------------------------


def test_note_answers_every_image_by_itself() -> None:
    whole = push(begun("note", every=100), images())
    method = begun("note", every=100)
    alone = torch.cat([push(method, x) for x in images().split(1)])
    torch.testing.assert_close(whole, alone)


def test_note_answers_an_image_before_it_learns_from_it_inside_a_batch_too() -> None:
    """A batch of six with a step every three images is two batches of three."""
    whole = push(begun("note", lr=0.1), images())
    method = begun("note", lr=0.1)
    halves = torch.cat([push(method, x) for x in images().split(3)])
    assert method.update.steps == 2
    torch.testing.assert_close(whole, halves)
    still = push(begun("note", lr=0.1, every=100), images())
    torch.testing.assert_close(whole[:3], still[:3])
    assert not torch.allclose(whole[3:], still[3:], atol=1e-3)


def test_notes_memory_stays_even_on_a_stream_whose_classes_come_in_runs() -> None:
    method = begun("note", k=3, memory=6)
    for label in (0, 0, 0, 1, 2):
        method.reservoir.add(images(10), torch.full((10,), label))
    assert torch.bincount(method.reservoir.labels).tolist() == [2, 2, 2]
    assert method.reservoir.seen.tolist() == [30, 10, 10]


def test_notes_memory_is_a_buffer_by_name() -> None:
    assert registry.method("note").extras == {"buffer"}
    assert "rho" not in validate_options(registry.method("note"), {}, "method")
    assert "converted" in (registry.method("note").__doc__ or "")


def test_a_memory_of_one_image_moves_no_statistics_of_single_values() -> None:
    method = begun("note", memory=1, every=1)
    before = method.net.backbone[5].running_var.clone()
    push(method, images(1))
    assert method.update.steps == 1
    assert torch.equal(before, method.net.backbone[5].running_var)
    assert torch.isfinite(method.net.backbone[1].running_var).all()


# -- RMT -------------------------------------------------------------------------------------------


def test_rmt_asks_for_nothing_of_the_source_but_its_model() -> None:
    """The published method replays labelled source images, and warms up on 50,000 of them."""
    cls = registry.method("rmt")
    assert cls.extras == frozenset()
    options = validate_options(cls, {}, "method")
    assert not [name for name in options if "source" in name or "warm" in name]
    assert "without source data" in " ".join((cls.__doc__ or "").split())
    method = begun("rmt")
    assert torch.equal(method.prototypes, convolutional(5).classifier.weight)
    push(method, images())
    assert torch.equal(method.prototypes, convolutional(5).classifier.weight)
    assert not torch.equal(method.net.classifier.weight, method.prototypes)


def test_rmts_answer_is_the_sum_of_both_networks() -> None:
    method = begun("rmt")
    push(method, images())
    with torch.no_grad():
        student, teacher = method.net(images()), method.teacher(images())
    assert not torch.allclose(student, teacher)
    torch.testing.assert_close(push(method, images()), student + teacher)


@pytest.mark.parametrize("name", ["rmt", "adacontrast-online"])
def test_a_head_that_is_no_linear_layer_is_refused(name: str) -> None:
    net = convolutional(5)
    net.classifier = nn.Sequential(nn.Linear(8, 5))
    with pytest.raises(ConfigError, match=rf"^{name}: .* ends in Sequential.*nn\.Linear"):
        begun(name, net=net)


# -- AdaContrast -----------------------------------------------------------------------------------


def test_neighbours_say_the_labels_once_enough_images_were_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def watch(z: Tensor, bank: Tensor, p: Tensor, count: int) -> Tensor:
        asked.append(len(bank))
        return p[: len(z)]

    name = "dabench.methods.online.adacontrast_online.bank_probabilities"
    monkeypatch.setattr(name, watch)
    method = begun("adacontrast-online", warm_up=12, queue=15)
    for seed in range(4):
        push(method, images(6, seed))
    assert asked == [12, 15]


def test_adacontrast_answers_after_its_step_by_running_statistics() -> None:
    """One image is answered as it would be among others."""
    method = begun("adacontrast-online")
    found = push(method, images())
    with torch.no_grad():
        torch.testing.assert_close(found[:1], method.predict(images()[:1]).logits)


def test_a_batch_larger_than_the_queue_leaves_its_last_images() -> None:
    queue = FeatureQueue(torch.zeros(4, 1), torch.full((4,), -1))
    queue.put(torch.arange(3.0)[:, None], torch.arange(3))
    assert len(queue) == 3
    queue.put(torch.arange(10.0, 16.0)[:, None], torch.arange(10, 16))
    features, labels = queue.stored()
    assert sorted(labels.tolist()) == [12, 13, 14, 15]
    assert features[:, 0].long().tolist() == labels.tolist()
    queue.put(torch.tensor([[20.0]]), torch.tensor([20]))
    assert sorted(queue.answers.tolist()) == [13, 14, 15, 20]


# -- REM -------------------------------------------------------------------------------------------


def no_class_token(k: int) -> ClassifierNetwork:
    return transformer(k, class_token=False, global_pool="avg")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_class_token, r"^rem: .*without a class token.*vit_tiny_patch16_224"),
        (lambda k: build_classifier("small-vit", "none", k), r"^rem: .*no vision transformer of"),
        (convolutional, r"^rem: .*no vision transformer of timm"),
    ],
    ids=["no-class-token", "other-transformer", "convolutional"],
)
def test_networks_that_rem_does_not_know_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        begun("rem", net=make(5))


@pytest.mark.parametrize(
    "how",
    [
        {"reg_tokens": 2},
        {"global_pool": "avg"},
        {"pre_norm": True, "qk_norm": True},
        {"no_embed_class": True, "init_values": 0.1, "fc_norm": True, "drop_rate": 0.5},
    ],
    ids=["registers", "mean", "pre-norm", "layer-scale"],
)
def test_rem_on_the_forms_that_timm_has(how: dict[str, Any]) -> None:
    method = begun("rem", net=transformer(5, **how), lr=1e-2)
    before = method.net.backbone.blocks[0].norm1.weight.clone()
    for seed in range(2):
        push(method, images(6, seed))
    assert method.update.steps == 2
    assert method.update.skipped == 0
    assert not torch.equal(before, method.net.backbone.blocks[0].norm1.weight)
    assert not method.net.backbone.patch_drop._forward_hooks


def test_rem_leaves_out_the_patches_that_the_class_token_looks_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dabench.methods.functional import vision_tokens
    from dabench.methods.online import rem

    kept: list[Tensor] = []

    def watch(vit: Any, places: Tensor) -> Any:
        kept.append(places)
        return vision_tokens.kept_patches(vit, places)

    monkeypatch.setattr(rem, "kept_patches", watch)
    method = begun("rem", passes=4, share=0.3)
    with torch.no_grad(), vision_tokens.watched_attention(method.net.backbone) as found:
        method.net(images())
    push(method, images())
    assert [places.shape[1] for places in kept] == [11, 6, 1]  # of 16: .7, .4 and .1 of them
    for places in kept:
        for row, attention in zip(places, found[0], strict=True):
            left = set(range(16)) - set(row.tolist())
            assert attention[row].max() <= attention[list(left)].min()


def test_rem_refuses_passes_that_see_nothing() -> None:
    with pytest.raises(ConfigError, match=r"--method.passes 5: .*lack 1.2 of the patches"):
        registry.method("rem")(passes=5, share=0.3)
    with pytest.raises(ConfigError, match=r"--method.passes"):
        validate_options(registry.method("rem"), {"passes": 1}, "method")
