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


def _spec(
    name: str,
    where: str,
    also: tuple[str, ...],
    between: tuple[str, ...],
    archives: Mapping[str, str] | None = None,
) -> Spec:
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
        archives=archives or {},
    )


class Resisc45(ClassFolder):
    """NWPU-RESISC45 (Cheng et al. 2017): 45 aerial scenes of 700 images, 256 x 256; clear."""

    spec = _spec(
        "resisc45",
        "get it from https://gcheng-nwpu.github.io/",
        also=("NWPU-RESISC45",),
        between=("NWPU-RESISC45", "images"),
        archives={"NWPU-RESISC45.rar": "d824acb73957502b00efd559fc6cfbbb"},
    )
    domains = DOMAINS["resisc45"]
    defaults: ClassVar[Mapping[str, Any]] = _DEFAULTS


class EuroSat(ClassFolder):
    """EuroSAT, RGB (Helber et al. 2019): 10 land covers, 27,000 images of 64 x 64; clear."""

    spec = _spec(
        "eurosat",
        "get it from https://github.com/phelber/EuroSAT",
        also=("EuroSAT_RGB",),
        between=("EuroSAT_RGB", "EuroSAT", "2750", "images"),
        archives={"EuroSAT.zip": "c8fa014336c82ac7804f0398fcb19387"},
    )
    domains = DOMAINS["eurosat"]
    defaults: ClassVar[Mapping[str, Any]] = _DEFAULTS


class WhuRs19(ClassFolder):
    """WHU-RS19 (Xia et al. 2010): 19 aerial scenes, 1,005 images of 600 x 600; clear."""

    spec = _spec(
        "whu-rs19",
        "get it from https://captain-whu.github.io/BED4RS/",
        also=(),
        between=("WHU-RS19", "images"),
    )
    domains = DOMAINS["whu-rs19"]
    defaults: ClassVar[Mapping[str, Any]] = _DEFAULTS


class Rsscn7(ClassFolder):
    """RSSCN7 (Zou et al. 2015): 7 aerial scenes of 400 images, 400 x 400; clear."""

    spec = _spec(
        "rsscn7",
        "get it from https://github.com/palewithout/RSSCN7",
        also=(),
        between=("RSSCN7", "images"),
    )
    domains = DOMAINS["rsscn7"]
    defaults: ClassVar[Mapping[str, Any]] = _DEFAULTS


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
