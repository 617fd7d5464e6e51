"""Aerial scenes in class folders without domains, ``<data root>/<set>/<class>/*``.

Their one domain is called ``clear``: protocols that use them make the shift themselves, by weather.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dabench.datasets.class_folders.folder_set import ClassFolder
from dabench.datasets.class_folders.folder_spec import Spec
from dabench.datasets.class_folders.splits import CLASSES, COUNTS, DOMAINS

_DEFAULTS = {
    "source": "clear",
    "target": "clear",
    "image_size": 64,
    "backbone": "small-cnn",
    "weights": "none",
    "epochs": 1,
    "source_epochs": 30,
    "freeze": 0,
    "batch_size": 64,
}


def _spec(name: str, where: str, also: tuple[str, ...], between: tuple[str, ...]) -> Spec:
    """Return the spec of a set whose lists are in ``splits``."""
    return Spec(
        name,
        where,
        folders=(name, *also),
        domains=dict.fromkeys(DOMAINS[name], ()),
        classes=CLASSES[name],
        counts=COUNTS[name],
        between=between,
        single=True,
    )


class Aid(ClassFolder):
    """AID (Xia et al. 2017): 30 aerial scenes, 10,000 images of 600 x 600; one domain, clear."""

    spec = _spec(
        "aid",
        "get it from https://captain-whu.github.io/AID/",
        also=("AID_dataset",),
        between=("AID", "images"),
    )
    domains = DOMAINS["aid"]
    defaults: ClassVar[Mapping[str, Any]] = _DEFAULTS


class Ucm(ClassFolder):
    """UC Merced Land Use (Yang & Newsam 2010): 21 aerial scenes of 100 images, 256 x 256; clear."""

    spec = _spec(
        "ucm",
        "get it from http://weegee.vision.ucmerced.edu/datasets/landuse.html",
        also=("UCMerced_LandUse",),
        between=("UCMerced_LandUse", "images"),
    )
    domains = DOMAINS["ucm"]
    defaults: ClassVar[Mapping[str, Any]] = _DEFAULTS
