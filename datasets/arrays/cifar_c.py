"""CIFAR-10-C and CIFAR-100-C: one ``.npy`` file a corruption, five severities after each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dabench.contract.data import DataRequest, DomainData, ImageArray, StreamRoles
from dabench.datasets.arrays.checksums import archive_differs, differs
from dabench.datasets.arrays.cifar import DEFAULTS, Cifar10, Cifar100, CifarSet
from dabench.datasets.arrays.cifar_files import check_root
from dabench.datasets.arrays.npy_files import check_pictures, digest_of, map_file, read_labels
from dabench.datasets.caching.cache_folder import warn_once
from dabench.datasets.caching.image_cache import CachedImages
from dabench.datasets.class_folders.folder_tree import find_child
from dabench.datasets.weather.groups import EXTRA, LEVELS, STANDARD, published
from dabench.errors import ConfigError, DataError, did_you_mean

#: pictures of a severity in the published files
PER_SEVERITY = 10_000


@dataclass(frozen=True)
class CorruptedFiles:
    """The files of one set, as ``PublishedShifts``: opened when a stream asks for them.

    Attributes:
        dataset: name for messages and the cache.
        folder: where the files lie.
        count: pictures of a severity.
        where: what to do about a bad file.
        cache_dir: where digests are kept.
    """

    dataset: str
    folder: Path
    count: int
    where: str
    cache_dir: Path

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the corruptions whose files are there."""
        files = [*STANDARD, *EXTRA]
        return tuple(published(f) for f in files if (self.folder / f"{f}.npy").is_file())

    def open(self, name: str, severity: int) -> tuple[ImageArray, str]:
        """Return a corruption's pictures by the target's positions, and their SHA-256.

        Raises:
            DataError: no such file or severity, or one of another form.
            CacheError: the digest cannot be kept.
        """
        files = {published(file): file for file in (*STANDARD, *EXTRA)}
        if name not in files:
            raise DataError(f"{self.dataset} has no '{name}'{did_you_mean(name, files)}")
        if severity not in range(1, LEVELS + 1):
            raise DataError(f"{self.dataset}: {name} has severities 1 to {LEVELS}, not {severity}")
        path = self.folder / f"{files[name]}.npy"
        found = map_file(path, self.dataset, self.where)
        check_pictures(found, LEVELS * self.count, self.dataset, self.where)
        rows = slice((severity - 1) * self.count, severity * self.count)
        return CachedImages(path, rows), digest_of(path, rows, self.dataset, self.cache_dir)


class CorruptedCifar:
    """The ``DataSet`` contract for both sets; a subclass names the clear set beside it."""

    name: ClassVar[str]
    folder: ClassVar[str]
    record: ClassVar[str]
    clear: ClassVar[type[CifarSet]]
    domains: ClassVar[tuple[str, ...]] = ("train", "test")
    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS
    protocol_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "online-tta": {"shifts": "published-15"},
        "continual-tta": {"shifts": "published-15", "sequence": "given"},
        "gradual-weather": {"weather": "published-fog"},
    }

    def load(self, request: DataRequest) -> DomainData:
        """Return the clear set, with its test images' corruptions as published shifts.

        Raises:
            ConfigError: an image size other than 32, or domains other than train -> test.
            DataError: files that are missing, of another form, or in another order.
            CacheError: the cache folder cannot be written.
        """
        if (request.source, request.target) != self.domains:
            raise ConfigError(
                f"{self.name}: the corruptions are of the test images; use --source train "
                "--target test"
            )
        home = self._home(request.data_root)
        data = self.clear().load_arrays(request)
        count = self._count(home, data.target_all.labels)
        if count != PER_SEVERITY:
            warn_once(
                f"{self.name}: {count} pictures a severity, published are {PER_SEVERITY}; figures "
                "do not compare with those on the whole set"
            )
        files = CorruptedFiles(self.name, home, count, self._where(), request.cache_dir)
        roles = StreamRoles(np.arange(count), np.array([], dtype=np.int64))
        return replace(data, dataset=self.name, shifts=files, roles=roles)

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the files, one line each; every file is read whole."""
        problems: list[str] = []
        try:
            root = check_root(data_root, self.name, self._get())
            home = self._home(root)
        except DataError as error:
            return [str(error)]
        count = None  # where the clear set or the labels do not say
        try:
            clear = self.clear().arrays(root)
            problems += clear.check()
            count = self._count(home, clear.labels("test"))
        except DataError as error:
            problems.append(f"{error} (so nothing here compares counts and checksums)")
        whole = count == PER_SEVERITY
        if count is not None and not whole:
            problems.append(
                f"optional: {count} pictures a severity, the published set has {PER_SEVERITY}"
            )
        named = () if count is None else ("labels",)  # else what is wrong with them is said
        for file in (*STANDARD, *EXTRA, *named):
            path = home / f"{file}.npy"
            if file in EXTRA and not path.is_file():
                problems.append(f"optional: no {path.name}, one of the four extra corruptions")
                continue
            try:
                found = map_file(path, self.name, self._where())
                if file != "labels":
                    expected = sum(found.shape[:1]) if count is None else LEVELS * count
                    check_pictures(found, expected, self.name, self._where())
            except DataError as error:
                problems.append(str(error))
                continue
            if whole and (line := differs(path, f"{self.folder}/{path.name}")):
                problems.append(f"{line}: it was packed again, or is of another set")
        return problems + archive_differs(root, self.folder)

    def _classes(self) -> int:
        return len(self.clear.spec.classes)

    def _where(self) -> str:
        return f"unpack {self.folder}.tar again ({self._page()})"

    def _get(self) -> str:
        return f"get {self.folder}.tar from {self._page()}"

    def _page(self) -> str:
        return f"https://zenodo.org/records/{self.record}"

    def _home(self, root: Path | None) -> Path:
        """Return the folder that holds the files."""
        root = check_root(root, self.name, self._get())
        if found := find_child(root, (self.folder,)):
            return find_child(found, (self.folder,)) or found
        archive = root / f"{self.folder}.tar"
        unpack = f"unpack {archive}" if archive.is_file() else self._get()
        raise DataError(f"{self.name}: no folder {self.folder} in data root {root}; {unpack}")

    def _count(self, home: Path, labels: npt.NDArray[np.int64]) -> int:
        """Return the pictures of a severity; the labels must be those of the clear test images."""
        path = home / "labels.npy"
        found = read_labels(path, self._classes(), self.name, self._where())
        if len(found) != LEVELS * len(labels):
            raise DataError(
                f"{self.name}: {path} holds {len(found)} labels; expected {LEVELS} times "
                f"{len(labels)}, the labels of the test images at every severity; {self._where()}"
            )
        wrong = np.argwhere(found.reshape(LEVELS, -1) != labels)
        if len(wrong):
            severity, row = wrong[0]
            raise DataError(
                f"{self.name}: {path}, severity {severity + 1}, picture {row}: another label than "
                f"test image {row} has; the files must be in the order of the test images; "
                f"{self._where()}"
            )
        return len(labels)


class Cifar10C(CorruptedCifar):
    """CIFAR-10-C (Hendrycks & Dietterich, ICLR 2019): 10 classes, 15 corruptions and 4 extra.

    Layout: ``<data root>/CIFAR-10-C/<corruption>.npy`` (uint8 (50000, 32, 32, 3): five severities
    of the 10,000 test images of CIFAR-10, in their order) and ``labels.npy``; CIFAR-10 itself, as
    pickles or in the binary version, beside it: source training images and clear test images.
    Get it from https://zenodo.org/records/2535967 (CIFAR-10-C.tar, 2.9 GB; licence there).

    Streams: ``--protocol continual-tta --protocol.severity 5`` shows the 15 corruptions in the
    field's order, all 10,000 images each, nothing held out. A corruption is the shift
    ``published-NAME`` (``published-gaussian-noise``); ``--protocol.shifts published-extra`` are the
    four extra ones.
    """

    name = "cifar10-c"
    folder = "CIFAR-10-C"
    record = "2535967"
    clear = Cifar10


class Cifar100C(CorruptedCifar):
    """CIFAR-100-C (Hendrycks & Dietterich, ICLR 2019): 100 classes, 15 corruptions and 4 extra.

    Layout, streams and names as for ``cifar10-c``, in ``<data root>/CIFAR-100-C/``, with CIFAR-100
    beside it. Get it from https://zenodo.org/records/3555552 (CIFAR-100-C.tar, 2.9 GB).
    """

    name = "cifar100-c"
    folder = "CIFAR-100-C"
    record = "3555552"
    clear = Cifar100
