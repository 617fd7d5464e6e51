"""Small files that users write beside their pictures: tables and YAML."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dabench.errors import DataError, reason_of

_MOST_BYTES = 1_000_000


def read_yaml(place: Path) -> Any:
    """Return what a YAML file holds.

    Raises:
        DataError: it cannot be read, or is far too large.
    """
    try:
        text = place.read_bytes()
        if len(text) > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES // 1000} kB")
        return yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{place}: cannot be read ({reason_of(error)})") from None


def read_table(place: Path, columns: Sequence[str], form: str) -> list[dict[str, str]]:
    """Return the rows of a CSV or Parquet file, every cell a stripped text.

    Args:
        place: the file.
        columns: those that must be there.
        form: what was expected, in words, for the errors.

    Raises:
        DataError: it cannot be read, misses a column, or has no rows.
    """
    try:
        if place.suffix.lower() == ".parquet":
            import pandas as pd

            found = pd.read_parquet(place).fillna("").astype(str).to_dict("records")
            names = list(found[0]) if found else []
        else:
            with place.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, strict=True)
                found, names = list(reader), list(reader.fieldnames or ())
    except ImportError as error:
        raise DataError(f"{place}: Parquet needs a reader: pip install pyarrow") from error
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{place}: cannot be read ({reason_of(error)}); expected {form}") from None
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(f"{place}: no column {', '.join(missing)}; expected {form}")
    if not found:
        raise DataError(f"{place}: no rows; expected {form}")
    return [{str(k): str(v or "").strip() for k, v in row.items()} for row in found]
