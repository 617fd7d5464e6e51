"""Published pickles, by an unpickler that builds arrays, text, lists and dictionaries alone."""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from dabench.errors import DataError, reason_of


def _latin1(text: str, coding: str) -> bytes:
    """Stand in for ``codecs.encode``, by which protocol 2 writes bytes under Python 3."""
    if coding != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {coding[:20]!r}")
    return text.encode("latin1")


def _text(value: str | bytes) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


class _Type:
    """An array's type as a file states it: numbers or text, for an object is a pointer."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        self.code, self.order = _text(code), "="
        if not re.fullmatch(r"[biufcSU]\d+", self.code):
            raise pickle.UnpicklingError(f"elements of the type {self.code[:20]!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = _text(state[1])
        if any(part is not None for part in state[2:5]):  # an array in an array, or named fields
            raise pickle.UnpicklingError("elements of several parts")


class _Array:
    """What a file states of an array; numpy's own class would take any memory for one."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, raw = state
        self.fill(raw, kind, shape, "F" if fortran else "C")

    def fill(
        self, raw: bytes, kind: _Type, shape: tuple[int, ...], order: Literal["C", "F"]
    ) -> Self:
        self.array = np.frombuffer(raw, kind.order + kind.code).reshape(shape, order=order)
        return self


def _empty_array(kind: type[Any], shape: tuple[int, ...], code: bytes) -> _Array:
    """Stand in for numpy's ``_reconstruct``: an array whose content comes after."""
    if kind is not _Array or shape != (0,):
        raise pickle.UnpicklingError("an array of a kind of its own")
    return _Array()


def _filled_array(*content: Any) -> _Array:
    """Stand in for numpy's ``_frombuffer``, by which protocol 5 writes one."""
    return _Array().fill(*content)


#: all that a file may name, and what takes its place; nothing else is ever looked up
ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _latin1,
} | {
    (f"numpy.{core}.{module}", name): made
    for core in ("core", "_core")
    for module, name, made in [
        ("multiarray", "_reconstruct", _empty_array),
        ("numeric", "_frombuffer", _filled_array),
    ]
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
    return {_text(k): v.array if isinstance(v, _Array) else v for k, v in found.items()}
