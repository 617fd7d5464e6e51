"""The records of a results folder: one immutable JSON file a run (no torch).

Layout: ``<results>/records/<protocol>/<dataset>/<run_id>.json``, per-sample predictions and curves
beside it as ``<run_id>.npz``, a failed run as ``<run_id>.failed.json``, replaced ones in
``records/superseded/``, what the runs of a stream share in ``records/shared/``. Files are written
to a temporary name, fsynced and renamed, so a reader never sees half a file; those who write take
turns (``files.locked``).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from dabench.errors import StoreError
from dabench.store.archive import superseded_as
from dabench.store.arrays import SHARED, split, write_arrays
from dabench.store.checksum import sealed, text_of
from dabench.store.files import (
    free_name,
    keep_copy,
    listed,
    locked,
    move_aside,
    set_aside,
    write_bytes_atomically,
)
from dabench.store.garbage import collector_paused
from dabench.store.identity import job_key
from dabench.store.lean_reader import LeanReader
from dabench.store.reading import load_record
from dabench.store.records import SCHEMA, Record, without_nan
from dabench.store.schema import first_fault
from dabench.store.soundness import check_place

_LEAST_FREE = 10 * 2**20
#: folders beside those of the protocols
_RESERVED = ("superseded", SHARED)


class Store:
    """The records of a results folder.

    Args:
        root: the results folder (``--results``).
        curves: whether ``all()`` reads the curves, most of a record's bytes; False leaves the key
            out, and is many times faster; records then share what is equal in them: change none.
        index: whether it may then take what the index keeps of unchanged files; False reads all
            files, and holds those beside the records against their checksums too.
    """

    def __init__(self, root: Path, *, curves: bool = True, index: bool = True) -> None:
        self.root = root
        self._curves, self._index, self._strict = curves, index and not curves, not index
        self.records = root / "records"
        self.superseded = self.records / "superseded"
        #: one line for every damaged file met by the last ``all()``
        self.problems: list[str] = []

    def path(self, protocol: str, dataset: str, run_id: str) -> Path:
        """Return where a run's record lies, or will lie."""
        return self.records / protocol / dataset / f"{run_id}.json"

    def finished(self, protocol: str, dataset: str, run_id: str) -> Record | None:
        """Return a run's record if it is finished, None where it has none.

        Raises:
            StoreError: there is one that no table would take.
        """
        path = self.path(protocol, dataset, run_id)
        if not path.is_file():
            return None
        record = load_record(path)
        check_place(path, record, {})
        return record

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

        The earlier record stays in its place, beside its own predictions, until the new one is
        whole and takes it: whenever this is interrupted, there is one of the two.

        Args:
            record: as in ``records``; ``schema``, ``predictions`` and checksums are filled in.
            arrays: per-sample predictions, written (compressed) before the record names them.

        Raises:
            StoreError: the disk refuses, or the record has a value with which nobody could read it.
        """
        path = self._path_of(record)
        fault = first_fault(json.loads(text_of(without_nan(record))))
        if fault:
            raise StoreError(f"run {record['run_id']} makes no record: {fault.partition(';')[0]}")
        with locked(self.records):
            old, new = self._predictions(path), None
            lean, beside = split(record, arrays or {})
            if beside:
                new = free_name(path.with_suffix(".npz"))
                digest = write_arrays(new, beside, self.records)
                lean |= {"predictions_checksum": digest} if "curves" not in lean else {}
            if path.exists():
                set_aside([path, old], self.superseded, keep_copy)
            self.dump(path, {**lean, "schema": SCHEMA, "predictions": new.name if new else None})
            if old != new:
                old.unlink(missing_ok=True)
            # a sweep names what failed before its id was known by the key
            for name in (path.stem, job_key(record["spec"], record.get("versions", {}))):
                self._retire_failed(path.with_name(f"{name}.json"))
        return path

    def _predictions(self, path: Path) -> Path:
        """Return the file of predictions of a record, whether or not there is one."""
        try:
            name = load_record(path, curves=False).get("predictions")
        except StoreError:  # none there, or a useless one
            name = None
        return path.with_name(name) if name else path.with_suffix(".npz")

    def retire_failed(self, path: Path) -> None:
        """Move what is known of a run's failed attempt to ``records/superseded/``, if anything.

        Args:
            path: where the finished run's record lies, or would lie.
        """
        with locked(self.records):
            self._retire_failed(path)

    def _retire_failed(self, path: Path) -> None:
        failed = path.with_suffix(".failed.json")
        if failed.exists():
            set_aside([failed], self.superseded, os.replace)

    def write_failed(self, record: Record, traceback: str) -> Path:
        """Keep what is known of a failed run as ``<run_id>.failed.json``."""
        path = self._path_of(record).with_suffix(".failed.json")
        self.dump(path, {**record, "schema": SCHEMA, "failed": True, "traceback": traceback})
        return path

    def supersede(self, run: str | Path) -> Path:
        """Move a record and its predictions to ``records/superseded/``; return the new path."""
        path = run if isinstance(run, Path) else self.find(run)
        with locked(self.records):
            return move_aside([path, self._predictions(path)], self.superseded)

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
            old = superseded_as(self.superseded, run) if run else []
            hint = (
                f"'{old[0]}' is superseded"
                if old
                else "ids stand in the column 'runs' of 'dabench leaderboard --csv FILE'"
            )
            raise StoreError(f"no run '{run}' in {self.records}; {hint}")
        raise StoreError(f"'{run}' fits {len(found)} runs in {self.records}; give more of the id")

    def locate(self, run: str) -> Path:
        """Return the record of a run that is named by its file, or as :meth:`find` does."""
        path = Path(run)
        return path if path.suffix == ".json" else self.find(run)

    def all(self, protocol: str = "*", dataset: str = "*") -> Iterator[tuple[Path, Record]]:
        """Yield finished runs in a fixed order.

        What is no sound record (damaged, edited by hand, in the wrong place, there twice) is left
        out and named in ``problems``.
        """
        self.problems = []
        seen: dict[str, Path] = {}
        files = [path for path in self._files(protocol, dataset) if not _is_failed(path)]
        with contextlib.closing(LeanReader(self.root, index=self._index)) as lean:
            for path in files:
                try:
                    if self._curves:
                        record = load_record(path, strict=self._strict)
                    else:
                        record = lean.load(path)
                    check_place(path, record, seen)
                except StoreError as error:
                    self.problems.append(str(error))
                    continue
                yield path, record
            lean.update()

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
        folders = [f for f in listed(self.records, protocol) if f.name not in _RESERVED]
        inner = [folder for outer in folders for folder in listed(outer, dataset)]
        return [file for folder in inner for file in listed(folder, "*.json")]

    def _path_of(self, record: Record) -> Path:
        spec = record["spec"]
        return self.path(spec["protocol"], spec["dataset"], record["run_id"])

    def dump(self, path: Path, record: Record) -> None:
        """Write a record's own file, whole or not at all; its checksums are filled in."""
        write_bytes_atomically(path, text_of(sealed(without_nan(record))))


def _is_failed(path: Path) -> bool:
    return path.name.endswith(".failed.json")
