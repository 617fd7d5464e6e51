"""Views in which the shape of things is gone while colours and textures stay (DeYO)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Destruction = Literal["patches", "occlusion", "pixels"]


def destroyed_view(images: Tensor, kind: Destruction, grid: int) -> Tensor:
    """Return (B, 3, H, W) images without their shapes.

    ``patches``: see :func:`shuffled_patches`; ``occlusion``: see :func:`occluded`; ``pixels``: all
    pixels in one random order, the same for all images.
    """
    if kind == "patches":
        return shuffled_patches(images, grid)
    if kind == "occlusion":
        return occluded(images)
    order = torch.randperm(images.shape[2] * images.shape[3]).to(images.device)
    return images.flatten(2)[:, :, order].view_as(images)


def shuffled_patches(images: Tensor, grid: int) -> Tensor:
    """Return images whose ``grid`` x ``grid`` patches are in a random order, its own for each.

    Sides that are no multiple of ``grid`` are first resized to the multiple below, and back
    afterwards.

    Args:
        images: (B, C, H, W), H and W at least ``grid``.
        grid: patches a side.

    Raises:
        ValueError: images with fewer pixels than patches a side.

    Source: DeYO (Lee et al., ICLR 2024), authors' code.
    """
    batch, channels, height, width = images.shape
    high, wide = height // grid, width // grid
    if not high or not wide:
        raise ValueError(f"images of {height} x {width} pixels have no {grid} patches a side")
    whole = _resized(images, high * grid, wide * grid)
    parts = whole.view(batch, channels, grid, high, grid, wide).permute(0, 2, 4, 1, 3, 5)
    parts = parts.reshape(batch, grid * grid, channels, high, wide)
    order = torch.rand(batch, grid * grid).argsort(1).to(images.device)
    parts = parts[torch.arange(batch, device=images.device)[:, None], order]
    parts = parts.view(batch, grid, grid, channels, high, wide).permute(0, 3, 1, 4, 2, 5)
    return _resized(parts.reshape(whole.shape), height, width)


def occluded(images: Tensor) -> Tensor:
    """Return images with their middle, half a side each way, in their mean colour.

    Source: DeYO (Lee et al., ICLR 2024), authors' code: 112 pixels of 224, from 56 on.
    """
    height, width = images.shape[-2:]
    top, left = height // 4, width // 4
    out = images.clone()
    out[:, :, top : top + height // 2, left : left + width // 2] = images.mean((2, 3), keepdim=True)
    return out


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    if images.shape[-2:] == (height, width):
        return images
    size = (height, width)
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def pseudo_label_drop(p: Tensor, destroyed: Tensor) -> Tensor:
    """Return the (N,) probabilities of the predicted classes less those in the destroyed views.

    Args:
        p: (N, K) probabilities.
        destroyed: (N, K) probabilities of the views without shapes.

    Source: DeYO (Lee et al., ICLR 2024), PLPD, authors' code.
    """
    label = p.argmax(1, keepdim=True)
    return (p.gather(1, label) - destroyed.gather(1, label)).squeeze(1)
