"""Photometric views of dense tasks: what changes colour and sharpness and moves no pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

#: weights of red, green and blue in a grey value (ITU-R BT.601)
LUMA = (0.299, 0.587, 0.114)
#: the blur's kernel reaches 3 sigma of the widest blur, in pixels
REACH = 6


@dataclass(frozen=True)
class Photometric:
    """Colour jitter, blur and greyscale, with parameters of their own for each of B images.

    Attributes:
        brightness: (B,) factors of the image.
        contrast: (B,) factors of the distance to the image's mean grey.
        colours: (B, 3, 3) matrices on (red, green, blue): saturation, hue, greyscale.
        sigma: (B,) standard deviations of the Gaussian blur in pixels.
    """

    brightness: Tensor
    contrast: Tensor
    colours: Tensor
    sigma: Tensor

    @classmethod
    def draw(
        cls,
        batch: int,
        *,
        jitter: float = 0.4,
        hue: float = 0.1,
        sigma: tuple[float, float] = (0.1, 2.0),
        grey: float = 0.2,
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> Photometric:
        """Draw the parameters of B views.

        Args:
            batch: B.
            jitter: brightness, contrast and saturation have factors of 1 +- this.
            hue: largest turn of the hue to either side, as a share of the full circle.
            sigma: range of the blur.
            grey: probability of a view without colour.
            generator: on the CPU; None = torch's default one.
            device: where the images will be.
        """
        u = torch.rand(6, batch, generator=generator)
        factor = 1 + jitter * (2 * u[:3] - 1)
        saturation = factor[2].masked_fill(u[3] < grey, 0.0)
        colours = _turn(2 * math.pi * hue * (2 * u[4] - 1)) @ _saturate(saturation)
        width = sigma[0] + (sigma[1] - sigma[0]) * u[5]
        return cls(*(t.to(device) for t in (factor[0], factor[1], colours, width)))

    def apply(self, images: Tensor) -> Tensor:
        """Change (B, 3, H, W) images in [0, 1]."""
        out = images * self.brightness.view(-1, 1, 1, 1)
        luma = out.new_tensor(LUMA).view(1, 3, 1, 1)
        mean = (out.mean((2, 3), keepdim=True) * luma).sum(1, keepdim=True)
        out = mean + (out - mean) * self.contrast.view(-1, 1, 1, 1)
        out = (self.colours.to(out) @ out.flatten(2)).view_as(out).clamp(0, 1)
        return _blurred(out, self.sigma).clamp(0, 1)  # rounding


def _saturate(factor: Tensor) -> Tensor:
    """Return (B, 3, 3) matrices that scale the distance of a colour to its grey."""
    grey = torch.tensor(LUMA).expand(3, 3)
    return grey + factor.view(-1, 1, 1) * (torch.eye(3) - grey)


def _turn(angle: Tensor) -> Tensor:
    """Return (B, 3, 3) rotations about the axis of greys, by angles in radians."""
    axis = torch.full((3,), 1 / math.sqrt(3))
    cross = torch.linalg.cross(axis.expand(3, 3), torch.eye(3))
    cos, sin = (f(angle).view(-1, 1, 1) for f in (torch.cos, torch.sin))
    turn: Tensor = cos * torch.eye(3) + sin * cross.T + (1 - cos) * torch.outer(axis, axis)
    return turn


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Convolve (B, C, H, W) images with Gaussians of (B,) widths; the border is repeated."""
    places = torch.arange(-REACH, REACH + 1, device=images.device, dtype=images.dtype)
    kernel = (-0.5 * (places / sigma[:, None]).square()).exp()
    kernel = kernel / kernel.sum(1, keepdim=True)
    batch, channels, height, width = images.shape
    line = kernel.repeat_interleave(channels, 0)[:, None]
    out = images.reshape(1, -1, height, width)
    groups = batch * channels
    out = F.pad(out, (REACH, REACH, REACH, REACH), mode="replicate")
    out = F.conv2d(out, line[:, :, :, None], groups=groups)
    return F.conv2d(out, line[:, :, None], groups=groups).view(images.shape)
