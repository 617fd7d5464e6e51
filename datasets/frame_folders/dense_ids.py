"""What the numbers in published masks stand for, and the classes of segmentation sets by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from dabench.contract.types import IGNORE

_CAMVID = "sky building pole road pavement tree sign fence car pedestrian bicyclist"
_CITYSCAPES = """road sidewalk building wall fence pole traffic-light traffic-sign vegetation
terrain sky person rider car truck bus train motorcycle bicycle"""
CAMVID_11 = tuple(_CAMVID.split())
CITYSCAPES_19 = tuple(_CITYSCAPES.split())
#: what SYNTHIA shares with Cityscapes
SYNTHIA_16 = tuple(c for c in CITYSCAPES_19 if c not in ("terrain", "truck", "train"))
#: train ids 0 1 2 6 7 8 10 11 12 13 15 17 18: what CrossCity labels, and the usual part of the 16
CROSSCITY_13 = tuple(c for c in SYNTHIA_16 if c not in ("wall", "fence", "pole"))
LOVEDA_7 = ("background", "building", "road", "water", "barren", "forest", "agricultural")
_UAVID = "clutter building road tree vegetation moving-car static-car human"
UAVID_8 = tuple(_UAVID.split())


@dataclass(frozen=True)
class MaskIds:
    """What the numbers of a mask stand for.

    Attributes:
        layout: what a mask file must be, for messages.
        names: number -> class name, or None where a pixel has no class.
        storage: one 8-bit channel (grey), the same or a palette's places (indexed), the first
            channel of 16-bit RGB (rgb16), or a colour a class (colours).
        colours: 0xRRGGBB -> number, where ``storage`` says so.
    """

    layout: str
    names: Mapping[int, str | None]
    storage: Literal["grey", "indexed", "rgb16", "colours"] = "grey"
    colours: Mapping[int, int] = field(default_factory=dict)

    def table(self, classes: tuple[str, ...]) -> npt.NDArray[np.uint8]:
        """Return (256,) uint8, number -> index into ``classes``; a class not there is ignored."""
        table = np.full(256, IGNORE, np.uint8)
        for number, name in self.names.items():
            if name in classes:
                table[number] = classes.index(name)
        return table


def _numbered(last: int, named: Mapping[int, str]) -> dict[int, str | None]:
    """Return 0..last -> its name, or None."""
    return {number: named.get(number) for number in range(last + 1)}


_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_CITY = dict(zip(_LABEL_IDS, CITYSCAPES_19, strict=True))
_SYNTHIA = {
    **{1: "sky", 2: "building", 3: "road", 4: "sidewalk", 5: "fence", 6: "vegetation", 7: "pole"},
    **{8: "car", 9: "traffic-sign", 10: "person", 11: "bicycle", 12: "motorcycle"},
    **{15: "traffic-light", 17: "rider", 19: "bus", 21: "wall"},
}

CAMVID_IDS = MaskIds(
    "one 8-bit grey channel of class ids 0-10, 11 = no class (the SegNet conversion; not the RGB "
    "masks of the 32-class original)",
    _numbered(11, dict(enumerate(CAMVID_11))),
)
LABEL_IDS = MaskIds(
    "one 8-bit grey channel of Cityscapes label ids 0-33 (*_labelIds.png; not train ids, "
    "colours or instances)",
    _numbered(33, _CITY),
)
TRAIN_IDS = MaskIds(
    "one 8-bit grey channel of train ids 0-18, 255 = no class (*_labelTrainIds.png)",
    {**_numbered(18, dict(enumerate(CITYSCAPES_19))), IGNORE: None},
)
CROSSCITY_IDS = MaskIds(
    "one 8-bit grey channel of Cityscapes label ids 0-33, 255 = no class (Labels/Test/*.png)",
    {**_numbered(33, _CITY), IGNORE: None},
)
GTA5_IDS = MaskIds(
    "a PNG with one 8-bit channel, palette or grey, of Cityscapes label ids 0-34 (labels/*.png)",
    _numbered(34, _CITY),
    storage="indexed",
)
SYNTHIA_IDS = MaskIds(
    "a 16-bit RGB PNG whose first channel holds class ids 0-22 (GT/LABELS; not GT/COLOR)",
    _numbered(22, _SYNTHIA),
    storage="rgb16",
)
LOVEDA_IDS = MaskIds(
    "one 8-bit grey channel of class ids 1-7, 0 = no data (masks_png; not masks shifted to 0-6, "
    "which other projects write)",
    _numbered(7, dict(enumerate(LOVEDA_7, start=1))),
)
#: in the order of the classes: what Labels/ of UAVid holds
_UAVID_COLOURS = "000000 800000 804080 008000 808000 400080 c000c0 404000"
UAVID_IDS = MaskIds(
    "an RGB image in UAVid's eight colours (Labels; not train ids, which other projects write)",
    dict(enumerate(UAVID_8)),
    storage="colours",
    colours={int(colour, 16): number for number, colour in enumerate(_UAVID_COLOURS.split())},
)
