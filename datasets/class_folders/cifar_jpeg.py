"""CIFAR-10 as lossy JPEG in class folders: another set than CIFAR-10, and never CIFAR-10-C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from dabench.contract.data import DataRequest, DomainData, StreamRoles
from dabench.contract.types import IntArray
from dabench.datasets.arrays.cifar import CIFAR10, DEFAULTS
from dabench.datasets.arrays.turned import SIDE
from dabench.datasets.class_folders.folder_set import ClassFolder
from dabench.datasets.class_folders.folder_spec import Spec
from dabench.datasets.class_folders.splits import comparable_name
from dabench.errors import ConfigError, DataError

#: test images of a class that a stream shows, and that it holds out
SHOWN, HELD_OUT = 100, 50
_ENDINGS = (".jpg", ".jpeg")


class Cifar10Jpeg(ClassFolder):
    """CIFAR-10 as lossy JPEG files: 10 classes, 32 x 32; parts train and test.

    Layout: ``<data root>/cifar10/{train,test}/CLASS/*.jpg``, classes by name: airplane automobile
    bird cat deer dog frog horse ship truck. Compression is a shift of its own, so figures compare
    with those on no other set; the originals are CIFAR-10 (Krizhevsky 2009), no licence is stated.

    Streams show 100 test images a class under each of dabench's own 15 corruptions at severity 5
    (``c-15``; ``--protocol.severity`` sets another) and hold out 50 more. Hyper-parameters are
    chosen on the four extra corruptions: ``--protocol.shifts c-extra``.
    """

    spec = Spec(
        "cifar10-jpeg",
        "expected: <data root>/cifar10/{train,test}/CLASS/*.jpg",
        folders=("cifar10-jpeg", "cifar10"),
        domains={"train": (), "test": ()},
        classes=CIFAR10.classes,
    )
    domains = ("train", "test")
    # 16 batches a shift: with fewer than 15 a score says little
    defaults: ClassVar[Mapping[str, Any]] = {**DEFAULTS, "batch_size": 64}
    protocol_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "online-tta": {"shifts": "c-15"},
        "continual-tta": {"shifts": "c-15", "sequence": "given"},
        "gradual-weather": {"weather": "c-fog"},
    }

    def load(self, request: DataRequest) -> DomainData:
        """Return the two parts.

        Raises:
            ConfigError: an image size other than 32, or an unknown part.
            DataError: as for every set in class folders; files that are not JPEG.
            CacheError: the image cache cannot be written.
        """
        if request.image_size != SIDE:
            raise ConfigError(
                f"--image-size {request.image_size}: {self.spec.name} is {SIDE} x {SIDE}"
            )
        home = self.spec.home(request.data_root)
        for part in {request.source, request.target}:
            found = self.spec.tree(home, part)
            for path in (path for files in found.tree.values() for path in files):
                if path.suffix.lower() not in _ENDINGS:
                    raise DataError(
                        f"{self.spec.name}: {path} is no JPEG file, so this is another set; "
                        "lossless pictures are --dataset cifar10"
                    )
        data = super().load(request)
        if comparable_name(data.source) == comparable_name(data.target):
            return data
        return replace(data, roles=_roles(data.target_all.labels))


def _roles(labels: IntArray) -> StreamRoles:
    """Return so many images of every class, or of a small copy two thirds and a third of them."""
    shown, held = [], []
    for c in np.unique(labels):
        rows = np.flatnonzero(labels == c)
        first = min(SHOWN, 2 * len(rows) // 3)
        shown.append(rows[:first])
        held.append(rows[first : first + HELD_OUT])
    return StreamRoles(*(np.sort(np.concatenate(rows)) for rows in (shown, held)))
