"""The file beside a record: a run's predictions by sample, and its curves (no torch).

``<run_id>.npz`` is what ``np.load`` reads. Three things make it small. What is equal in all runs
of a stream, and not the method's, lies once in ``records/shared/<digest>.npz``; the file names it.
Confidences are kept as multiples of 1/512: they are for looking at, and no score is made of them.
And each array is packed by that of two methods which makes it smaller; of counts by frame, those
before an update are kept as what they are more than those after it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dabench.errors import StoreError, reason_of
from dabench.store.archive import read_file
from dabench.store.curves import PREFIX, from_columns, to_columns
from dabench.store.files import write_bytes_atomically
from dabench.store.records import Record, without_nan

SHARED = "shared"
#: last parts of names: which samples, in which order, and what the source model said of them
_OF_ALL = frozenset({"row", "truth", "step", "segment", "source"})
#: counts by frame before an update, after it, and the former less the latter
_BEFORE, _AFTER, _CHANGE = "stream.before", "stream.after", "stream.before-less-after"
_CONFIDENCE_STEPS = 512
Arrays = dict[str, npt.NDArray[Any]]


def split(
    record: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
) -> tuple[Record, Arrays]:
    """Return what goes into a record's own file, and what into the one beside it.

    Curves stay with the record where nothing else lies beside it and there are none, or where
    columns would change them.
    """
    lean = {k: v for k, v in record.items() if k not in ("curves", "predictions_checksum")}
    curves = without_nan(record.get("curves", []))
    columns = to_columns(curves)
    if "curves" in record and not columns and (curves or not arrays):
        lean["curves"] = curves
    return lean, {**arrays, **columns}


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]], records: Path) -> str:
    """Write the file beside a record, before it what it shares with others.

    Args:
        path: of the file.
        arrays: predictions, and curves as columns.
        records: the folder of all records.

    Returns:
        The file's digest, for its record.

    Raises:
        StoreError: the disk refuses.
    """
    shared = {name: a for name, a in arrays.items() if name.rpartition(".")[2] in _OF_ALL}
    own = {name: as_kept(name, a) for name, a in arrays.items() if name not in shared}
    if {_BEFORE, _AFTER} <= own.keys():
        own[_CHANGE] = own.pop(_BEFORE).astype(np.int32) - own[_AFTER].astype(np.int32)
    if shared:
        digest = _digest_of(shared)
        own[SHARED] = np.array(digest)
        file = records / SHARED / f"{digest}.npz"
        if not file.is_file() or not _is_sound(file):
            write_bytes_atomically(file, _packed(shared))
    content = _packed(own)
    write_bytes_atomically(path, content)
    return _digest(content)


def as_kept(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array in the precision in which it is kept."""
    if name.endswith(".confidence") and array.dtype.kind == "f":
        steps = np.round(array.astype(np.float32) * _CONFIDENCE_STEPS)
        return (steps / _CONFIDENCE_STEPS).astype(np.float16)
    return array


def read_arrays(path: Path) -> Arrays:
    """Return the predictions beside a record, by name.

    Raises:
        StoreError: the file is missing or damaged.
    """
    found = {k: a for k, a in _read(path, _content(path)).items() if not k.startswith(PREFIX)}
    if SHARED in found:
        file = _shared_file(path, str(found.pop(SHARED)))
        shared = _read(file, _content(file))
        if _digest_of(shared) != file.stem:
            raise StoreError(f"{file}: is not what it was when it was written; restore it")
        found |= shared
    if _CHANGE in found:
        before = found[_AFTER].astype(np.int32) + found.pop(_CHANGE)
        found[_BEFORE] = before.astype(found[_AFTER].dtype)
    wide = {k: a.astype(np.float32) if a.dtype == np.float16 else a for k, a in found.items()}
    return {k: np.asarray(a, order="C") for k, a in wide.items()}


def read_curves(path: Path, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the curves that lie beside a record, as rows.

    Args:
        path: of the record, which names the file and its digest.
        record: what it holds.

    Raises:
        StoreError: the file is missing, or is not the one that was written with the record.
    """
    file = file_beside(path, record)
    content = _checked(file, record)
    try:
        return from_columns(_read(file, content, PREFIX))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{file}: curves cannot be read ({reason_of(error)})") from error


def check_arrays(path: Path, record: Mapping[str, Any]) -> None:
    """Hold the file beside a record against its digest; older records have none.

    Raises:
        StoreError: it is missing or has changed, or what it shares with others.
    """
    if "predictions_checksum" in record:
        _checked(file := file_beside(path, record), record)
        shared = shared_by(file)
        if shared is not None and not _is_sound(shared):
            raise StoreError(f"{shared}: missing or damaged, and {file} needs it; restore it")


def shared_by(file: Path) -> Path | None:
    """Return what the file beside a record shares with others, if anything.

    Raises:
        StoreError: the file is missing or damaged.
    """
    name = _read(file, _content(file), SHARED).get(SHARED)
    return None if name is None else _shared_file(file, str(name))


def file_beside(path: Path, record: Mapping[str, Any]) -> Path:
    """Return the file beside a record; one that was moved away got the record's new name."""
    if path.parent.name == "superseded":
        return path.with_suffix(".npz")
    return path.with_name(str(record["predictions"]))


def _checked(file: Path, record: Mapping[str, Any]) -> bytes:
    content = _content(file)
    if _digest(content) != record["predictions_checksum"]:
        raise StoreError(f"{file}: its checksum is not that in its record; restore it or run again")
    return content


def _content(path: Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        reason = reason_of(error)
        raise StoreError(f"{path}: predictions cannot be read ({reason}); run again") from error


def _read(path: Path, content: bytes, start: str = "") -> Arrays:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name.startswith(start)}
    except Exception as error:  # zip, zlib and NumPy's headers raise some ten kinds
        reason = reason_of(error)
        raise StoreError(f"{path}: predictions cannot be read ({reason}); run again") from error


def _shared_file(path: Path, digest: str) -> Path:
    """Return a shared file: a record lies one or three folders below the records."""
    places = [folder / SHARED / f"{digest}.npz" for folder in path.absolute().parents[1:3]]
    return next((place for place in places if place.is_file()), places[-1])


def _is_sound(file: Path) -> bool:
    try:
        return _digest_of(_read(file, _content(file))) == file.stem
    except StoreError:
        return False


def _packed(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return the arrays as a file: the same bytes for the same arrays."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for name, array in arrays.items():
            # of counts by step those of one cell lie together, since they are alike
            laid = np.asarray(array, order="F" if np.ndim(array) > 2 else "C")
            text = io.BytesIO()
            np.lib.format.write_array(text, laid, allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), text.getvalue(), _best(text.getvalue()))
    return target.getvalue()


def _best(content: bytes) -> int:
    """Return the method of zip files that makes this smaller; Python may come without ``bz2``."""
    import zlib

    try:
        import bz2
    except ImportError:
        return zipfile.ZIP_DEFLATED
    small = len(bz2.compress(content)) < len(zlib.compress(content))
    return zipfile.ZIP_BZIP2 if small else zipfile.ZIP_DEFLATED


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def _digest_of(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return the digest of what arrays hold, however their file is packed."""
    found = blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(array.tobytes())
    return found.hexdigest()
