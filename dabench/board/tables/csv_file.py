"""A frame as CSV: holes are empty, numbers at full precision (no torch).

pandas' own writer turns every cell into text; here each different value of a column is turned
once, which is much quicker for tables whose lines share most of their fields.
"""

from __future__ import annotations

import re
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from dabench.store.files import write_atomically

_PART = 10_000
_SPECIAL = re.compile('[",\\r\\n]')
_FORMULA = re.compile(r"[\t\r\n]|\s*[=+@-]")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table atomically (UTF-8).

    Raises:
        StoreError: the folder cannot be written.
    """
    columns = [_texts(frame[name]) for name in frame.columns]
    head = ",".join(_cell(name) for name in frame.columns)
    lines = chain([head], map(",".join, zip(*columns, strict=True)))

    def fill(file: BinaryIO) -> None:
        while part := list(islice(lines, _PART)):  # the whole text is as large as the records
            text = "\n".join(part) + "\n"
            file.write(text.encode("utf-8", "backslashreplace"))  # a lone surrogate has no bytes

    write_atomically(path, fill)


def harmless(text: str) -> str:
    """Return text that no spreadsheet takes for a formula: ``'`` before a first ``= + - @``."""
    return f"'{text}" if _FORMULA.match(text) else text


def _texts(values: pd.Series[Any]) -> list[str]:
    """Return a column's cells; counts (``..._n``) have no decimal point."""
    codes, different = pd.factorize(values)
    count = str(values.name).endswith("_n")
    texts = [_cell(int(value) if count else value) for value in different.tolist()]
    found = np.array([*texts, ""], dtype=object)[codes]  # a hole has the code -1
    return list(found.tolist())


def _cell(value: Any) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    text = harmless(value) if isinstance(value, str) else text
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if _SPECIAL.search(text) else text
