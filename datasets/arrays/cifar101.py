"""CIFAR-10.1: a new test set for CIFAR-10, two versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dabench.contract.data import DataRequest, DomainData, Labelled
from dabench.datasets.arrays.cifar import DEFAULTS, Cifar10
from dabench.datasets.arrays.cifar_files import check_root
from dabench.datasets.arrays.npy_files import check_pictures, map_file, read_labels
from dabench.datasets.class_folders.folder_tree import find_child
from dabench.datasets.digits.digits import labelled
from dabench.errors import ConfigError, DataError, did_you_mean

#: published number of pictures by version
COUNTS: Mapping[str, int] = {"v4": 2_021, "v6": 2_000}
_WHERE = "get it from https://github.com/modestyachts/CIFAR-10.1 (folder datasets)"


class Cifar101:
    """CIFAR-10.1 (Recht et al. 2018): new test images for CIFAR-10; v6 (2,000) and v4 (2,021).

    Layout: ``<data root>/CIFAR-10.1/[datasets/]cifar10.1_v6_data.npy`` (uint8 (N, 32, 32, 3)) and
    ``cifar10.1_v6_labels.npy``, v4 likewise, with CIFAR-10 (pickles or records) beside it: its
    training images are the source ``train``. Get it from
    https://github.com/modestyachts/CIFAR-10.1; for the licence see there.

    Classes are those of ``cifar10``; pictures come in content-hashed order.
    """

    domains: ClassVar[tuple[str, ...]] = ("train", "v4", "v6")
    defaults: ClassVar[Mapping[str, Any]] = {**DEFAULTS, "target": "v6"}

    def load(self, request: DataRequest) -> DomainData:
        """Return CIFAR-10's training images and a version of the new test set.

        Raises:
            ConfigError: an image size other than 32, another source, or no such version.
            DataError: files that are missing or of another form.
            CacheError: the cache folder cannot be written.
        """
        if request.source != "train" or request.target not in COUNTS:
            near = did_you_mean(str(request.target), COUNTS)
            raise ConfigError(f"cifar10.1: expected --source train and a version as --target{near}")
        root = check_root(request.data_root, "cifar10.1", _WHERE)
        target = _version(_home(root), request.target)
        clear = Cifar10().load_arrays(
            DataRequest("train", "test", request.image_size, root, request.cache_dir)
        )
        return DomainData(
            dataset="cifar10.1",
            source="train",
            target=request.target,
            classes=clear.classes,
            image_size=clear.image_size,
            source_train=clear.source_train,
            source_val=clear.target_all,
            target_all=target,
        )

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the files, one line each; every file is read whole."""
        try:
            home = _home(check_root(data_root, "cifar10.1", _WHERE))
            problems = Cifar10().arrays(data_root).check()
        except DataError as error:
            return [str(error)]
        for version, count in COUNTS.items():
            try:
                found = len(_version(home, version).labels)
            except DataError as error:
                absent = version == "v4" and not (home / f"cifar10.1_{version}_data.npy").is_file()
                problems.append(f"{'optional: ' if absent else ''}{error}")
                continue
            if found != count:
                problems.append(f"optional: {version} has {found} images, published are {count}")
        return problems


def _home(root: Path) -> Path:
    home = find_child(root, ("CIFAR-10.1",)) or root
    return find_child(home, ("datasets",)) or home


def _version(home: Path, version: str) -> Labelled:
    """Return a version's pictures (6 MB, in memory)."""
    paths = [home / f"cifar10.1_{version}_{what}.npy" for what in ("data", "labels")]
    found, labels = (
        map_file(paths[0], "cifar10.1", _WHERE),
        read_labels(paths[1], 10, "cifar10.1", _WHERE),
    )
    check_pictures(found, len(labels), "cifar10.1", _WHERE)
    return labelled(np.array(found), labels)
