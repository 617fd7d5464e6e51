"""Arrays and datasets of a program, written down as a data root of the data set ``arrays``."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from dabench.datasets.decoding.images import eight_bits
from dabench.errors import CacheError, DataError, one_line, reason_of, shown

log = logging.getLogger("dabench")
Pixels = npt.NDArray[np.uint8]
#: domain -> (images, labels), or a map-style dataset of (image, label)
Domains = Mapping[str, Any]
#: domain -> (N, S, S, 3) pictures and (N,) numbers of classes
Numbered = Mapping[str, tuple[Pixels, npt.NDArray[np.int64]]]


def write_domains(
    domains: Domains, classes: Sequence[str] | None, size: int | None, cache_dir: Path
) -> tuple[Path, int]:
    """Write the domains into the cache, once for every content; a damaged folder is made again.

    Args:
        domains: name -> (images, labels) or a map-style dataset of (image, label). Images are
            (N, H, W, 3) or (N, H, W) uint8, (N, 3, H, W) floats in [0, 1], or whatever a dataset
            gives: PIL images, arrays and tensors of these forms. Labels are integers, or names.
        classes: names of the classes that integers stand for; None = ``dataset.classes``, the names
            that occur, or the numbers.
        size: side to which the pictures are brought; None = their height. The aspect ratio is not
            kept.
        cache_dir: ``arrays/<digest>/`` is made here.

    Returns:
        The folder, and the side of its pictures.

    Raises:
        DataError: pictures or labels of another form, or labels without a class.
        CacheError: the folder cannot be read, written or replaced.
    """
    if not isinstance(domains, Mapping) or not domains:
        raise DataError("data: expected a mapping such as {'a': (images, labels), 'b': dataset}")
    found = {str(name): _read(str(name), given, size) for name, given in domains.items()}
    names = _class_names(domains, classes, [labels for _, labels in found.values()])
    sides = {images.shape[1] for images, _ in found.values()}
    if len(sides) > 1:
        raise DataError(f"data: pictures of {sorted(sides)} px; give image_size=")
    numbered = {name: (images, _numbers(name, y, names)) for name, (images, y) in found.items()}
    digest = hashlib.sha256("\n".join(names).encode())
    for name, (images, labels) in sorted(numbered.items()):
        digest.update(f"\n{one_line(name, 200)} {images.shape}".encode())
        digest.update(np.ascontiguousarray(images).tobytes() + labels.tobytes())
    folder = cache_dir / "arrays" / digest.hexdigest()[:20]
    if folder.exists() and (wrong := _damage(folder, numbered, names)):
        log.warning("arrays %s cannot be used (%s); building it again", folder, wrong)
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            raise CacheError(f"{folder} is damaged and cannot be removed; delete it and run again")
    if not folder.exists():
        _write(folder, numbered, names)
    return folder, sides.pop()


def _damage(folder: Path, domains: Numbered, names: Sequence[str]) -> str | None:
    """Return what in a folder is not as it was written, or None; what it should hold is at hand.

    Raises:
        CacheError: it cannot be read, and may be whole.
    """
    wrong = "classes.txt"
    try:
        if (folder / wrong).read_bytes() != _lines(names):
            return f"{wrong} is not as it was written"
        for name, given in domains.items():
            arrays: tuple[npt.NDArray[Any], ...] = given
            for part, array in zip(("images", "labels"), arrays, strict=True):
                wrong = f"{name}/{part}.npy"
                found = np.load(folder / wrong, mmap_mode="r", allow_pickle=False)
                if found.dtype != array.dtype or not np.array_equal(found, array):
                    return f"{wrong} is not as it was written"
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        return f"{wrong}: {error.strerror}"
    except OSError as error:
        raise CacheError(
            f"{folder / wrong}: cannot be read ({reason_of(error)}); mend it, or give another "
            "cache_dir"
        ) from error
    except Exception as error:  # noqa: BLE001 - a damaged header raises what it likes
        return f"{wrong}: {reason_of(error)}"
    return None


def _lines(names: Sequence[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def _write(folder: Path, domains: Numbered, names: Sequence[str]) -> None:
    """Write the folder whole or not at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
        try:
            for name, (images, labels) in domains.items():
                (part / name).mkdir()
                np.save(part / name / "images.npy", images)
                np.save(part / name / "labels.npy", labels)
            (part / "classes.txt").write_bytes(_lines(names))
            part.chmod(0o755)
            if not folder.exists():
                try:
                    part.rename(folder)
                except OSError:
                    if not folder.exists():  # no other process was quicker
                        raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise CacheError(f"{folder}: cannot be written: {error.strerror}") from error


def _read(name: str, given: Any, size: int | None) -> tuple[Pixels, list[Any]]:
    if not name or name.startswith((".", "__")) or {*"/\\"} & {*name}:
        raise DataError(f"data: '{one_line(name, 60)}' is no name of a domain")
    if isinstance(given, tuple) and len(given) == 2:
        images, labels = given
        pairs = zip(images, labels, strict=False)
        if len(images) != len(labels):
            raise DataError(f"data['{name}']: {len(images)} images and {len(labels)} labels")
    elif hasattr(given, "__len__") and hasattr(given, "__getitem__"):
        pairs = (given[i] for i in range(len(given)))  # type: ignore[assignment]
    else:
        raise DataError(
            f"data['{name}']: expected (images, labels), or a dataset with a length whose items "
            f"are (image, label); found {type(given).__name__}"
        )
    pictures, labels = [], []
    for number, pair in enumerate(pairs):
        try:
            image, label = pair
        except (TypeError, ValueError):
            raise DataError(f"data['{name}'][{number}]: expected (image, label)") from None
        pictures.append(_picture(image, size, f"data['{name}'][{number}]"))
        if isinstance(label, list | tuple | dict) or np.prod(getattr(label, "shape", ())) != 1:
            raise DataError(
                f"data['{name}'][{number}]: label {shown(label)}; expected one number or name an "
                "image (of one-hot labels: labels.argmax(1))"
            )
        labels.append(label.item() if hasattr(label, "item") else label)
    if not pictures:
        raise DataError(f"data['{name}']: no images")
    if len({picture.shape for picture in pictures}) > 1:
        raise DataError(f"data['{name}']: pictures of several sizes; give image_size=")
    return np.stack(pictures), labels


def _picture(image: Any, size: int | None, where: str) -> Pixels:
    """Return (S, S, 3) uint8."""
    if isinstance(image, Image.Image):
        try:  # convert() alone cuts more than 8 bits off at 255
            grey, _ = eight_bits(image, image)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        array: Any = np.asarray(grey.convert("RGB"))
    else:
        array = (
            image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
        )
        if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
            array = array.transpose(1, 2, 0)
        if array.dtype.kind == "f":
            if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
                raise DataError(
                    f"{where}: floats outside [0, 1]; give pictures that are not normalised"
                )
            array = (array * 255).round().astype(np.uint8)
        if array.ndim == 2:
            array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or array.dtype != np.uint8:
        raise DataError(
            f"{where}: {array.shape} of {array.dtype}; expected (H, W, 3) uint8, (3, H, W) floats "
            "in [0, 1], or a PIL image"
        )
    pixels: Pixels = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array
    side = size or pixels.shape[0]
    if pixels.shape[:2] != (side, side):
        small = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
        pixels = np.asarray(small)
    return pixels


#: unused numbers below a label, for each that occurs, from which on labels are ids and no classes
_GAPS = 1000


def _class_names(
    domains: Domains, classes: Sequence[str] | None, labels: Sequence[Sequence[Any]]
) -> tuple[str, ...]:
    told = {tuple(given.classes) for given in domains.values() if hasattr(given, "classes")}
    if len(told) > 1 and classes is None:
        raise DataError("data: the datasets have different classes; say which by classes=")
    named = next(iter(told), None) if classes is None else classes
    if named is None:
        every = {label for part in labels for label in part}
        if all(isinstance(label, str) for label in every):
            named = sorted(every)
        else:
            most = max((label for label in every if isinstance(label, int)), default=-1)
            if most > _GAPS * len(every):
                raise DataError(
                    f"data: labels go up to {most}, and there are {len(every)} different ones; "
                    "number the classes from 0 on, or name them by classes="
                )
            named = list(map(str, range(most + 1)))
    names = tuple(one_line(name, 100) for name in named)
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"data: {len(names)} class(es); expected two or more different names")
    return names


def _numbers(name: str, labels: Sequence[Any], names: Sequence[str]) -> npt.NDArray[np.int64]:
    places = {label: number for number, label in enumerate(names)}
    found = []
    for number, label in enumerate(labels):
        place = places.get(label) if isinstance(label, str) else label
        if not isinstance(place, int) or not 0 <= place < len(names):
            raise DataError(
                f"data['{name}'][{number}]: label {one_line(label, 60)!r}; expected one of "
                f"{len(names)} classes, by name or 0 to {len(names) - 1}"
            )
        found.append(place)
    return np.array(found, dtype=np.int64)
