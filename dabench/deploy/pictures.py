"""A folder of pictures without labels: every file that is one, at any depth."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dabench.datasets.decoding.images import decode
from dabench.datasets.decoding.picture_files import is_picture
from dabench.errors import DataError, one_line


@dataclass(frozen=True)
class Pile:
    """Pictures in the order in which they are adapted on.

    Attributes:
        names: paths from the folder on.
        images: (N, S, S, 3) uint8.
        unreadable: name -> why a file could not be decoded.
    """

    names: tuple[str, ...]
    images: np.ndarray
    unreadable: dict[str, str]


def read_folder(folder: Path, size: int, *, hashed: bool, strict: bool = False) -> Pile:
    """Decode the pictures under a folder.

    Args:
        folder: of the pictures.
        size: side in pixels to which they are brought; the aspect ratio is not kept.
        hashed: in the order of their hashed names, as data sets have them; else by name, which is
            the order of a stream.
        strict: refuse a file that cannot be decoded.

    Raises:
        DataError: no folder, fewer than two pictures, or (``strict``) a bad one.
    """
    if not folder.is_dir():
        raise DataError(f"--images {one_line(folder, 300)}: no such folder")
    found = sorted(
        path
        for parent, _, names in os.walk(folder)
        for path in (Path(parent, name) for name in names)
        if not path.name.startswith(".") and is_picture(path)
    )
    if hashed:
        found.sort(key=lambda path: hashlib.sha256(os.fsencode(_entry(folder, path))).digest())
    names, pictures = [], []
    unreadable: dict[str, str] = {}
    for path in found:
        name = path.relative_to(folder).as_posix()
        try:
            picture, _ = decode(path, size, "NAME")
        except DataError as error:
            reason = str(error).split("; replace the file")[0]
            if strict:
                raise DataError(f"{reason}; leave --strict out to go on without it") from error
            unreadable[name] = reason
            continue
        names.append(name)
        pictures.append(picture)
    if len(pictures) < 2:
        raise DataError(
            f"--images {folder}: {len(pictures)} picture(s) can be read"
            f"{f' and {len(unreadable)} cannot' if unreadable else ''}; expected two or more"
        )
    return Pile(tuple(names), np.stack(pictures), unreadable)


def _entry(folder: Path, path: Path) -> str:
    """Return the name under which a data set would know a picture of a domain's folder."""
    return f"{folder.name}/{path.relative_to(folder).as_posix()}"
