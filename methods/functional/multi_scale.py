"""Answers of a dense network over several scales and mirror images, brought back to one frame."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

#: CoTTA's scales for segmentation, nearest to 1 first
SCALES = (1.0, 0.75, 1.25, 0.5, 1.5, 1.75, 2.0)
#: sides are rounded to this many pixels
GRID = 8


def scaled_views(count: int, *, flip: bool) -> list[tuple[float, bool]]:
    """Return the first ``count`` pairs (scale, mirrored), nearest to the image itself first.

    Args:
        count: at least 1; there are 14 pairs.
        flip: False leaves the mirrored ones out; 7 pairs are left.

    Source: CoTTA (Wang et al., CVPR 2022), Sec. 4.1, segmentation.
    """
    mirrored = (False, True) if flip else (False,)
    return [(scale, side) for scale in SCALES for side in mirrored][:count]


def answer_at_scale(
    forward: Callable[[Tensor], Tensor], images: Tensor, scale: float, mirrored: bool
) -> Tensor:
    """Return a network's (B, K, H, W) logits for a scaled, mirrored view, in the images' frame.

    Args:
        forward: (B, 3, h, w) images -> (B, K, h, w) logits.
        images: (B, 3, H, W).
        scale: factor of both sides, which are then rounded to multiples of 8 pixels.
        mirrored: left and right exchanged.
    """
    frame = size = (images.shape[-2], images.shape[-1])
    if scale != 1:
        size = (_scaled(frame[0], scale), _scaled(frame[1], scale))
    view = _resized(images, size)
    logits = forward(view.flip(-1) if mirrored else view)
    return _resized(logits.flip(-1) if mirrored else logits, frame)


def _scaled(side: int, scale: float) -> int:
    return max(1, round(side * scale / GRID)) * GRID


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate bilinearly, unless the size is right."""
    if tuple(x.shape[-2:]) == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
