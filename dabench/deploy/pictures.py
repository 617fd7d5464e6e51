"""Pictures without labels: those of a folder, at any depth, or those of a list."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dabench.datasets.decoding.images import decode
from dabench.datasets.decoding.lists import read_table
from dabench.datasets.decoding.picture_files import describe_left_out, is_note, is_picture
from dabench.errors import DataError, one_line


@dataclass(frozen=True)
class Pile:
    """Pictures in the order in which they are adapted on.

    Attributes:
        names: paths from the folder on.
        images: (N, S, S, 3) uint8.
        unreadable: name -> why a file could not be decoded.
        left_out: what else lies in the folder, a line for each reason.
    """

    names: tuple[str, ...]
    images: np.ndarray
    unreadable: dict[str, str]
    left_out: tuple[str, ...] = ()


def read_pictures(place: Path, size: int, *, hashed: bool, strict: bool = False) -> Pile:
    """Decode the pictures under a folder, or those that a list names.

    Args:
        place: a folder; or a CSV or Parquet file with a column ``path``, which counts from the
            file's folder on.
        size: side in pixels to which they are brought; the aspect ratio is not kept.
        hashed: in the order of their hashed names, as data sets have them; else by name, or as the
            list has them, which is the order of a stream.
        strict: refuse a file that cannot be read.

    Raises:
        DataError: no folder or list, fewer than two pictures, a file that is listed twice or is not
            there, or (``strict``) a bad one.
    """
    folder = place if place.is_dir() else place.parent
    found, others = _under(place) if place.is_dir() else (_listed(place), [])
    if hashed:
        found.sort(key=lambda path: hashlib.sha256(os.fsencode(_entry(folder, path))).digest())
    names, pictures = [], []
    kind = "of a kind that this Pillow does not read"
    if strict and others:
        raise DataError(f"{others[0]}: {kind}; leave --strict out to go on without it")
    unreadable = {_name(folder, path): kind for path in others}
    for path in found:
        name = _name(folder, path)
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
            f"--images {place}: {len(pictures)} picture(s) can be read"
            f"{f' and {len(unreadable)} cannot' if unreadable else ''}; expected two or more"
        )
    left_out = describe_left_out(place, found) if place.is_dir() else ()
    return Pile(tuple(names), np.stack(pictures), unreadable, tuple(left_out))


def _under(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the pictures under a folder, and the files of other kinds but for notes, by path."""
    there = sorted(path for path in _visible(folder) if not is_note(path))
    found = [path for path in there if is_picture(path)]
    return found, sorted({*there}.difference(found))


def _visible(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Return the visible files under a folder; links are followed, as in data sets.

    Args:
        folder: that is looked into.
        above: folders in which it lies, links resolved: one that leads back there is left out.
    """
    inside = (*above, folder.resolve())
    try:
        for path in folder.iterdir():
            if path.name.startswith("."):
                continue
            if not path.is_dir():
                yield path
            elif not path.name.startswith("__") and path.resolve() not in inside:
                yield from _visible(path, inside)
    except OSError as error:
        raise DataError(
            f"cannot read folder {folder}: {error.strerror}; mend its rights"
        ) from error


def _listed(place: Path) -> list[Path]:
    if not place.is_file():
        raise DataError(f"--images {one_line(place, 300)}: no such folder or list")
    rows = read_table(place, ("path",), "a list (.csv, .parquet) with a column path, or a folder")
    found = [place.parent / row["path"] for row in rows]
    for path, n in Counter(found).items():
        if n > 1 or not path.is_file():
            wrong = "it stands there twice" if n > 1 else "there is no such file"
            name = one_line(_name(place.parent, path), 300)
            raise DataError(f"--images {place}: '{name}': {wrong}; mend the list")
    return found


def _name(folder: Path, path: Path) -> str:
    """Return a picture's path from the folder on; as it is where it lies elsewhere."""
    inside = path.is_relative_to(folder)
    return (path.relative_to(folder) if inside else path).as_posix()


def _entry(folder: Path, path: Path) -> str:
    """Return the name under which a data set would know a picture of a domain's folder."""
    return f"{folder.name}/{_name(folder, path)}"
