"""Pictures of the ground from above, with a class for every pixel: LoveDA and UAVid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dabench.datasets.frame_folders.dense_ids import LOVEDA_7, LOVEDA_IDS, UAVID_8, UAVID_IDS
from dabench.datasets.frame_folders.driving import DEFAULTS
from dabench.datasets.frame_folders.driving_domains import first_nine_tenths, last_tenth
from dabench.datasets.frame_folders.frame_domain import Domain
from dabench.datasets.frame_folders.frame_files import Layout, Naming, Part
from dabench.datasets.frame_folders.frame_set import FrameFolder


def _loveda(name: str, train: int, val: int) -> Domain:
    """Return a landscape of LoveDA, which may be the source or the target."""
    masks = (Naming((("/images_png/", "/masks_png/"),), LOVEDA_IDS),)
    images = "{}/" + name.title() + "/images_png/*.png"
    held_out = Part(images.format("Val"), count=val)
    layout = Layout(masks, Part(images.format("Train"), count=train), held_out, held_out)
    where = "get Train and Val from https://zenodo.org/records/5706578"
    return Domain(name, ("loveda",), (layout,), where)


class LoveDA(FrameFolder):
    """LoveDA (Wang et al. 2021): Chinese land cover from the air, rural -> urban; 7 classes.

    Layout: ``loveda/{Train,Val}/{Rural,Urban}/images_png/*.png`` with ``masks_png/*.png``
    (1024 x 1024; ids 1-7, 0 = no data). Source training: the source's Train (rural 1,366, urban
    1,156); source validation: its Val (992; 677); stream: the target's Val. Test has no public
    masks and is not read. Either landscape may be the source, the other one the target.
    """

    name = "loveda"
    classes = LOVEDA_7
    places = (_loveda("rural", 1366, 992), _loveda("urban", 1156, 677))
    archives: ClassVar[Mapping[str, str]] = {
        "Train.zip": "de2b196043ed9b4af1690b3f9a7d558f",
        "Val.zip": "84cae2577468ff0b5386758bb386d31d",
    }
    domains = tuple(domain.name for domain in places)
    aspect = 1.0
    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS | {"source": "rural", "target": "urban"}


_UAVID_TRAIN = "uavid_train/*/Images/*.png"
OBLIQUE = Domain(
    "oblique",
    ("uavid",),
    (
        Layout(
            (Naming((("/Images/", "/Labels/"),), UAVID_IDS),),
            Part(_UAVID_TRAIN, first_nine_tenths, 200),
            Part(_UAVID_TRAIN, last_tenth, 200),
            Part("uavid_val/*/Images/*.png", count=70),
        ),
    ),
    "get it from https://uavid.nl/",
)


class UAVid(FrameFolder):
    """UAVid (Lyu et al. 2020): streets seen obliquely from a drone, 8 classes; one domain.

    Layout: ``uavid/{uavid_train,uavid_val}/SEQUENCE/Images/*.png`` with ``Labels/*.png`` (4K; masks
    in eight colours). Source training: the first 18 of the 20 sequences of uavid_train, in the
    order of their paths; source validation: the last two (our own convention); stream: uavid_val
    (7 sequences, 70 frames). uavid_test has no public masks and is not read.
    """

    name = "uavid"
    classes = UAVID_8
    places = (OBLIQUE,)
    domains = ("oblique",)
    aspect = 16 / 9
    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS | dict.fromkeys(
        ("source", "target"), "oblique"
    )
