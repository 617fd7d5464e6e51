"""The files of CIFAR-10 and CIFAR-100 as published: Python pickles, or binary records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dabench.contract.data import Labelled
from dabench.contract.types import IntArray
from dabench.datasets.arrays.checksums import ARCHIVES, archive_differs, differs
from dabench.datasets.arrays.pickles import read_pickle
from dabench.datasets.arrays.turned import SIDE, turned_once
from dabench.datasets.caching.cache_folder import seal, sync_to_disk, warn_once
from dabench.datasets.class_folders.folder_tree import find_child
from dabench.datasets.decoding.images import Pictures
from dabench.errors import DataError, shown


@dataclass(frozen=True)
class CifarSpec:
    """What the two sets differ in.

    Attributes:
        name: registered name.
        classes: names in the order of the labels.
        python: folder of the pickles, and of each part its files.
        binary: folder of the records, and of each part its files.
        names: pickle with the classes' names, and their key.
        labels: key of the labels in a pickle.
        label_bytes: bytes before the pixels of a record; the last is the label.
        counts: published number of pictures by part.
    """

    name: str
    classes: tuple[str, ...]
    python: tuple[str, Mapping[str, tuple[str, ...]]]
    binary: tuple[str, Mapping[str, tuple[str, ...]]]
    names: tuple[str, str]
    labels: str
    label_bytes: int
    counts: Mapping[str, int]

    @property
    def where(self) -> str:
        """Where one gets the files."""
        return "get it from https://www.cs.toronto.edu/~kriz/cifar.html"

    def find(self, root: Path) -> ArrayFolder | None:
        """Return the folder of pickles, or else of records; None = neither is there."""
        for parent in (root, find_child(root, (self.name,))):
            for kind in (self.python, self.binary):
                folder = find_child(parent, (kind[0],)) if parent else None
                if folder is not None:
                    return ArrayFolder(self, folder, kind[1], pickled=kind is self.python)
        return None


def check_root(root: Path | None, what: str, where: str) -> Path:
    """Return the data root.

    Raises:
        DataError: none was given, or it is no folder.
    """
    if root is None:
        raise DataError(f"{what}: no data root; pass --data-root or set DABENCH_DATA ({where})")
    if not root.is_dir():
        raise DataError(
            f"{what}: data root {root} is not a folder; mend --data-root or DABENCH_DATA"
        )
    return root


@dataclass(frozen=True)
class ArrayFolder:
    """A folder of published files: by part the names of its files."""

    spec: CifarSpec
    folder: Path
    parts: Mapping[str, tuple[str, ...]]
    pickled: bool

    @property
    def published(self) -> str:
        """The folder's published name, whatever its capitals and dashes are here."""
        return (self.spec.python if self.pickled else self.spec.binary)[0]

    def load(self, part: str, cache_dir: Path) -> Labelled:
        """Return a part's pictures as a memory map, in the published order.

        Pickles and records cannot be mapped as pictures: they are turned once, file by file.

        Raises:
            DataError: a file that is missing, damaged, or not the published one.
            CacheError: the cache folder cannot be written.
        """
        name = f"{self.spec.name}-{part}"
        return turned_once(name, self.paths(part), cache_dir, lambda new: self._write(part, new))

    def paths(self, part: str) -> list[Path]:
        """Return the files of a part.

        Raises:
            DataError: one is missing.
        """
        found = [self.folder / name for name in self.parts[part]]
        if gone := [path.name for path in found if not path.is_file()]:
            raise DataError(
                f"{self.spec.name}: {self.folder} has no {', '.join(gone)}; unpack the archive "
                f"again ({self.spec.where})"
            )
        return found

    def labels(self, part: str) -> IntArray:
        """Return a part's labels; its files must be the published ones, or a reduced copy.

        Raises:
            DataError: a file that is missing, damaged, or not the published one.
        """
        labels = np.concatenate([labels for _, labels in self._files(part)])
        if len(labels) == self.spec.counts[part]:
            for path in self.paths(part):
                if line := differs(path, f"{self.published}/{path.name}"):
                    raise DataError(f"{self.spec.name}: {line}; {self.spec.where}")
        return labels

    def check(self) -> list[str]:
        """Return the problems of the files, one line each; every file is read whole."""
        problems: list[str] = []
        try:
            self._check_names()
            for part, count in self.spec.counts.items():
                found = len(self.labels(part))
                if found != count:
                    problems.append(
                        f"optional: part '{part}': {found} images, the public set has {count}"
                    )
        except DataError as error:
            problems.append(str(error))
        if not self.pickled:
            archive, md5 = ARCHIVES[self.published]
            problems.append(
                f"optional: no checksums of the files in {self.folder} are public; those of "
                f"{archive} are: its MD5 is {md5}"
            )
        return problems + archive_differs(self.folder.parent, self.published)

    def _files(self, part: str) -> Iterator[tuple[Pictures, IntArray]]:
        """Yield (n, 32, 32, 3) pictures and (n,) labels, file by file."""
        for path in self.paths(part):
            planes, labels = self._pickle(path) if self.pickled else self._records(path)
            bad = labels[(labels < 0) | (labels >= len(self.spec.classes))]
            if len(bad):
                raise DataError(
                    f"{self.spec.name}: {path} has the label {bad[0]}; expected 0 to "
                    f"{len(self.spec.classes) - 1}: it is of another set"
                )
            yield planes.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), labels

    def _pickle(self, path: Path) -> tuple[Pictures, IntArray]:
        name, found = self.spec.name, read_pickle(path, self.spec.name)
        data, labels = found.get("data"), found.get(self.spec.labels)
        form = f"a (N, 3072) uint8 array 'data' and a list '{self.spec.labels}'"
        if data is None or not isinstance(labels, list):
            raise DataError(f"{name}: {path} has {shown(sorted(found))}; expected {form}")
        if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2):
            raise DataError(f"{name}: {path}: 'data' is {_form(data)}; expected {form}")
        if data.shape[1] != 3 * SIDE * SIDE or not all(type(label) is int for label in labels):
            raise DataError(f"{name}: {path}: 'data' is {_form(data)}; expected {form} of numbers")
        if len(labels) != len(data):
            raise DataError(f"{name}: {path} has {len(data)} pictures and {len(labels)} labels")
        return data, np.array(labels, np.int64)

    def _records(self, path: Path) -> tuple[Pictures, IntArray]:
        width = self.spec.label_bytes + 3 * SIDE * SIDE
        size = path.stat().st_size
        if not size or size % width:
            raise DataError(
                f"{self.spec.name}: {path} has {size} bytes, no whole number of records of {width};"
                f" unpack the archive again ({self.spec.where})"
            )
        records = np.memmap(path, np.uint8, "r").reshape(-1, width)
        first = self.spec.label_bytes
        return records[:, first:], records[:, first - 1].astype(np.int64)

    def _check_names(self) -> None:
        """Refuse pickles whose classes are others, or in another order."""
        path = self.folder / self.spec.names[0]
        if not self.pickled or not path.is_file():
            return
        found = read_pickle(path, self.spec.name).get(self.spec.names[1])
        listed = found if isinstance(found, list | tuple) else [found]
        names = [n.decode("latin1") if isinstance(n, bytes) else n for n in listed]
        if names != list(self.spec.classes):
            raise DataError(
                f"{self.spec.name}: {path} names the classes {shown(names)}; expected "
                f"{shown(list(self.spec.classes))}"
            )

    def _write(self, part: str, folder: Path) -> None:
        """Write ``images.npy``, ``labels.npy`` and ``meta.json`` into an empty folder."""
        self._check_names()
        labels, name = self.labels(part), self.spec.name
        if len(labels) != self.spec.counts[part]:
            warn_once(
                f"{name}: part '{part}' has {len(labels)} images, the public set has "
                f"{self.spec.counts[part]}; figures do not compare with those on the whole set"
            )
        sha = hashlib.sha256(labels.astype("<i8").tobytes())
        with (folder / "images.npy").open("wb") as file:
            shape = (len(labels), SIDE, SIDE, 3)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for pictures, _ in self._files(part):
                pixels = pictures.tobytes()
                sha.update(pixels)
                file.write(pixels)
            sync_to_disk(file)
        with (folder / "labels.npy").open("wb") as file:
            np.save(file, labels)
            sync_to_disk(file)
        seal(folder, digest=sha.hexdigest())


def _form(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of {value.shape}"
    return type(value).__name__
