"""Driving sets for adaptation between domains: real, rendered, and in bad weather."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dabench.datasets.frame_folders.dense_ids import CITYSCAPES_19, CROSSCITY_13, SYNTHIA_16
from dabench.datasets.frame_folders.driving_domains import (
    ACDC,
    CITIES,
    CITYSCAPES_BOTH,
    CITYSCAPES_SOURCE,
    CITYSCAPES_TARGET,
    DARK_ZURICH,
    GTA5,
    SYNTHIA,
)
from dabench.datasets.frame_folders.frame_set import FrameFolder

#: of a segmentation set whose frames need a large network
DEFAULTS = {
    "image_size": 512,
    "backbone": "deeplabv3_resnet50",
    "weights": "pretrained",
    "epochs": 1,
    "source_epochs": 20,
    "freeze": 0,
    "batch_size": 1,
}


class Cityscapes(FrameFolder):
    """Cityscapes (Cordts et al. 2016): German cities by day, 19 classes; one domain.

    Layout: ``cityscapes/leftImg8bit/{train,val}/CITY/*_leftImg8bit.png`` with
    ``gtFine/{train,val}/CITY/*_gtFine_labelIds.png`` (34 label ids). Source training: train without
    Ulm, Weimar and Zurich; source validation: these three (our own convention); stream: val (500).
    """

    name = "cityscapes"
    classes = CITYSCAPES_19
    places = (CITYSCAPES_BOTH,)
    domains = ("cityscapes",)
    aspect = 2.0
    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS | dict.fromkeys(
        ("source", "target"), "cityscapes"
    )


class Acdc(FrameFolder):
    """ACDC (Sakaridis et al. 2021): Cityscapes -> fog, night, rain or snow; 19 classes.

    Layout: ``acdc/rgb_anon/WEATHER/train/SEQUENCE/*_rgb_anon.png`` with
    ``gt/.../*_gt_labelTrainIds.png`` (or ``*_gt_labelIds.png``), and ``cityscapes/``. Source
    training: Cityscapes train (2,975 frames); source validation: its val (500); stream: the train
    frames of a weather (400 each), as in CoTTA; ACDC's val is not read.
    Cityscapes is squeezed to ACDC's 16:9.
    """

    name = "acdc"
    classes = CITYSCAPES_19
    places = (CITYSCAPES_SOURCE, *ACDC)
    domains = tuple(domain.name for domain in places)
    aspect = 16 / 9
    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS | {"source": "cityscapes", "target": "fog"}


class DarkZurich(FrameFolder):
    """Dark Zurich (Sakaridis et al. 2019): Cityscapes -> night; 19 classes.

    Layout: ``dark-zurich/rgb_anon/val/night/SEQUENCE/*_rgb_anon.png`` with
    ``gt/.../*_gt_labelTrainIds.png`` (or ``*_gt_labelIds.png``), and ``cityscapes/``. Source
    training: Cityscapes train (2,975 frames); source validation: its val (500); stream: the night
    frames of val (50), the only ones with public masks. Cityscapes is squeezed to 16:9.
    """

    name = "dark-zurich"
    classes = CITYSCAPES_19
    places = (CITYSCAPES_SOURCE, DARK_ZURICH)
    domains = tuple(domain.name for domain in places)
    aspect = 16 / 9
    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS | {"source": "cityscapes", "target": "night"}


class Gta5(FrameFolder):
    """GTA5 (Richter et al. 2016) -> Cityscapes; 19 classes.

    Layout: ``gta5/images/*.png`` with ``labels/*.png`` (24,966 frames; palette PNGs whose numbers
    are Cityscapes label ids), and ``cityscapes/``. Source training: the first nine tenths in file
    order; source validation: the last tenth (our own convention); stream: Cityscapes val (500).
    Left out: 15188, 17705 and 20801 to 20860, whose masks public readers find to be of another
    size. GTA5 is squeezed to Cityscapes' 2:1.
    """

    name = "gta5"
    classes = CITYSCAPES_19
    places = (GTA5, CITYSCAPES_TARGET)
    domains = tuple(domain.name for domain in places)
    aspect = 2.0
    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS | {"source": "gta5", "target": "cityscapes"}


class Synthia(FrameFolder):
    """SYNTHIA-RAND-CITYSCAPES (Ros et al. 2016) -> Cityscapes; 16 classes, 13 as a subset.

    Layout: ``synthia/[RAND_CITYSCAPES/]RGB/*.png`` with ``GT/LABELS/*.png`` (9,400 frames; 16-bit
    RGB, ids in the first channel), and ``cityscapes/``. Source training: the first nine tenths in
    file order; source validation: the last tenth (our own convention); stream: Cityscapes val
    (500).
    Terrain, truck and train of Cityscapes have no class here; the 13 leave out wall, fence, pole.
    SYNTHIA is squeezed to Cityscapes' 2:1.
    """

    name = "synthia"
    classes = SYNTHIA_16
    places = (SYNTHIA, CITYSCAPES_TARGET)
    domains = tuple(domain.name for domain in places)
    aspect = 2.0
    subsets: ClassVar[Mapping[str, tuple[str, ...]]] = {"13": CROSSCITY_13}
    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS | {
        "source": "synthia",
        "target": "cityscapes",
    }


class CrossCity(FrameFolder):
    """CrossCity (NTHU; Chen et al. 2017): Cityscapes -> Rome, Rio, Tokyo, Taipei; 13 classes.

    Layout: ``crosscity/CITY/Images/Test/*`` with ``Labels/Test/*_eval.png`` or ``*.png``, and
    ``cityscapes/``. We had no copy to check the names of the masks; that they hold Cityscapes label
    ids is what published loaders assume. Source training: Cityscapes train (2,975 frames); source
    validation: its val (500); stream: the city's labelled test frames (100). The unlabelled
    ``Images/Train`` is not read.
    """

    name = "crosscity"
    classes = CROSSCITY_13
    places = (CITYSCAPES_SOURCE, *CITIES)
    domains = tuple(domain.name for domain in places)
    aspect = 2.0
    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS | {"source": "cityscapes", "target": "rome"}
