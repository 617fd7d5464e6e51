"""Shifts that are named together: the 15 corruptions of ImageNet-C and CIFAR-10-C, the 4 extra."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: the corruptions by family, in the order in which streams of the field meet them (Hendrycks &
#: Dietterich, ICLR 2019), by the names of the published files
FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
        "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
        "weather": ("snow", "frost", "fog", "brightness"),
        "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    }
)
STANDARD = tuple(file for files in FAMILIES.values() for file in files)
#: the authors' extra ones, for choosing hyper-parameters
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
#: what a corruption that is read from a published file is called by
PREFIX = "published-"
#: severities of each
LEVELS = 5


def published(file: str) -> str:
    """Return the kind of shift of a published file (``gaussian_noise`` without its ending)."""
    return PREFIX + file.replace("_", "-")


#: kinds of shift that are read from files
PUBLISHED_SHIFTS = tuple(published(file) for file in (*STANDARD, *EXTRA))
#: name of a group -> its kinds in order; ``c-...`` are dabench's own renderings
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "published-15": tuple(published(file) for file in STANDARD),
        "published-extra": tuple(published(file) for file in EXTRA),
        "c-15": tuple("c-" + file.replace("_", "-") for file in STANDARD),
        "c-extra": tuple("c-" + file.replace("_", "-") for file in EXTRA),
    }
)


def group_name(shifts: str) -> str:
    """Return ``c-15:5`` for all kinds of a group at one severity; else what is given.

    Args:
        shifts: as a record has them, ``c-fog:5,c-frost:5``.
    """
    parts = [part.rpartition(":") for part in shifts.split(",")]
    kinds, levels = tuple(part[0] for part in parts), {part[2] for part in parts}
    for name, own in GROUPS.items():
        if kinds == own and len(levels) == 1:
            return f"{name}:{levels.pop()}"
    return shifts
