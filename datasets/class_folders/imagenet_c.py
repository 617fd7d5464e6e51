"""ImageNet-C: its corruptions as shifts of streams, or one of them as a domain."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from dabench.contract.data import DataRequest, DomainData, Labelled, StreamRoles, no_images
from dabench.datasets.class_folders.corrupted_folders import (
    CORRUPTIONS,
    STREAM,
    CorruptedFolders,
    NoClearPictures,
)
from dabench.datasets.class_folders.imagenet import (
    SOURCE,
    OfImageNet,
    imagenet_defaults,
    imagenet_spec,
)
from dabench.datasets.class_folders.picture_lists import by_ids
from dabench.datasets.class_folders.splits import comparable_name
from dabench.datasets.weather.groups import LEVELS
from dabench.errors import ConfigError

#: the 5,000 pictures of every corruption that RobustBench and most tables take
IDS = "imagenet_test_image_ids.txt"
_ARCHIVES = {
    "noise.tar": "e80562d7f6c3f8834afb1ecf27252745",
    "blur.tar": "2d8e81fdd8e07fef67b9334fa635e45c",
    "weather.tar": "33ffea4db4d93fe4a428c40a6ce0c25d",
    "digital.tar": "89157860d7b10d5797849337ca2e5c03",
    "extra.tar": "d492dfba5fc162d8ec2c3cd8ee672984",
}
_CORRUPTED = {
    f"{kind}/{severity}": (f"{archive}/{kind}/{severity}",)
    for archive, kinds in CORRUPTIONS.items()
    for kind in kinds
    for severity in range(1, LEVELS + 1)
}


class CorruptedImageNet(OfImageNet):
    """What both sets share: the target ``val`` has its corruptions as published shifts."""

    protocol_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "online-tta": {"shifts": "published-15"},
        "continual-tta": {"shifts": "published-15", "sequence": "given"},
    }

    def load(self, request: DataRequest) -> DomainData:
        """Return the target: ``val`` under its corruptions, or one corruption as it is.

        Raises:
            ConfigError: a source other than ``imagenet`` beside ``val``; else as in class folders.
            DataError, CacheError: as in class folders.
        """
        if comparable_name(request.target) != STREAM:
            return super().load(request)
        spec = self.spec
        if comparable_name(request.source) != SOURCE:
            raise ConfigError(
                f"--source '{request.source}': the corruptions are of ImageNet's validation "
                f"pictures; use --source {SOURCE}, or one corruption as --target"
            )
        folders = CorruptedFolders(
            *(spec, spec.home(request.data_root), spec.classes),
            *(request.image_size, request.cache_dir),
        )
        pictures = folders.pictures
        digest = hashlib.sha256("\n".join(entry.name for entry in pictures).encode())
        labels = np.array([entry.label for entry in pictures], dtype=np.int64)
        return DomainData(
            dataset=spec.name,
            source=SOURCE,
            target=STREAM,
            classes=spec.classes,
            image_size=request.image_size,
            source_train=no_images(request.image_size),
            source_val=None,
            target_all=Labelled(
                NoClearPictures(len(labels), spec.name), labels, digest.hexdigest()
            ),
            shifts=folders,
            roles=StreamRoles(np.arange(len(labels)), np.array([], dtype=np.int64)),
            model_classes=spec.model_classes,
            clear=self._clear(request, STREAM),
        )


class ImageNetC(CorruptedImageNet):
    """ImageNet-C (Hendrycks & Dietterich 2019): 19 corruptions x 5 severities of the 50,000.

    The target ``val`` has them as shifts (``published-fog:5``): ``--protocol continual-tta
    --protocol.severity 5`` shows the 15 in the field's order, nothing held out. Any other domain is
    one ``corruption/severity``. The published pictures have 224 px and are not cut again.
    """

    spec = imagenet_spec(
        "imagenet-c",
        "get it from https://zenodo.org/records/2235448",
        domains=_CORRUPTED,
        counts=dict.fromkeys(_CORRUPTED, 50_000),
        optional=tuple(_CORRUPTED),
        archives=_ARCHIVES,
        crop=None,
    )
    domains = (SOURCE, STREAM, *spec.domains)
    defaults: ClassVar[Mapping[str, Any]] = imagenet_defaults(STREAM)


class ImageNetC5000(CorruptedImageNet):
    """ImageNet-C, 5,000 pictures of every corruption: those of RobustBench's list.

    ``imagenet_test_image_ids.txt`` lies in the set's folder. A class may have none in it.
    """

    spec = imagenet_spec(
        "imagenet-c-5000",
        "the list is robustbench/data/imagenet_test_image_ids.txt of "
        "https://github.com/RobustBench/robustbench, the set https://zenodo.org/records/2235448",
        folders=("imagenet-c",),
        domains=_CORRUPTED,
        counts=dict.fromkeys(_CORRUPTED, 5_000),
        optional=tuple(_CORRUPTED),
        archives=_ARCHIVES,
        read=by_ids(IDS),
        listed=True,
        partial=True,
        crop=None,
    )
    domains = (SOURCE, STREAM, *spec.domains)
    defaults: ClassVar[Mapping[str, Any]] = imagenet_defaults(STREAM)
