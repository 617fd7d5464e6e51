"""The data set behind every set in class folders: load and check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from dabench.contract.data import ClassSplit, DataRequest, DomainData, Labelled
from dabench.datasets.caching.cache_folder import warn_once
from dabench.datasets.caching.image_build import Entry
from dabench.datasets.caching.image_cache import load_images
from dabench.datasets.class_folders.folder_check import check_folder, left_out
from dabench.datasets.class_folders.folder_spec import Spec
from dabench.datasets.class_folders.folder_tree import Tree, class_names, match
from dabench.errors import ConfigError, DataError


class ClassFolder:
    """The ``DataSet`` contract for class folders; a subclass names a ``Spec`` and defaults.

    Images come in name-hashed order, squeezed to image_size x image_size (aspect ratio not kept);
    classes are in alphabetical order of their canonical names.
    """

    spec: ClassVar[Spec]
    domains: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = {}

    def load(self, request: DataRequest) -> DomainData:
        """Return the two domains.

        Raises:
            ConfigError: no or an unknown domain, or a useless image size.
            DataError: no data root, a missing, extra or empty class, an undecodable image.
            CacheError: the image cache cannot be written.
        """
        if request.image_size < 8:
            raise ConfigError(f"--image-size {request.image_size}: expected at least 8 pixels")
        home = self.spec.home(request.data_root)
        source, target = self.spec.tree(home, request.source), self.spec.tree(home, request.target)
        own = not self.spec.classes  # what classes there are is for the folders to say
        classes = self.spec.classes or class_names(source[1], target[1])
        has: dict[str, tuple[str, ...]] = {}
        ready: dict[str, Labelled] = {}
        for domain, tree in (source, target):
            matched, problems = match(classes, tree, partial=own)
            has[domain] = tuple(name for name in classes if name in matched)
            if problems:
                raise DataError(
                    f"{self.spec.name}: domain '{domain}': {'; '.join(problems)}; mend the folder "
                    f"({self.spec.advice()})"
                )
            name, size = self.spec.name, request.image_size
            entries = list(_entries(domain, classes, matched))
            if domain not in ready:
                for line in left_out(domain, tree):
                    warn_once(f"{name}: {line}")
                ready[domain] = load_images(name, domain, entries, size, request.cache_dir)
        return DomainData(
            dataset=self.spec.name,
            source=source[0],
            target=target[0],
            classes=classes,
            image_size=request.image_size,
            source_train=ready[source[0]],
            source_val=None,
            target_all=ready[target[0]],
            splits=self._splits(home, has[source[0]], has[target[0]]),
        )

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the folder, one line each; every image is really decoded."""
        return check_folder(self.spec, data_root)

    def _splits(
        self, home: Path, source: tuple[str, ...], target: tuple[str, ...]
    ) -> Mapping[str, ClassSplit]:
        """Return the open-set class splits, from the classes of the two domains."""
        return self.spec.splits


def _entries(domain: str, classes: tuple[str, ...], tree: Tree) -> Iterable[Entry]:
    for label, name in enumerate(classes):
        for path in tree.get(name, ()):
            yield Entry(f"{domain}/{name}/{path.name}", path, label)
