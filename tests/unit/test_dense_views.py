"""Warps of dense tasks: one map for images, logits and masks, there and back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dabench.contract.types import IGNORE
from dabench.views.warps import Warp

SHAPE = (40, 56)


def generator(value: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(value)


def blobs(batch: int) -> Tensor:
    """Return masks of coarse squares, (B, 40, 56) uint8."""
    small = torch.randint(0, 5, (batch, 5, 7), generator=generator(9), dtype=torch.uint8)
    return small.repeat_interleave(8, 1).repeat_interleave(8, 2)


def away_from_edges(masks: Tensor, margin: int = 2) -> Tensor:
    """Return where a window of pixels all have one label."""
    size = 2 * margin + 1
    one = torch.nn.functional.unfold(masks.float()[:, None], size, padding=margin)
    flat = (one == one[:, :1]).all(1).view_as(masks)
    flat[:, :margin], flat[:, -margin:] = False, False
    flat[..., :margin], flat[..., -margin:] = False, False
    return flat


def test_a_mirror_alone_is_exact() -> None:
    warp = Warp.draw(8, flip=True, scale=(1.0, 1.0), degrees=0.0, generator=generator(1))
    assert 0 < int(warp.mirror.sum()) < 8
    images, masks = torch.rand(8, 3, *SHAPE), blobs(8)
    for i, mirrored in enumerate(warp.mirror):
        assert torch.equal(warp.apply(images)[i], images[i].flip(-1) if mirrored else images[i])
        assert torch.equal(warp.apply_masks(masks)[i], masks[i].flip(-1) if mirrored else masks[i])
    assert warp.valid(SHAPE).all()
    assert torch.equal(warp.inverse().apply(warp.apply(images)), images)


def test_without_flip_nothing_is_mirrored() -> None:
    assert not Warp.draw(64, flip=False, generator=generator()).mirror.any()


def test_labels_come_back() -> None:
    warp = Warp.draw(
        16, flip=True, scale=(0.7, 1.4), degrees=10.0, shift=0.1, generator=generator(2)
    )
    masks, back = blobs(16), warp.inverse()
    there = warp.apply_masks(masks)
    again = back.apply_masks(there)
    kept = (again != IGNORE) & away_from_edges(masks)
    assert float(kept.float().mean()) > 0.2
    assert torch.equal(again[kept], masks[kept])
    assert not torch.equal(there, masks)


def test_smooth_images_come_back() -> None:
    warp = Warp.draw(6, flip=True, degrees=8.0, shift=0.05, generator=generator(3))
    y, x = torch.linspace(0, 3, 40, dtype=torch.float64), torch.linspace(0, 4, 56).double()
    image = (torch.sin(x)[None, :] * torch.cos(y)[:, None]).expand(6, 2, 40, 56).float()
    back = warp.inverse()
    again = back.apply(warp.apply(image))
    # what was in the frame on the way there, and is on the way back
    kept = back.apply_masks(warp.valid(SHAPE).to(torch.uint8), fill=0) == 1
    outside = torch.nn.functional.pad((~kept).float(), (2, 2, 2, 2), value=1.0)
    kept = torch.nn.functional.max_pool2d(outside, 5, 1) == 0  # its interior
    assert float(kept.float().mean()) > 0.5
    difference = (again - image).abs().amax(1)[kept]
    assert float(difference.max()) < 0.02


def test_pixels_from_out_of_the_frame_are_marked() -> None:
    small = Warp(torch.zeros(1, dtype=torch.bool), torch.tensor([[[2.0, 0, 0], [0, 2.0, 0]]]))
    valid = small.valid(SHAPE)[0]
    # everything at half its size: the middle half of each side is the image
    assert valid[10:30, 14:42].all()
    assert int(valid.sum()) == 20 * 28
    masks = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    assert torch.equal(small.apply_masks(masks)[0] == IGNORE, ~valid)
    # distributions stay distributions, out there too
    p = torch.rand(1, 4, *SHAPE).softmax(1)
    assert torch.allclose(small.apply(p).sum(1), torch.ones(1, *SHAPE), atol=1e-5)


def test_masks_and_images_move_alike() -> None:
    warp = Warp.draw(8, flip=True, degrees=10.0, shift=0.1, generator=generator(4))
    masks = blobs(8)
    one_hot = torch.nn.functional.one_hot(masks.long(), 5).permute(0, 3, 1, 2).float()
    moved, found = warp.apply_masks(masks), warp.apply(one_hot)
    sure = (found.amax(1) > 0.999) & warp.valid(SHAPE)
    assert float(sure.float().mean()) > 0.4
    assert torch.equal(found.argmax(1)[sure].to(torch.uint8), moved[sure])


def test_rotation_keeps_angles_where_images_are_not_square() -> None:
    turn = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])  # by 90 degrees
    image = torch.zeros(1, 1, 20, 60)
    image[..., 10:12, 34:36] = 1.0  # right of the middle (10, 30) by 5, below it by 1
    moved = Warp(torch.zeros(1, dtype=torch.bool), turn).apply(image)[0, 0]
    weight = moved / moved.sum()
    row, column = ((weight.sum(1 - d) * torch.arange(moved.shape[d])).sum() + 0.5 for d in (0, 1))
    assert (float(row), float(column)) == pytest.approx((5.0, 31.0), abs=0.01)


def test_one_warp_serves_image_and_feature_map() -> None:
    warp = Warp.draw(4, flip=True, degrees=10.0, generator=generator(5))
    ramp = torch.linspace(-1, 1, 28 * 8).expand(4, 1, 20 * 8, -1)
    small = torch.nn.functional.avg_pool2d(ramp, 8)
    inside = warp.valid((20, 28))
    inside[:, :2], inside[:, -2:], inside[..., :2], inside[..., -2:] = False, False, False, False
    difference = torch.nn.functional.avg_pool2d(warp.apply(ramp), 8) - warp.apply(small)
    assert float(difference.abs()[inside[:, None]].max()) < 0.03  # a pixel is a step of 0.07


def test_draws_are_repeatable_and_within_range() -> None:
    first, second = (Warp.draw(500, flip=True, generator=generator(6)) for _ in range(2))
    assert first.affine is not None
    assert second.affine is not None
    assert torch.equal(first.affine, second.affine)
    zoom = 1 / first.affine[:, :, 0].norm(dim=1)
    angle = torch.atan2(first.affine[:, 1, 0], first.affine[:, 0, 0]).rad2deg()
    assert 0.75 <= float(zoom.min()) < 0.78
    assert 1.22 < float(zoom.max()) <= 1.25
    assert 9 < float(angle.abs().max()) <= 10.001


def test_gradients_pass() -> None:
    logits = torch.rand(2, 3, *SHAPE, requires_grad=True)
    torch.autograd.backward(Warp.draw(2, flip=True, generator=generator()).apply(logits).sum())
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) > 0
