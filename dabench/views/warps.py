"""Geometric views of dense tasks: one warp moves images, logits and masks alike.

Colour has no geometry: ``views.colour`` and ``views.blur`` serve dense images as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dabench.contract.types import IGNORE


@dataclass(frozen=True)
class Warp:
    """A mirror and then an affine map, with parameters of their own for each of B images.

    Coordinates are in units of half the height with the origin in the centre, so that a rotation
    stays one where images are not square, and one warp serves a feature map and its image. What
    is only mirrored is moved by ``torch.flip``, bit for bit.

    Attributes:
        mirror: (B,) bool, flipped left to right.
        affine: (B, 2, 3) map from places of the (mirrored) output to places of the input; None =
            identity.
    """

    mirror: Tensor
    affine: Tensor | None = None

    @classmethod
    def draw(
        cls,
        batch: int,
        *,
        flip: bool,
        scale: tuple[float, float] = (0.75, 1.25),
        degrees: float = 10.0,
        shift: float = 0.0,
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> Warp:
        """Draw B warps; they cost the same number of random numbers whatever is asked for.

        Args:
            batch: B.
            flip: mirror every other image, on average.
            scale: range of the factor of sizes, above 0; above 1 = things get larger.
            degrees: largest angle to either side.
            shift: largest shift to either side, as a share of the height (down, right alike).
            generator: on the CPU; None = torch's default one.
            device: where the images will be.
        """
        u = torch.rand(5, batch, generator=generator)
        mirror = (u[0] < 0.5) & flip
        if scale == (1.0, 1.0) and not degrees and not shift:
            return cls(mirror.to(device))
        zoom = 1.0 / (scale[0] + (scale[1] - scale[0]) * u[1])
        angle = math.radians(degrees) * (2 * u[2] - 1)
        cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
        dx, dy = (2 * shift * (2 * u[i] - 1) * zoom for i in (3, 4))
        rows = torch.stack((cos, -sin, dx), 1), torch.stack((sin, cos, dy), 1)
        return cls(mirror.to(device), torch.stack(rows, 1).to(device))

    def inverse(self) -> Warp:
        """Return the warp that brings everything back (where it did not leave the frame)."""
        if self.affine is None:
            return self
        linear = torch.linalg.inv(self.affine[:, :, :2])
        back = torch.cat((linear, -linear @ self.affine[:, :, 2:]), 2)
        # (flip, then A)^-1 = A^-1, then flip = flip, then (flip A^-1 flip)
        sign = torch.tensor([-1.0, 1.0], device=back.device)
        turned = back * sign[:, None] * torch.cat((sign, sign.new_ones(1)))
        return Warp(self.mirror, torch.where(self.mirror[:, None, None], turned, back))

    def apply(self, maps: Tensor) -> Tensor:
        """Move (B, C, H, W) images, logits or probabilities (bilinear, gradients pass).

        Pixels from out of the frame repeat its border (distributions stay such): leave them out
        with :meth:`valid`.
        """
        maps = self._flipped(maps)
        if self.affine is None:
            return maps
        grid = self._grid(maps.shape[-2:]).to(maps.dtype)
        return F.grid_sample(maps, grid, padding_mode="border", align_corners=False)

    def apply_masks(self, masks: Tensor, fill: int = IGNORE) -> Tensor:
        """Move (B, H, W) dense labels of any integer type (nearest); out of frame = ``fill``."""
        masks = self._flipped(masks)
        if self.affine is None:
            return masks
        grid = self._grid(masks.shape[-2:])
        moved = F.grid_sample(
            masks[:, None].to(grid), grid, "nearest", padding_mode="border", align_corners=False
        )[:, 0].to(masks.dtype)
        return moved.masked_fill(~_inside(grid), fill)

    def valid(self, shape: tuple[int, int]) -> Tensor:
        """Return (B, H, W) bool: the output pixels that come from within the frame.

        Args:
            shape: H and W of what is moved.
        """
        if self.affine is None:
            return torch.ones(len(self.mirror), *shape, dtype=torch.bool, device=self.mirror.device)
        return _inside(self._grid(torch.Size(shape)))

    def _flipped(self, x: Tensor) -> Tensor:
        mirror = self.mirror.view(-1, *[1] * (x.ndim - 1))
        return torch.where(mirror, x.flip(-1), x)

    def _grid(self, shape: torch.Size) -> Tensor:
        """Return (B, H, W, 2) places of the mirrored input in units of its half sides."""
        if self.affine is None:  # pragma: no cover - callers ask before
            raise ValueError("a warp without an affine part has no grid")
        height, width = shape
        aspect = width / height
        scale = self.affine.new_tensor([[1.0, 1 / aspect, 1 / aspect], [aspect, 1.0, 1.0]])
        size = [len(self.affine), 1, height, width]
        return F.affine_grid(self.affine * scale, size, align_corners=False)


def _inside(grid: Tensor) -> Tensor:
    return (grid.abs() <= 1 + 1e-6).all(-1)
