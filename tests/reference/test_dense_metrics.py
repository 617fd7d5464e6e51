"""Metrics of segmentation against torchmetrics' own, a loop in NumPy, and worked examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from dabench.contract.types import IGNORE
from dabench.errors import ConfigError, DataError
from dabench.metrics.segmentation import iou_scores, mean_iou, pixel_confusion


def drawn(seed: int, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (3, 7, 9) answers and truth with ignored pixels."""
    rng = np.random.default_rng(seed)
    predicted, truth = rng.integers(0, classes, (2, 3, 7, 9))
    truth[rng.random(truth.shape) < 0.2] = IGNORE
    return torch.from_numpy(predicted), torch.from_numpy(truth)


@pytest.mark.parametrize("seed", range(3))
def test_counts_and_scores_are_those_of_torchmetrics(seed: int) -> None:
    predicted, truth = drawn(seed)
    counts = pixel_confusion(predicted.to(torch.uint8), truth.to(torch.uint8), 5)
    theirs = MulticlassConfusionMatrix(5, ignore_index=IGNORE)
    assert torch.equal(counts, theirs(predicted, truth))
    jaccard = MulticlassJaccardIndex(5, average=None, ignore_index=IGNORE)
    found = iou_scores(counts)
    per_class = jaccard(predicted, truth)
    np.testing.assert_allclose(found["class_iou"], per_class.numpy(), rtol=1e-6)
    assert found["mIoU"] == pytest.approx(float(per_class.mean()))
    assert float(mean_iou(counts)) == pytest.approx(found["mIoU"])
    seen = truth != IGNORE
    assert found["pixel_accuracy"] == pytest.approx(
        float((predicted == truth)[seen].double().mean())
    )


@pytest.mark.parametrize("seed", range(3))
def test_iou_by_sets_of_pixels(seed: int) -> None:
    predicted, truth = (part.numpy() for part in drawn(seed))
    found = iou_scores(pixel_confusion(torch.from_numpy(predicted), torch.from_numpy(truth), 5))
    labelled = {tuple(p) for p in np.argwhere(truth != IGNORE)}
    for c in range(5):
        said = {tuple(p) for p in np.argwhere(predicted == c)} & labelled
        true = {tuple(p) for p in np.argwhere(truth == c)}
        assert found["class_iou"][c] == pytest.approx(len(said & true) / len(said | true))


def test_a_worked_example() -> None:
    truth = torch.tensor([[[0, 0, 1, IGNORE], [0, 0, 1, IGNORE]]])
    predicted = torch.tensor([[[0, 0, 0, 3], [0, 1, 1, 3]]])
    found = iou_scores(pixel_confusion(predicted, truth, 4))
    # class 0: 3 right, 1 missed, 1 too many; class 1: 1, 1, 1; nothing of 2, and 3 is ignored
    assert found["class_iou"] == [3 / 5, 1 / 3, None, None]
    assert found["mIoU"] == pytest.approx((3 / 5 + 1 / 3) / 2)
    assert found["pixel_accuracy"] == pytest.approx(4 / 6)
    predicted[0, 0, 0] = 2  # absent but answered
    found = iou_scores(pixel_confusion(predicted, truth, 4))
    assert found["class_iou"] == [2 / 5, 1 / 3, 0, None]
    assert found["mIoU"] == pytest.approx((2 / 5 + 1 / 3) / 3)


def test_nothing_to_score_is_a_hole() -> None:
    counts = pixel_confusion(torch.zeros(1, 2, 2).long(), torch.full((1, 2, 2), IGNORE), 3)
    found = {"mIoU": None, "pixel_accuracy": None, "class_iou": [None] * 3}
    assert iou_scores(counts) == found
    assert bool(mean_iou(counts).isnan())


def test_counts_of_parts_add_up() -> None:
    (p, t), (q, u) = drawn(0), drawn(1)
    whole = pixel_confusion(torch.cat((p, q)), torch.cat((t, u)), 5)
    assert torch.equal(whole, pixel_confusion(p, t, 5) + pixel_confusion(q, u, 5))


def test_what_is_wrong_is_said() -> None:
    three = torch.tensor([[[0, 3]]])
    with pytest.raises(DataError, match="expected classes 0 to 2, or 255"):
        pixel_confusion(torch.zeros_like(three), three, 3)
    with pytest.raises(ConfigError, match=r"0\.\.2"):
        pixel_confusion(three, torch.zeros_like(three), 3)
    with pytest.raises(DataError, match="one size"):
        pixel_confusion(three, three[..., :1], 3)
