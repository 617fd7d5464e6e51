"""The 15 corruptions of ImageNet-C and CIFAR-C (Hendrycks & Dietterich, ICLR 2019).

*Benchmarking Neural Network Robustness to Common Corruptions and Perturbations*. Constants, order
of operations and strength are the original's, written anew for speed and any size from 16 × 16
pixels; docs/corruptions.md lists the constants and every deviation. Pictures whose shorter side
is below 64 pixels take CIFAR-C's constants, all others ImageNet-C's. Names begin with ``c-``:
these are not dabench's own weather.
"""

from __future__ import annotations

from dabench.datasets.corruptions import blur as corruptions_blur
from dabench.datasets.corruptions import digital as corruptions_digital
from dabench.datasets.corruptions import elastic as corruptions_elastic
from dabench.datasets.corruptions import glass as corruptions_glass
from dabench.datasets.corruptions import noise as corruptions_noise
from dabench.datasets.corruptions import weather as corruptions_weather
from dabench.datasets.corruptions.levels import SEVERITIES
from dabench.datasets.weather.kind import Kind, Render

STANDARD = "imagenet-c/cifar-c"


def _kind(name: str, render: Render) -> Kind:
    return Kind(name, SEVERITIES, STANDARD, render)


#: in the paper's order: noise, blur, weather, digital
CORRUPTIONS: tuple[Kind, ...] = (
    _kind("c-gaussian-noise", corruptions_noise.gaussian_noise),
    _kind("c-shot-noise", corruptions_noise.shot_noise),
    _kind("c-impulse-noise", corruptions_noise.impulse_noise),
    _kind("c-defocus-blur", corruptions_blur.defocus_blur),
    _kind("c-glass-blur", corruptions_glass.glass_blur),
    _kind("c-motion-blur", corruptions_blur.motion_blur),
    _kind("c-zoom-blur", corruptions_blur.zoom_blur),
    _kind("c-snow", corruptions_weather.snow),
    _kind("c-frost", corruptions_weather.frost),
    _kind("c-fog", corruptions_weather.fog),
    _kind("c-brightness", corruptions_weather.brightness),
    _kind("c-contrast", corruptions_digital.contrast),
    _kind("c-elastic-transform", corruptions_elastic.elastic_transform),
    _kind("c-pixelate", corruptions_digital.pixelate),
    _kind("c-jpeg-compression", corruptions_digital.jpeg_compression),
)
