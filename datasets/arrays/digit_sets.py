"""MNIST, USPS and SVHN in their published files: three domains of digits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from dabench.contract.data import DataRequest, DomainData, Labelled
from dabench.datasets.arrays.checksums import differs
from dabench.datasets.arrays.cifar_files import check_root
from dabench.datasets.arrays.digit_files import Part, find_part, read_part
from dabench.datasets.arrays.turned import SIDE, turned_once
from dabench.datasets.caching.cache_folder import warn_once, write_arrays
from dabench.datasets.class_folders.folder_tree import find_child
from dabench.datasets.digits.digits import CLASSES, labelled
from dabench.errors import ConfigError, DataError, did_you_mean

#: domain -> published number of training and test images
COUNTS: Mapping[str, Mapping[str, int]] = {
    "mnist": {"train": 60_000, "test": 10_000},
    "usps": {"train": 7_291, "test": 2_007},
    "svhn": {"train": 73_257, "test": 26_032},
}
FILES: Mapping[str, str] = {
    "mnist": "{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz], or mnist.npz",
    "usps": "usps.bz2 and usps.t.bz2 (LIBSVM)",
    "svhn": "train_32x32.mat and test_32x32.mat",
}


class DigitFiles:
    """MNIST, USPS and SVHN as published: 10 digits, 32 x 32, three domains.

    Domains:
        mnist: ``<data root>/mnist/[raw/]{train,t10k}-images-idx3-ubyte[.gz]`` with labels, or
            ``mnist.npz`` (LeCun et al. 1998); 28 x 28, padded by two black pixels.
        usps: ``<data root>/usps/usps.bz2`` and ``usps.t.bz2`` in LIBSVM's form (Hull 1994),
            https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/; 16 x 16, enlarged bicubically
            to 28 x 28 and padded.
        svhn: ``<data root>/svhn/{train,test}_32x32.mat`` (Netzer et al. 2011),
            http://ufldl.stanford.edu/housenumbers/; label 10 is the digit 0.

    The source is a domain's training part, its test part tells the source model's accuracy; the
    target is a domain's training part. Pictures come in content-hashed order and are never
    mirrored. Not shipped; for licences see the authors.
    """

    domains: ClassVar[tuple[str, ...]] = tuple(COUNTS)
    defaults: ClassVar[Mapping[str, Any]] = {
        "source": "svhn",
        "target": "mnist",
        "image_size": SIDE,
        "backbone": "small-cnn",
        "weights": "none",
        "epochs": 5,
        "source_epochs": 15,
        "freeze": 0,
        "batch_size": 64,
    }

    def load(self, request: DataRequest) -> DomainData:
        """Return the two domains.

        Raises:
            ConfigError: an unknown domain, or an image size other than 32.
            DataError: files that are missing, damaged, or not the published ones.
            CacheError: the cache folder cannot be written.
        """
        if request.image_size != SIDE:
            raise ConfigError(f"--image-size {request.image_size}: digit-files is {SIDE} x {SIDE}")
        for option, name in (("source", request.source), ("target", request.target)):
            if name not in COUNTS:
                near = did_you_mean(str(name), COUNTS)
                raise ConfigError(f"--{option} '{name}': digit-files has no such domain{near}")
        root = check_root(request.data_root, "digit-files", "see 'dabench data info digit-files'")
        train = _load(root, request.source, "train", request.cache_dir)
        same = request.source == request.target
        return DomainData(
            dataset="digit-files",
            source=request.source,
            target=request.target,
            classes=CLASSES,
            image_size=SIDE,
            source_train=train,
            source_val=_load(root, request.source, "test", request.cache_dir),
            target_all=train if same else _load(root, request.target, "train", request.cache_dir),
            flip=False,
        )

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the files, one line each; every file is read whole."""
        problems = []
        there = 0
        for domain in COUNTS:
            try:
                root = check_root(data_root, "digit-files", "see 'dabench data info digit-files'")
                parts = {part: _find(root, domain, part) for part in ("train", "test")}
            except DataError as error:
                problems.append(f"optional: {error}")
                continue
            there += 1
            for part, found in parts.items():
                try:
                    count = len(_read(found, domain, part)[1])
                except DataError as error:
                    problems.append(str(error))
                    continue
                if (public := COUNTS[domain][part]) != count:
                    problems.append(
                        f"optional: {domain}, {part}: {count} images, the public set has {public}"
                    )
        if not there:
            problems.append(f"digit-files: none of {', '.join(COUNTS)} is in data root {data_root}")
        return problems


def _find(root: Path, domain: str, part: str) -> Part:
    home = find_child(root, (domain,))
    found = find_part(home, domain, part) if home else None
    if found is None:
        raise DataError(
            f"digit-files: domain '{domain}', {part}: expected {FILES[domain]} in {root / domain}"
        )
    return found


def _read(found: Part, domain: str, part: str) -> tuple[Any, Any]:
    """Read a part; one of public size must be the published one."""
    images, labels = read_part(found, domain)
    if len(labels) == COUNTS[domain][part]:
        for path in found.paths:
            if line := differs(path, f"{domain}/{path.name}"):
                raise DataError(f"digit-files: {line}")
    return images, labels


def _load(root: Path, domain: str, part: str, cache_dir: Path) -> Labelled:
    found = _find(root, domain, part)

    def write(folder: Path) -> None:
        images, labels = _read(found, domain, part)
        if len(labels) != (public := COUNTS[domain][part]):
            warn_once(
                f"digit-files: {domain}, {part}: {len(labels)} images, the public set has {public};"
                " figures do not compare with those on the whole set"
            )
        made = labelled(images, labels)
        write_arrays(folder, made.digest, images=made.images, labels=made.labels)

    return turned_once(f"digit-files-{domain}-{part}", found.paths, cache_dir, write)
