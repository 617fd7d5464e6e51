"""Weak and strong views: batched on the device, with parameters of their own for every image.

(torchvision's v2 transforms draw one choice for a whole batch.) All functions map (B, 3, S, S)
float images in [0, 1] to the same shape and range, and draw from torch's default generator.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    return torch.empty(len(images), device=images.device).uniform_(low, high)


def affine(images: Tensor, *, rotate: float, scale: float, translate: float, flip: bool) -> Tensor:
    """Turn, scale, shift and mirror every image by an affine map of its own (bilinear).

    Args:
        images: (B, 3, S, S) in [0, 1].
        rotate: largest angle to either side, in radians.
        scale: sizes change by a factor of 1 / (1 +- this), below 1.
        translate: largest shift to either side, as a share of the side, down and right alike.
        flip: mirror every other image, on average.

    Returns:
        (B, 3, S, S) in [0, 1]; what comes from out of the frame repeats its border.
    """
    angle = _uniform(images, -rotate, rotate)
    zoom = _uniform(images, 1 - scale, 1 + scale)
    mirror = torch.ones_like(angle)
    if flip:
        mirror = torch.where(_uniform(images, 0, 1) < 0.5, -mirror, mirror)
    cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
    dx, dy = (
        _uniform(images, -translate, translate) * 2,
        _uniform(images, -translate, translate) * 2,
    )
    theta = torch.stack(
        (torch.stack((cos * mirror, -sin, dx), 1), torch.stack((sin * mirror, cos, dy), 1)), 1
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def colour(images: Tensor, *, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Scale brightness, contrast and saturation by factors of their own for every image.

    Args:
        images: (B, 3, H, W) in [0, 1].
        brightness: factors of 1 +- this, from 0 to 1.
        contrast: likewise, of the distance to the image's mean.
        saturation: likewise, of the distance to each pixel's mean over the channels.

    Returns:
        (B, 3, H, W), cut to [0, 1].
    """

    def factor(amount: float) -> Tensor:
        return _uniform(images, 1 - amount, 1 + amount).view(-1, 1, 1, 1)

    out = images * factor(brightness)
    mean = out.mean(dim=(1, 2, 3), keepdim=True)
    out = mean + (out - mean) * factor(contrast)
    grey = out.mean(dim=1, keepdim=True)
    out = grey + (out - grey) * factor(saturation)
    return out.clamp(0, 1)


def erase(images: Tensor, *, share: float) -> Tensor:
    """Paint one square of every (B, 3, S, S) image with its mean colour, at a place of its own.

    Args:
        images: (B, 3, S, S) in [0, 1].
        share: side of the square as a share of S, in [0, 1]; one pixel at least.
    """
    side = images.shape[-1]
    size = max(1, int(side * share))
    grid = torch.arange(side, device=images.device)
    left = (_uniform(images, 0, 1) * (side - size + 1)).long()[:, None]
    top = (_uniform(images, 0, 1) * (side - size + 1)).long()[:, None]
    columns = (grid >= left) & (grid < left + size)
    rows = (grid >= top) & (grid < top + size)
    mask = (rows[:, None, :, None] & columns[:, None, None, :]).to(images.dtype)
    return images * (1 - mask) + images.mean(dim=(2, 3), keepdim=True) * mask


def blur(images: Tensor, *, most: float) -> Tensor:
    """Blend every image with its 3 x 3 binomial blur by a share of its own.

    Args:
        images: (B, 3, H, W) in [0, 1].
        most: largest share of the blur, in [0, 1].

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    line = torch.tensor([0.25, 0.5, 0.25], device=images.device, dtype=images.dtype)
    kernel = (line[:, None] * line[None, :]).expand(3, 1, 3, 3)
    soft = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    amount = _uniform(images, 0, most).view(-1, 1, 1, 1)
    return images + amount * (soft - images)


def weak(images: Tensor, *, flip: bool) -> Tensor:
    """Shift (6 %) and zoom (10 %) (B, 3, S, S) images in [0, 1]; mirror where the data allow it."""
    return affine(images, rotate=0.0, scale=0.1, translate=0.06, flip=flip)


def strong(images: Tensor, *, flip: bool) -> Tensor:
    """Turn, shift, zoom, colour and blur (B, 3, S, S) images in [0, 1], and hide a square.

    Stands in for the AutoAugment policy of the literature (docs/comparability.md says so).
    """
    out = affine(images, rotate=0.35, scale=0.2, translate=0.1, flip=flip)
    out = colour(out, brightness=0.4, contrast=0.4, saturation=0.4)
    return erase(blur(out, most=1.0), share=0.25)
