"""ImageNet and the published sets that its models are tested on.

Their source, ``imagenet``, is known by its models alone (``--source-model resnet50``); of a model
of the thousand classes those of the set are kept. Pictures are cut to the central square, .875 of
the shorter side, as its models are tested.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from dabench.contract.data import DataRequest, Labelled
from dabench.datasets.caching.image_cache import load_images, name_hashed
from dabench.datasets.class_folders.folder_set import ClassFolder, entries_of
from dabench.datasets.class_folders.folder_spec import Spec
from dabench.datasets.class_folders.imagenet_val import read_validation
from dabench.datasets.class_folders.picture_lists import by_number
from dabench.datasets.class_folders.wnids import WNIDS, WNIDS_A, WNIDS_R
from dabench.errors import DataError

SOURCE = "imagenet"
#: training pictures of ImageNet that extras are made of, at most: the first in name-hashed order
CLEAR_PICTURES = 10_000
_CLASSES = {"imagenet": WNIDS, "imagenet-r": WNIDS_R, "imagenet-a": WNIDS_A}


def imagenet_spec(name: str, where: str, **more: Any) -> Spec:
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


def imagenet_defaults(target: str) -> dict[str, Any]:
    """Return the usual options of a run from ImageNet to one of its relatives."""
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


class OfImageNet(ClassFolder):
    """What its sets share: extras are made of ImageNet's training pictures, where they are too."""

    def _clear(self, request: DataRequest, target: str) -> Callable[[], Labelled] | None:
        # that domain is the target itself, whose pictures nobody is handed in advance
        if target == "train":
            return None
        return functools.cache(functools.partial(training_pictures, self.spec, request))


def training_pictures(spec: Spec, request: DataRequest) -> Labelled:
    """Return the first training pictures of ImageNet that have one of a set's classes.

    Raises:
        DataError: they are not beside the set, or one cannot be decoded.
        CacheError: the cache cannot be written.
    """
    own = ImageNet.spec
    try:
        found = own.tree(own.home(request.data_root), "train")
        entries = name_hashed(entries_of("train", spec.classes, found.tree))[:CLEAR_PICTURES]
        if not entries:
            raise DataError(f"{found.folder} has no folder of {spec.name}'s classes")
    except DataError as error:
        raise DataError(
            f"{spec.name}: the method is granted something of its source's images, ImageNet's "
            f"training folder imagenet/train, and that cannot be used: {error}. Methods without "
            "such an extra need none ('eta' in place of 'eata')"
        ) from error
    return load_images(
        *(own.name, "train", entries, request.image_size, request.cache_dir), crop=own.crop
    )


class ImageNet(OfImageNet):
    """ImageNet-1k (ILSVRC 2012): 1,000 classes; train and val, in class folders or val flat."""

    spec = imagenet_spec(
        "imagenet",
        "get it from https://www.image-net.org/download.php",
        folders=("imagenet", "imagenet-1k", "ILSVRC2012", "ILSVRC"),
        domains={"train": (), "val": ("validation",)},
        counts={"train": 1_281_167, "val": 50_000},
        between=("ILSVRC", "Data", "CLS-LOC", "images"),
        read=read_validation,
        archives={
            "ILSVRC2012_img_train.tar": "1d675b47d978889d74fa0da5fadfb00e",
            "ILSVRC2012_img_val.tar": "29b22e2961454d5413ddabcf34fc5622",
            "ILSVRC2012_devkit_t12.tar.gz": "fa75699e90414af021442c21a62c3abf",
        },
        optional=("train", "val"),
    )
    domains = (SOURCE, *spec.domains)
    defaults: ClassVar[Mapping[str, Any]] = imagenet_defaults("val")


class ImageNetR(OfImageNet):
    """ImageNet-R (Hendrycks et al. 2021): 30,000 renditions of 200 of ImageNet's classes."""

    spec = imagenet_spec(
        "imagenet-r",
        "get it from https://github.com/hendrycks/imagenet-r",
        domains={"imagenet-r": ()},
        counts={"imagenet-r": 30_000},
        archives={"imagenet-r.tar": "a61312130a589d0ca1a8fca1f2bd3337"},
        single=True,
    )
    domains = (SOURCE, *spec.domains)
    defaults: ClassVar[Mapping[str, Any]] = imagenet_defaults("imagenet-r")


class ImageNetA(OfImageNet):
    """ImageNet-A (Hendrycks et al. 2021): 7,500 pictures of 200 classes that ResNet-50 failed."""

    spec = imagenet_spec(
        "imagenet-a",
        "get it from https://github.com/hendrycks/natural-adv-examples",
        domains={"imagenet-a": ()},
        counts={"imagenet-a": 7_500},
        archives={"imagenet-a.tar": "c3e55429088dc681f30d81f4726b6595"},
        single=True,
    )
    domains = (SOURCE, *spec.domains)
    defaults: ClassVar[Mapping[str, Any]] = imagenet_defaults("imagenet-a")


class ImageNetV2(OfImageNet):
    """ImageNet-V2 (Recht et al. 2019): three new test sets of 10,000 pictures, in folders 0-999."""

    spec = imagenet_spec(
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
    defaults: ClassVar[Mapping[str, Any]] = imagenet_defaults("matched-frequency")


class ImageNetSketch(OfImageNet):
    """ImageNet-Sketch (Wang et al. 2019): 50,889 sketches of ImageNet's 1,000 classes."""

    spec = imagenet_spec(
        "imagenet-sketch",
        "get it from https://github.com/HaohanWang/ImageNet-Sketch",
        folders=("imagenet-sketch", "sketch"),
        domains={"sketch": ()},
        counts={"sketch": 50_889},
        between=("sketch", "images"),
        single=True,
    )
    domains = (SOURCE, *spec.domains)
    defaults: ClassVar[Mapping[str, Any]] = imagenet_defaults("sketch")
