"""Small files that users write beside their pictures: tables and YAML."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dabench.errors import DataError, one_line, reason_of, shown

_MOST_BYTES = 1_000_000


class _OnceLoader(yaml.BaseLoader):
    """YAML in which a key stands once in its block, and every value is the text that is written.

    YAML 1.1 reads more into them: a class ``no`` is false there, ``010`` is 8 and ``1:30`` is 90.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        """Refuse a key that stands twice: YAML would take the last silently."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {shown(key.value)} stands twice; keep one of them"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(place: Path) -> Any:
    """Return what a YAML file holds: mappings and lists of text, as it is written there.

    Raises:
        DataError: it cannot be read, or is far too large.
    """
    try:
        text = place.read_bytes()
        if len(text) > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES // 1000} kB")
        return yaml.load(text, _OnceLoader)
    except yaml.YAMLError as error:
        told = one_line(error, 500)  # its last line alone lacks the place
        raise DataError(f"{place}: cannot be read (not valid YAML: {told})") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: cannot be read ({reason_of(error)})") from None


def read_table(place: Path, columns: Sequence[str], form: str) -> list[dict[str, str]]:
    """Return the rows of a CSV or Parquet file, every cell a stripped text.

    Args:
        place: the file.
        columns: those that must be there.
        form: what was expected, in words, for the errors.

    Raises:
        DataError: it cannot be read, misses a column or has one twice, or has no rows.
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
    double = [name for name, count in Counter(names).items() if name and count > 1]
    if double:  # the last of them would count, and nobody would see it
        raise DataError(f"{place}: column {one_line(double[0], 60)} stands there twice; keep one")
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(f"{place}: no column {', '.join(missing)}; expected {form}")
    if not found:
        raise DataError(f"{place}: no rows; expected {form}")
    return [{str(k): str(v or "").strip() for k, v in row.items()} for row in found]
