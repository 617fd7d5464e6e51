"""A frame as CSV: holes are empty, numbers at full precision (no torch).

pandas' own writer turns every cell into text; here each different value of a column is turned
once a part, and neighbours with few different values are joined once for each of their pairs: much
quicker for tables whose lines share most of their fields.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pandas as pd

from dabench.store.files import write_atomically
from dabench.store.garbage import collector_paused

#: lines that are turned at once: the whole text is as large as the records
_PART = 10_000
#: pairs of texts that are worth joining
_PAIRS = 2000
_SPECIAL = re.compile('[",\\r\\n]')
_FORMULA = re.compile(r"[\t\r\n]|\s*[=+@-]")


class _Coded:
    """A column, or several: its different texts, and which of them stands in each line."""

    def __init__(self, codes: npt.NDArray[np.intp], texts: list[str]) -> None:
        self.codes, self.texts = codes, texts

    def joined(self, right: _Coded) -> _Coded:
        """Return both as one, a comma between them."""
        n = len(right.texts)
        codes, pairs = self.codes * n + right.codes, np.arange(len(self.texts) * n)
        if 1 not in (n, len(self.texts)):  # most pairs may not be there
            codes, pairs = pd.factorize(codes)
        return _Coded(codes, [f"{self.texts[p // n]},{right.texts[p % n]}" for p in pairs.tolist()])

    def lines(self) -> list[str]:
        """Return a text a line."""
        return list(np.array(self.texts, dtype=object)[self.codes])


@collector_paused()
def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table atomically (UTF-8); where the name ends in ``.gz``, compressed.

    Raises:
        StoreError: the folder cannot be written.
    """

    columns = {name: values.to_numpy() for name, values in frame.items()}

    def fill(file: BinaryIO) -> None:
        if path.suffix.lower() != ".gz":  # as pandas reads it
            return write(file)
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:  # no time: the same bytes
            write(packed)

    def write(file: BinaryIO | gzip.GzipFile) -> None:
        file.write(_bytes([",".join(map(_cell, columns))]))
        for start in range(0, len(frame), _PART):
            part = {name: values[start : start + _PART] for name, values in columns.items()}
            texts = [coded.lines() for coded in _joined(part)]
            file.write(_bytes(map(",".join, zip(*texts, strict=True))))

    write_atomically(path, fill)


def _bytes(lines: Iterable[str]) -> bytes:
    text = "\n".join([*lines, ""])
    return text.encode("utf-8", "backslashreplace")  # a lone surrogate has no bytes


def harmless(text: str) -> str:
    """Return text that no spreadsheet takes for a formula: ``'`` before a first ``= + - @``."""
    return f"'{text}" if _FORMULA.match(text) else text


def _joined(part: Mapping[Any, npt.NDArray[Any]]) -> Iterator[_Coded]:
    """Yield the columns in their order, joined where that is less work."""
    held: _Coded | None = None
    for name, values in part.items():
        found = _coded(values, count=str(name).endswith("_n"))
        if held is None:
            held = found
        elif len(held.texts) * len(found.texts) <= _PAIRS:
            held = held.joined(found)
        else:
            yield held
            held = found
    if held is not None:
        yield held


def _coded(values: npt.NDArray[Any], *, count: bool) -> _Coded:
    """Return a column's cells; counts (``..._n``) have no decimal point."""
    codes, different = pd.factorize(values)
    texts = [_cell(int(value) if count else value) for value in different.tolist()]
    if (holes := codes < 0).any():
        codes[holes] = len(texts)
        texts.append("")
    return _Coded(codes, texts)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return repr(value)
    text = harmless(value) if isinstance(value, str) else str(value)
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if _SPECIAL.search(text) else text
