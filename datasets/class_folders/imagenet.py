"""ImageNet and the published sets that its models are tested on.

Their source, ``imagenet``, is known by its models alone (``--source-model resnet50``); of a model
of the thousand classes those of the set are kept. Pictures are cut to the central square, .875 of
the shorter side, as its models are tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dabench.datasets.class_folders.folder_set import ClassFolder
from dabench.datasets.class_folders.folder_spec import Spec
from dabench.datasets.class_folders.imagenet_val import read_validation
from dabench.datasets.class_folders.picture_lists import by_ids, by_number
from dabench.datasets.class_folders.wnids import WNIDS, WNIDS_A, WNIDS_R

SOURCE = "imagenet"
_CLASSES = {"imagenet": WNIDS, "imagenet-r": WNIDS_R, "imagenet-a": WNIDS_A}
#: the fifteen corruptions of the tables by archive, and the four extra ones
CORRUPTIONS: Mapping[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
#: the 5,000 pictures of every corruption that RobustBench and most tables take
IDS = "imagenet_test_image_ids.txt"
_CORRUPTED = {
    f"{kind}/{severity}": (f"{archive}/{kind}/{severity}",)
    for archive, kinds in CORRUPTIONS.items()
    for kind in kinds
    for severity in range(1, 6)
}


def _spec(name: str, where: str, **more: Any) -> Spec:
    """Return the spec of a set that ImageNet's models are tested on."""
    classes = _CLASSES.get(name, WNIDS)
    usual: dict[str, Any] = {
        "folders": (name,),
        "trained_on": SOURCE,
        "model_classes": WNIDS,
        "look_alikes": {n: c for n, c in _CLASSES.items() if c != classes},
        "crop": 0.875,
    }
    return Spec(name, where, classes=classes, **(usual | more))


def _defaults(target: str) -> dict[str, Any]:
    return {
        "source": SOURCE,
        "target": target,
        "image_size": 224,
        "backbone": "resnet50",
        "weights": "pretrained",
        "epochs": 1,
        "source_epochs": 90,
        "freeze": 0,
        "batch_size": 64,
    }


class ImageNet(ClassFolder):
    """ImageNet-1k (ILSVRC 2012): 1,000 classes; train and val, in class folders or val flat."""

    spec = _spec(
        "imagenet",
        "get it from https://www.image-net.org/download.php",
        folders=("imagenet", "imagenet-1k", "ILSVRC2012", "ILSVRC"),
        domains={"train": (), "val": ("validation",)},
        counts={"train": 1_281_167, "val": 50_000},
        between=("ILSVRC", "Data", "CLS-LOC", "images"),
        read=read_validation,
        optional=("train", "val"),
    )
    domains = (SOURCE, *spec.domains)
    defaults: ClassVar[Mapping[str, Any]] = _defaults("val")


class ImageNetR(ClassFolder):
    """ImageNet-R (Hendrycks et al. 2021): 30,000 renditions of 200 of ImageNet's classes."""

    spec = _spec(
        "imagenet-r",
        "get it from https://github.com/hendrycks/imagenet-r",
        domains={"imagenet-r": ()},
        counts={"imagenet-r": 30_000},
        single=True,
    )
    domains = (SOURCE, *spec.domains)
    defaults: ClassVar[Mapping[str, Any]] = _defaults("imagenet-r")


class ImageNetA(ClassFolder):
    """ImageNet-A (Hendrycks et al. 2021): 7,500 pictures of 200 classes that ResNet-50 failed."""

    spec = _spec(
        "imagenet-a",
        "get it from https://github.com/hendrycks/natural-adv-examples",
        domains={"imagenet-a": ()},
        counts={"imagenet-a": 7_500},
        single=True,
    )
    domains = (SOURCE, *spec.domains)
    defaults: ClassVar[Mapping[str, Any]] = _defaults("imagenet-a")


class ImageNetV2(ClassFolder):
    """ImageNet-V2 (Recht et al. 2019): three new test sets of 10,000 pictures, in folders 0-999."""

    spec = _spec(
        "imagenet-v2",
        "get it from https://huggingface.co/datasets/vaishaal/ImageNetV2",
        folders=("imagenet-v2", "imagenetv2"),
        domains={
            "matched-frequency": ("imagenetv2-matched-frequency-format-val",),
            "threshold0.7": ("imagenetv2-threshold0.7-format-val",),
            "top-images": ("imagenetv2-top-images-format-val",),
        },
        counts=dict.fromkeys(("matched-frequency", "threshold0.7", "top-images"), 10_000),
        read=by_number(WNIDS),
        optional=("matched-frequency", "threshold0.7", "top-images"),
    )
    domains = (SOURCE, *spec.domains)
    defaults: ClassVar[Mapping[str, Any]] = _defaults("matched-frequency")


class ImageNetSketch(ClassFolder):
    """ImageNet-Sketch (Wang et al. 2019): 50,889 sketches of ImageNet's 1,000 classes."""

    spec = _spec(
        "imagenet-sketch",
        "get it from https://github.com/HaohanWang/ImageNet-Sketch",
        folders=("imagenet-sketch", "sketch"),
        domains={"sketch": ()},
        counts={"sketch": 50_889},
        between=("sketch", "images"),
        single=True,
    )
    domains = (SOURCE, *spec.domains)
    defaults: ClassVar[Mapping[str, Any]] = _defaults("sketch")


class ImageNetC(ClassFolder):
    """ImageNet-C (Hendrycks & Dietterich 2019): 19 corruptions x 5 severities of the 50,000.

    A domain is ``corruption/severity``. The published pictures have 224 px and are not cut again.
    """

    spec = _spec(
        "imagenet-c",
        "get it from https://zenodo.org/records/2235448",
        domains=_CORRUPTED,
        counts=dict.fromkeys(_CORRUPTED, 50_000),
        optional=tuple(_CORRUPTED),
        crop=None,
    )
    domains = (SOURCE, *spec.domains)
    defaults: ClassVar[Mapping[str, Any]] = _defaults("gaussian_noise/5")


class ImageNetC5000(ClassFolder):
    """ImageNet-C, 5,000 pictures of every corruption: those of RobustBench's list.

    ``imagenet_test_image_ids.txt`` lies in the set's folder. A class may have none in it.
    """

    spec = _spec(
        "imagenet-c-5000",
        "the list is robustbench/data/imagenet_test_image_ids.txt of "
        "https://github.com/RobustBench/robustbench, the set https://zenodo.org/records/2235448",
        folders=("imagenet-c",),
        domains=_CORRUPTED,
        counts=dict.fromkeys(_CORRUPTED, 5_000),
        optional=tuple(_CORRUPTED),
        read=by_ids(IDS),
        listed=True,
        partial=True,
        crop=None,
    )
    domains = (SOURCE, *spec.domains)
    defaults: ClassVar[Mapping[str, Any]] = _defaults("gaussian_noise/5")
