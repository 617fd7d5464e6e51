"""What nodes return, put in its place: records in the store, source models where all find them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from dabench.errors import StoreError
from dabench.store.arrays import read_arrays
from dabench.store.files import write_bytes_atomically
from dabench.store.scratch import scratch_folder
from dabench.store.store import Store
from dabench.sweep.executors.node import Files, Made, write_files
from dabench.sweep.plan import Job


def keep_results(store: Store, made: Made) -> None:
    """Write what a run leaves; its record comes last, since what has one is not run again.

    The adapted model of an earlier record goes: what lies beside a record is always of that record.

    Raises:
        StoreError: the disk refuses.
    """
    records = {name for name in made.results if name.startswith("records/")}
    others = {name: content for name, content in made.results.items() if name not in records}
    failed = {name: made.results[name] for name in records if name.endswith(".failed.json")}
    for name in records - failed.keys():
        if name.endswith(".json"):
            shutil.rmtree(store.root / "runs" / Path(name).stem / "model", ignore_errors=True)
    for name, content in (others | failed).items():
        write_bytes_atomically(store.root / name, content)
    with scratch_folder("sweep") as scratch:
        write_files(Path(scratch), {name: made.results[name] for name in records - failed.keys()})
        came = Store(Path(scratch))
        for path, record in came.all():
            kept = record.get("predictions")
            store.write(record, read_arrays(path.with_name(kept)) if kept else {})
        if came.problems:
            raise StoreError(f"what a node sent is no record: {came.problems[0]}")


class Shelf:
    """Source models that runs on nodes have made, in the driver's cache, by what decides them.

    Args:
        cache: the driver's cache folder; a later sweep finds there what this one made.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._names: dict[str, list[str]] = {}

    def names(self, job: Job) -> list[str]:
        """Return the files that a run may need, below ``sources/``."""
        key = _key(job)
        if key not in self._names:
            path = self._list(key)
            self._names[key] = json.loads(path.read_text()) if path.is_file() else []
        return [name for name in self._names[key] if (self._cache / "sources" / name).is_file()]

    def files(self, job: Job) -> Files:
        """Return the content of those files."""
        return {name: (self._cache / "sources" / name).read_bytes() for name in self.names(job)}

    def add(self, job: Job, files: Files) -> None:
        """Keep what a run has made; who came first stays, so that all use the same weights."""
        new = {k: v for k, v in files.items() if not (self._cache / "sources" / k).is_file()}
        for name, content in new.items():
            write_bytes_atomically(self._cache / "sources" / name, content)
        names = sorted({*self.names(job), *files})
        if files and names != self._names[_key(job)]:
            self._names[_key(job)] = names
            write_bytes_atomically(self._list(_key(job)), json.dumps(names).encode())

    def _list(self, key: str) -> Path:
        return self._cache / "shelf" / f"{key}.json"


def _key(job: Job) -> str:
    return hashlib.sha256(repr(job.recipe_key).encode()).hexdigest()[:32]
