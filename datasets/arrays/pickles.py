"""Published pickles, by an unpickler that builds arrays, text, lists and dictionaries alone."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from dabench.errors import DataError, reason_of


def _latin1(text: str, coding: str) -> bytes:
    """Stand in for ``codecs.encode``, by which protocol 2 writes bytes under Python 3."""
    if coding != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {coding[:20]!r}")
    return text.encode("latin1")


def _empty_array(kind: type[Any], shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """Stand in for numpy's ``_reconstruct``: an array whose content comes after."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("an array of a kind of its own")
    return np.ndarray((0,), np.int8)


#: all that a file may name; nothing else is ever looked up
ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("_codecs", "encode"): _latin1,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def read_pickle(path: Path, what: str) -> dict[str, Any]:
    """Return the dictionary in a pickle; its keys become text.

    Args:
        path: a file of Python 2 or 3 that holds arrays, numbers, text, lists and dictionaries.
        what: the data set's name, for messages.

    Raises:
        DataError: missing, damaged, another object, or a file that names anything else (that is
            not run, and not imported).
    """
    try:
        found = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except OSError as error:
        raise DataError(f"{what}: cannot read {path} ({error.strerror})") from error
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(
            f"{what}: {path} is no pickle of arrays and lists alone ({reason_of(error)}); unpack "
            "the published archive again"
        ) from error
    if not isinstance(found, dict):
        raise DataError(f"{what}: {path} holds a {type(found).__name__}, expected a dictionary")
    return {k.decode("latin1") if isinstance(k, bytes) else str(k): v for k, v in found.items()}
