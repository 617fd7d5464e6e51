"""Whether a record lies where it says that it lies (no torch)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dabench.errors import StoreError


def check_place(path: Path, record: Mapping[str, Any], seen: dict[str, Path]) -> None:
    """Refuse a record that is no run's own file: in another folder, under another name, or twice.

    Args:
        path: where it lies.
        record: what it holds.
        seen: run id -> file of the records before it; this one is added.

    Raises:
        StoreError: what is wrong, and what to do.
    """
    run_id, spec = record["run_id"], record["spec"]
    if path.name != f"{run_id}.json":
        raise StoreError(
            f"{path}: holds run {run_id}; a file has its run's name: rename or delete it"
        )
    if run_id in seen:
        raise StoreError(f"{path}: run {run_id} lies in {seen[run_id]} too; delete one of them")
    place = (spec["protocol"], spec["dataset"])
    # a path may begin within the folder of its protocol or data set
    if path.parts[-3:-1] != place and Path(os.path.abspath(path)).parts[-3:-1] != place:
        right = f"{spec['protocol']}/{spec['dataset']}"
        raise StoreError(f"{path}: its spec says {right:.80}; move it to that folder, or delete it")
    seen[run_id] = path
