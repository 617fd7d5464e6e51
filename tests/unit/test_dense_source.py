"""Source models of segmentation: trained on frames, cached behind the same door."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dabench.contract.data import Frames
from dabench.contract.protocol import DensePlan
from dabench.contract.types import IGNORE
from dabench.errors import ConfigError, DataError
from dabench.networks.dense import DenseNetwork
from dabench.source_models import classifier, loading, segmenter

RECIPE = classifier.Recipe("small-seg", "none", 1)


@pytest.fixture(scope="module")
def cached(
    dense_plan: DensePlan, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, loading.SourceModel]:
    cache = tmp_path_factory.mktemp("cache")
    return cache, loading.load_or_train(RECIPE, dense_plan, 0, cache, "cpu", False)


def test_a_model_is_trained_once(
    cached: tuple[Path, loading.SourceModel], dense_plan: DensePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("trained again")

    cache, first = cached
    monkeypatch.setattr(loading, "_train_dense", never)
    again = loading.load_or_train(RECIPE, dense_plan, 0, cache, "cpu", False)
    assert (again.id, again.val_accuracy) == (first.id, first.val_accuracy)
    assert isinstance(again.network, DenseNetwork)
    assert not again.network.training


def test_training_repeats_and_depends_on_seed_and_frames(
    cached: tuple[Path, loading.SourceModel], dense_plan: DensePlan, tmp_path: Path
) -> None:
    torch.manual_seed(77)
    again = loading.load_or_train(RECIPE, dense_plan, 0, tmp_path, "cpu", False)
    assert again.id == cached[1].id
    other = dataclasses.replace(dense_plan.source, digest="other")
    keys = {
        loading._key(RECIPE, dense_plan, 0),
        loading._key(RECIPE, dense_plan, 1),
        loading._key(RECIPE, dataclasses.replace(dense_plan, source=other), 0),
        loading._key(dataclasses.replace(RECIPE, epochs=2), dense_plan, 0),
    }
    assert len(keys) == 4


def test_it_learns(dense_plan: DensePlan, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=25)
    model = loading.load_or_train(recipe, dense_plan, 0, tmp_path, "cpu", False)
    assert model.val_accuracy > 0.7


def test_the_key_of_classification_is_what_it_was() -> None:
    """Models in the caches of users stay valid: the key is frozen."""
    task = SimpleNamespace(classes=("a", "b"), flip=True)
    plan: Any = SimpleNamespace(
        task=task, source=SimpleNamespace(digest="s"), source_val=SimpleNamespace(digest="v")
    )
    recipe = classifier.Recipe("small-cnn", "none", 3)
    assert loading._key(recipe, plan, 5) == "310a5a862927645f52e17400b5acbfd2"


def test_a_damaged_file_is_named_and_made_again(
    cached: tuple[Path, loading.SourceModel],
    dense_plan: DensePlan,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "sources" / loading._key(RECIPE, dense_plan, 0) / "model.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"noise" * 99)
    again = loading.load_or_train(RECIPE, dense_plan, 0, tmp_path, "cpu", False)
    assert f"cached source model {path} cannot be used" in caplog.text
    assert (again.id, again.val_accuracy) == (cached[1].id, cached[1].val_accuracy)


def test_augmented_images_and_masks_stay_together(dense_plan: DensePlan) -> None:
    """Where images are a function of masks they are so after every view."""
    masks = np.array(dense_plan.source.masks[np.arange(16)])
    frames = Frames(np.repeat((masks.clip(0, 2) * 100)[..., None], 3, 3), masks, "x")
    torch.manual_seed(0)
    shares = []
    batches = segmenter.augmented_batches(frames, dense_plan.task, 8, 0, "cpu", jitter=0.0)
    for images, moved in itertools.islice(batches, 8):
        assert moved.dtype == torch.uint8
        grey = images.mean(1) * 2.55
        labelled = moved != IGNORE
        # whole classes away from borders between them, where bilinear differs from nearest
        right = (grey.round() == moved)[labelled]
        assert float(right.float().mean()) > 0.9
        shares.append(float(labelled.float().mean()))
    assert np.mean(shares) < 0.92  # in the frames it is .94: more came from out of them


def test_whole_epochs_are_shown() -> None:
    shown = list(itertools.islice(segmenter.shuffled_batches(10, 3, 1), 6))
    for epoch in (shown[:3], shown[3:]):
        assert len(set(np.concatenate(epoch).tolist())) == 9
    few = itertools.islice(segmenter.shuffled_batches(2, 8, 1), 2)
    assert [len(rows) for rows in few] == [2, 2]


def test_loss_leaves_unlabelled_pixels_out() -> None:
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    masks = torch.randint(0, 3, (2, 4, 5), dtype=torch.uint8)
    masks[0] = IGNORE
    loss = segmenter.pixel_loss(logits, masks)
    expected = torch.nn.functional.cross_entropy(logits[1:], masks[1:].long())
    assert torch.allclose(loss, expected)
    torch.autograd.backward(loss)
    assert logits.grad is not None
    assert not logits.grad[0].any()
    assert segmenter.pixel_loss(logits, torch.full_like(masks, IGNORE)).item() == 0.0


def test_mean_iou_by_hand(dense_plan: DensePlan) -> None:
    """Two classes, one never present nor predicted: it does not count."""

    class Left(torch.nn.Module):
        mean = torch.zeros(1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            out = torch.zeros(len(images), 3, *images.shape[-2:])
            out[:, 0, :, :24] = 1.0
            out[:, 1, :, 24:] = 1.0
            return out

    masks = np.zeros((3, 32, 48), dtype=np.uint8)
    masks[:, :, 36:] = 1
    masks[:, 16:] = IGNORE
    frames = Frames(np.zeros((3, 32, 48, 3), dtype=np.uint8), masks, "x")
    net: Any = Left()
    assert segmenter.mean_iou(net, frames, dense_plan.task) == pytest.approx((24 / 36 + 0.5) / 2)
    masks[:] = IGNORE
    with pytest.raises(DataError, match="nothing to score"):
        segmenter.mean_iou(net, frames, dense_plan.task)


def test_bad_frames_are_refused(dense_plan: DensePlan, tmp_path: Path) -> None:
    masks = np.array(dense_plan.source.masks[np.arange(16)])
    masks[3, 0, 0] = 9
    frames = dataclasses.replace(dense_plan.source, masks=masks)
    with pytest.raises(DataError, match="label 9; expected 0 to 2"):
        segmenter.load_batch(frames, np.arange(16), dense_plan.task)
    cut = dataclasses.replace(dense_plan.source, masks=masks[:, :30])
    with pytest.raises(DataError, match=r"48 x 32 px, mask of 48 x 30"):
        segmenter.load_batch(cut, np.arange(2), dense_plan.task)
    task = dataclasses.replace(dense_plan.task, image_size=6)
    with pytest.raises(ConfigError, match="stride of small-seg"):
        loading.load_or_train(
            RECIPE, dataclasses.replace(dense_plan, task=task), 0, tmp_path, "cpu", False
        )
