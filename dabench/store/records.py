"""Run records on disk: one immutable JSON file a run (no torch).

Layout: ``<results>/records/<protocol>/<dataset>/<run_id>.json``, per-sample predictions beside it
as ``<run_id>.npz``, a failed run as ``<run_id>.failed.json``, replaced ones in
``records/superseded/``. Files are written to a temporary name, fsynced and renamed, so a reader
never sees half a file and many processes may write at once.

A record::

    {"schema": 1,
     "run_id": "…",
     "spec": {RunSpec.to_dict()},
     "variant": {method options that differ from their defaults},
     "ids": {"data": digest, "stream": digest, "source": id},
     "versions": {"method": "1", "protocol": "1", "dabench": …, "torch": …},
     "environment": {"device", "threads", "git_commit", …},
     "cost": {"seconds", "peak_memory_bytes", …},
     "extras": [names of granted extras],
     "reconstruction": false,
     "scores": [{"metric", "value" (null = hole), "n", "segment", "at"}, …],
     "curves": [the same, per scored epoch],
     "predictions": "<run_id>.npz" or null}
"""

from __future__ import annotations

import contextlib
import fnmatch
import gc
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from dabench.contract.types import Score
from dabench.errors import StoreError
from dabench.store.files import write_atomically
from dabench.store.soundness import COLUMN, check, check_content
from dabench.store.soundness import run_digest as run_digest

SCHEMA = 1
Record = dict[str, Any]
#: what a spec names only where a source model differs from the usual one
OPTIONAL = ("source_seed", "source_backbone", "source_weights")
_LEAST_FREE = 10 * 2**20


def column(spec: Mapping[str, Any]) -> str:
    """Return the key of a table's column: the protocol's side of a spec, without the seed.

    Runs whose source model has a seed of its own are a column of their own.
    """
    part = {name: spec[name] for name in COLUMN}
    part |= {name: spec[name] for name in OPTIONAL if spec.get(name) is not None}
    digest = hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:12]
    return f"{spec['protocol']}/{spec['dataset']}/{spec['source']}-{spec['target']}/{digest}"


def to_row(score: Score) -> Record:
    """Return a score as it stands in a record; a non-finite value becomes a hole."""
    row: Record = _finite(asdict(score))
    return row


def from_row(row: Mapping[str, Any]) -> Score:
    """Return a record's row as a ``Score``."""
    return Score(**row)


def score_map(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the record's final scores by ``metric`` or ``metric/segment``; NaN is a hole."""
    found: dict[str, float | None] = {}
    for row in record["scores"]:
        value, segment = row["value"], row.get("segment", "all")
        key = row["metric"] if segment == "all" else f"{row['metric']}/{segment}"
        found[key] = value if value is not None and math.isfinite(value) else None
    return found


def _finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not know, by None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the collector of reference cycles from going through all records again and again.

    Records have no cycles, and with many of them it takes a third of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Store:
    """The records of a results folder.

    Args:
        root: the results folder (``--results``).
        curves: whether ``all()`` reads the curves, most of a record's bytes; False leaves the key
            out, and is several times faster.
    """

    def __init__(self, root: Path, *, curves: bool = True) -> None:
        self.root = root
        self._curves = curves
        self.records = root / "records"
        #: one line for every damaged file met by the last ``all()``
        self.problems: list[str] = []

    def path(self, protocol: str, dataset: str, run_id: str) -> Path:
        """Return where a run's record lies, or will lie."""
        return self.records / protocol / dataset / f"{run_id}.json"

    def exists(self, protocol: str, dataset: str, run_id: str) -> bool:
        """Return whether the run is finished."""
        return self.path(protocol, dataset, run_id).is_file()

    def check_writable(self) -> None:
        """Try a small file now, before hours of work.

        Raises:
            StoreError: missing parent folder, read-only folder, or a full disk.
        """
        parent = self.root.absolute().parent
        if not parent.is_dir():
            raise StoreError(f"--results {self.root}: the folder {parent} does not exist")
        try:
            self.records.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.records) as file:
                file.write(b"x")
            free = shutil.disk_usage(self.records).free
        except OSError as error:
            raise StoreError(
                f"--results {self.root}: cannot write there ({error.strerror}); choose another"
            ) from error
        if free < _LEAST_FREE:
            raise StoreError(f"--results {self.root}: the disk is full ({free // 2**20} MiB left)")

    def write(self, record: Record, arrays: Mapping[str, npt.NDArray[Any]] | None = None) -> Path:
        """Write a finished run; an earlier record of the same id is superseded, never overwritten.

        Args:
            record: as in the module's docstring; ``schema`` and ``predictions`` are filled in.
            arrays: per-sample predictions, written (compressed) before the record names them.
        """
        path = self._path_of(record)
        if path.exists():
            self._set_aside([path, path.with_suffix(".npz")])
        name = f"{record['run_id']}.npz" if arrays else None
        if arrays and name:
            content = dict(arrays)
            write_atomically(
                path.with_name(name),
                lambda file: np.savez_compressed(file, allow_pickle=False, **content),
            )
        self._dump(path, {**record, "schema": SCHEMA, "predictions": name})
        self.retire_failed(path)
        return path

    def retire_failed(self, path: Path) -> None:
        """Move what is known of a run's failed attempt to ``records/superseded/``, if anything.

        Args:
            path: where the finished run's record lies, or would lie.
        """
        failed = path.with_suffix(".failed.json")
        if failed.exists():
            self._set_aside([failed])

    def write_failed(self, record: Record, traceback: str) -> Path:
        """Keep what is known of a failed run as ``<run_id>.failed.json``."""
        path = self._path_of(record).with_suffix(".failed.json")
        self._dump(path, {**record, "schema": SCHEMA, "failed": True, "traceback": traceback})
        return path

    def supersede(self, run_id: str) -> Path:
        """Move a record and its predictions to ``records/superseded/``; return the new path."""
        path = self.find(run_id)
        return self._set_aside([path, path.with_suffix(".npz")])

    def find(self, run: str) -> Path:
        """Return the record of a run id or of an unambiguous beginning of one.

        A failed run is found only where no finished one fits.

        Raises:
            StoreError: none or several fit.
        """
        paths = [p for p in self._files() if p.name.startswith(run)] if run else []
        found = [p for p in paths if not _is_failed(p)] or paths
        if len(found) == 1:
            return found[0]
        if not found:
            raise StoreError(f"no run '{run}' in {self.records}; 'dabench leaderboard' reads them")
        raise StoreError(f"'{run}' fits {len(found)} runs in {self.records}; give more of the id")

    def all(self, protocol: str = "*", dataset: str = "*") -> Iterator[tuple[Path, Record]]:
        """Yield finished runs in a fixed order.

        What is no sound record (damaged, edited by hand, in the wrong place, there twice) is left
        out and named in ``problems``.
        """
        self.problems = []
        seen: dict[str, Path] = {}
        for path in self._files(protocol, dataset):
            if _is_failed(path):
                continue
            try:
                record = load(path, curves=self._curves)
                check(path, record, seen)
            except StoreError as error:
                self.problems.append(str(error))
                continue
            yield path, record

    def read(self, protocol: str = "*", dataset: str = "*") -> list[tuple[Path, Record]]:
        """Return all that ``all()`` yields at once, which is quicker for many records."""
        with collector_paused():
            return list(self.all(protocol, dataset))

    def failed(self) -> list[Path]:
        """Return the records of failed runs that have not been finished since."""
        paths = [path for path in self._files() if _is_failed(path)]
        return [p for p in paths if not p.with_name(f"{p.name.partition('.')[0]}.json").exists()]

    def _files(self, protocol: str = "*", dataset: str = "*") -> list[Path]:
        """Return the files of records in a fixed order (listed by hand: globs are slow)."""
        folders = [f for f in _listed(self.records, protocol) if f.name != "superseded"]
        inner = [folder for outer in folders for folder in _listed(outer, dataset)]
        return [file for folder in inner for file in _listed(folder, "*.json")]

    def _path_of(self, record: Record) -> Path:
        spec = record["spec"]
        return self.path(spec["protocol"], spec["dataset"], record["run_id"])

    def _dump(self, path: Path, record: Record) -> None:
        text = json.dumps(_finite(record), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(path, lambda file: _write_bytes(file, (text + "\n").encode()))

    def _set_aside(self, paths: list[Path]) -> Path:
        """Move files under one free name (a counter is added where one is taken)."""
        folder = self.records / "superseded"
        stem, _, ending = paths[0].name.partition(".")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            number = 0
            while True:
                new = stem if number == 0 else f"{stem}.{number}"
                try:
                    # reserve the name: two processes may be here at once
                    os.close(os.open(folder / f"{new}.{ending}", os.O_CREAT | os.O_EXCL))
                    break
                except FileExistsError:
                    number += 1
            for path in paths:
                with contextlib.suppress(FileNotFoundError):  # another process was quicker
                    os.replace(path, folder / f"{new}.{path.name.partition('.')[2]}")
            if (folder / f"{new}.{ending}").stat().st_size == 0:
                (folder / f"{new}.{ending}").unlink()
        except OSError as error:
            raise StoreError(f"cannot move {paths[0]} to {folder}: {error.strerror}") from error
        return folder / f"{new}.{ending}"


def _write_bytes(file: BinaryIO, content: bytes) -> None:
    file.write(content)


def _is_failed(path: Path) -> bool:
    return path.name.endswith(".failed.json")


def _listed(folder: Path, pattern: str) -> list[Path]:
    """Return what is in a folder, by name; nothing where there is no such folder."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"cannot read {folder}: {error.strerror}") from error
    found = names if pattern == "*" else fnmatch.filter(names, pattern)
    return [folder / name for name in sorted(found) if name[0] != "."]


def _without_curves(raw: bytes) -> bytes:
    """Cut the curves out of a record's text as ``Store`` writes it; other texts stay whole.

    A line of a top-level key begins with one space, and no JSON string holds a line break: what is
    found here is no part of a name.
    """
    start = raw.find(b'\n "curves": [\n')
    end = raw.find(b"]", start)
    while end > 0 and raw[end - 2 : end] != b"\n ":
        end = raw.find(b"]", end + 1)
    whole = start < 0 or end < 0 or raw[end + 1 : end + 3] != b",\n"
    return raw if whole else raw[:start] + raw[end + 2 :]


def load(path: Path, *, curves: bool = True) -> Record:
    """Read one record, with or without its ``curves``.

    Raises:
        StoreError: missing, damaged, or of another schema.
    """
    try:
        raw = path.read_bytes()
        record = json.loads(raw if curves else _without_curves(raw))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise StoreError(f"{path} is damaged (not JSON); delete it and run again") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise StoreError(f"{path} is not a record of schema {SCHEMA}; delete it and run again")
    if not curves:
        record.pop("curves", None)
    return record


def load_checked(path: Path) -> Record:
    """Read one record that may stand alone: a table would take it, or its run failed.

    Raises:
        StoreError: missing, damaged, of another schema, or edited by hand.
    """
    record = load(path)
    check_content(path, record)
    return record
