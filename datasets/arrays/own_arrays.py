"""Images of a user's own in arrays: ``<data root>/<domain>/images.npy`` with ``labels.npy``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dabench.contract.data import DataRequest, DomainData, ImageArray, Labelled
from dabench.contract.types import IntArray
from dabench.datasets.class_folders.class_folder import ImageFolder
from dabench.datasets.class_folders.folder_tree import folders_in
from dabench.datasets.class_folders.own_splits import splits_between
from dabench.errors import ConfigError, DataError, did_you_mean, one_line, reason_of

_FORM = (
    "DOMAIN/images.npy (N, S, S, 3) uint8 with DOMAIN/labels.npy (N,) integers, and classes.txt "
    "with a class a line, the first of which is 0"
)


class Reordered:
    """Pictures in another order; the array stays where it is."""

    def __init__(self, images: ImageArray, order: IntArray) -> None:
        self.images, self.order = images, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: IntArray) -> npt.NDArray[np.uint8]:
        """Return (B, S, S, 3) for B positions."""
        return self.images[self.order[index]]


class Arrays:
    """Images of your own in arrays: ``<data root>/<domain>/images.npy`` (N, S, S, 3) uint8 with
    ``labels.npy`` (N,) integers, and ``<data root>/classes.txt``, a class a line.

    ``dabench.run(data={"a": (images, labels), ...})`` writes such a folder. Pictures come in the
    order of the hashes of their pixels, so that the arrays' order says nothing. Open-set splits are
    those of ``image-folder``, ``splits.yaml`` included.
    """

    domains: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = ImageFolder.defaults

    def load(self, request: DataRequest) -> DomainData:
        """Return the two domains.

        Raises:
            ConfigError: an unknown domain, or another image size than the arrays'.
            DataError: no data root, missing or damaged arrays, labels without a class.
        """
        root, found = _open(request.data_root)
        for option, name in (("source", request.source), ("target", request.target)):
            if name not in found:
                near = did_you_mean(name, found)
                raise ConfigError(f"--{option} '{one_line(name, 60)}': no such domain{near}")
        classes = _classes(root)
        source, target = (
            _domain(root / name, classes, request.image_size)
            for name in (request.source, request.target)
        )
        own, others = (
            tuple(classes[k] for k in np.unique(part.labels)) for part in (source, target)
        )
        return DomainData(
            dataset="arrays",
            source=request.source,
            target=request.target,
            classes=classes,
            image_size=request.image_size,
            source_train=source,
            source_val=None,
            target_all=target,
            splits=splits_between(root / "splits.yaml", own, others),
        )

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the folder, one line each."""
        try:
            root, found = _open(data_root)
            classes = _classes(root)
        except DataError as error:
            return [str(error)]
        problems = []
        for name in found:
            try:
                _domain(root / name, classes, None)
            except (ConfigError, DataError) as error:
                problems.append(str(error))
        return problems


def _open(root: Path | None) -> tuple[Path, list[str]]:
    """Return the data root and the names of the domains in it."""
    if root is None:
        raise DataError(f"arrays: no data root; pass --data-root: {_FORM}")
    if not root.is_dir():
        raise DataError(f"arrays: data root {root} is not a folder; expected {_FORM}")
    found = [folder.name for folder in folders_in(root) if (folder / "images.npy").is_file()]
    if not found:
        raise DataError(f"arrays: no domain in {root}; expected {_FORM}")
    return root, found


def _classes(root: Path) -> tuple[str, ...]:
    place = root / "classes.txt"
    try:
        names = tuple(filter(None, map(str.strip, place.read_text("utf-8").splitlines())))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{place}: cannot be read ({reason_of(error)}); {_FORM}") from None
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"{place}: expected two or more different names, one a line")
    return names


def _domain(home: Path, classes: tuple[str, ...], size: int | None) -> Labelled:
    """Return a domain in the order of its pixels' hashes."""
    images, labels = (_array(home / f"{name}.npy") for name in ("images", "labels"))
    shape, count = images.shape, len(images) if images.ndim else 0
    if images.ndim != 4 or shape[3] != 3 or shape[1] != shape[2] or images.dtype != np.uint8:
        raise DataError(
            f"{home / 'images.npy'}: {shape} of {images.dtype}; expected (N, S, S, 3) uint8"
        )
    if size is not None and shape[1] != size:
        raise ConfigError(
            f"--image-size {size}: the pictures of {home} have {shape[1]} px; give "
            f"--image-size {shape[1]}, or write them at another size"
        )
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{home / 'labels.npy'}: {labels.shape} of {labels.dtype}; expected ({count},) integers"
        )
    if count and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise DataError(
            f"{home / 'labels.npy'}: labels {labels.min()} to {labels.max()}; classes.txt has "
            f"0 to {len(classes) - 1}"
        )
    keys = [hashlib.sha256(image.tobytes()).digest() for image in images]
    order = np.array(sorted(range(count), key=keys.__getitem__), dtype=np.int64)
    digest = hashlib.sha256("|".join(classes).encode())
    for row in order:
        digest.update(keys[row] + int(labels[row]).to_bytes(4, "little"))
    return Labelled(Reordered(images, order), labels[order].astype(np.int64), digest.hexdigest())


def _array(place: Path) -> npt.NDArray[Any]:
    try:
        found: npt.NDArray[Any] = np.load(place, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # noqa: BLE001 - a damaged header raises what it likes
        raise DataError(f"{place}: cannot be read ({reason_of(error)}); expected {_FORM}") from None
    if not isinstance(found, np.ndarray):
        raise DataError(f"{place}: is no .npy file; expected {_FORM}")
    if not found.size:
        raise DataError(f"{place}: holds nothing, its shape is {found.shape}; expected {_FORM}")
    return found
