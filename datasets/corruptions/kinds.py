"""The 15 corruptions of ImageNet-C and CIFAR-C, and the 4 extra (Hendrycks & Dietterich, 2019).

*Benchmarking Neural Network Robustness to Common Corruptions and Perturbations*. Constants, order
of operations and strength are the original's, written anew for speed and any size from 16 × 16
pixels; docs/corruptions.md lists the constants and every deviation. Pictures whose shorter side
is below 64 pixels take CIFAR-C's constants, all others ImageNet-C's. Names begin with ``c-``:
these are not dabench's own weather.
"""

from __future__ import annotations

from dabench.datasets.corruptions.blur import defocus_blur, motion_blur, zoom_blur
from dabench.datasets.corruptions.digital import contrast, jpeg_compression, pixelate
from dabench.datasets.corruptions.elastic import elastic_transform
from dabench.datasets.corruptions.extra import (
    gaussian_blur,
    saturate,
    spatter,
    speckle_noise,
)
from dabench.datasets.corruptions.glass import glass_blur
from dabench.datasets.corruptions.levels import SEVERITIES
from dabench.datasets.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from dabench.datasets.corruptions.weather import brightness, fog, frost, snow
from dabench.datasets.weather.kind import Kind, Render

STANDARD = "imagenet-c/cifar-c"


def _kind(name: str, render: Render) -> Kind:
    return Kind(name, SEVERITIES, STANDARD, render)


#: in the paper's order: noise, blur, weather, digital
CORRUPTIONS: tuple[Kind, ...] = (
    _kind("c-gaussian-noise", gaussian_noise),
    _kind("c-shot-noise", shot_noise),
    _kind("c-impulse-noise", impulse_noise),
    _kind("c-defocus-blur", defocus_blur),
    _kind("c-glass-blur", glass_blur),
    _kind("c-motion-blur", motion_blur),
    _kind("c-zoom-blur", zoom_blur),
    _kind("c-snow", snow),
    _kind("c-frost", frost),
    _kind("c-fog", fog),
    _kind("c-brightness", brightness),
    _kind("c-contrast", contrast),
    _kind("c-elastic-transform", elastic_transform),
    _kind("c-pixelate", pixelate),
    _kind("c-jpeg-compression", jpeg_compression),
)
#: the authors' extra ones, in the paper's order: hyper-parameters are chosen on them
EXTRA: tuple[Kind, ...] = (
    _kind("c-speckle-noise", speckle_noise),
    _kind("c-gaussian-blur", gaussian_blur),
    _kind("c-spatter", spatter),
    _kind("c-saturate", saturate),
)
