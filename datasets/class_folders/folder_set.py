"""The data set behind every set in class folders: load and check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from dabench.contract.data import ClassSplit, DataRequest, DomainData, Labelled, no_images
from dabench.datasets.caching.cache_folder import warn_once
from dabench.datasets.caching.image_build import Entry
from dabench.datasets.caching.image_cache import load_images
from dabench.datasets.class_folders.folder_card import folder_facts
from dabench.datasets.class_folders.folder_check import check_folder, left_out
from dabench.datasets.class_folders.folder_spec import DomainTree, Spec
from dabench.datasets.class_folders.folder_tree import Tree, class_names
from dabench.datasets.class_folders.splits import comparable_name
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
        spec, root = self.spec, request.data_root
        # pictures that models for this set were trained on are not here: its source has a name only
        named = spec.trained_on is not None and comparable_name(request.source) == comparable_name(
            spec.trained_on
        )
        names = (request.target,) if named else (request.source, request.target)
        classes, here = self._arrange([self._domain(root, name) for name in names])
        source, target = here[0], here[-1]
        has: dict[str, tuple[str, ...]] = {}
        ready: dict[str, Labelled] = {}
        for domain in here:
            matched, problems = spec.match(classes, domain.tree)
            has[domain.name] = tuple(name for name in classes if name in matched)
            if problems:
                raise DataError(
                    f"{spec.name}: domain '{domain.name}': {'; '.join(problems)}; mend the folder "
                    f"({spec.advice()})"
                )
            entries = list(entries_of(domain.name, classes, matched))
            if domain.name not in ready:
                for line in left_out(spec, domain):
                    warn_once(f"{spec.name}: {line}")
                ready[domain.name] = load_images(
                    *(spec.name, domain.name, entries, request.image_size, request.cache_dir),
                    crop=spec.crop,
                )
        return DomainData(
            dataset=spec.name,
            source=str(spec.trained_on) if named else source.name,
            target=target.name,
            classes=classes,
            image_size=request.image_size,
            source_train=no_images(request.image_size) if named else ready[source.name],
            source_val=None,
            target_all=ready[target.name],
            splits=self._splits(target.folder.parent, has[source.name], has[target.name]),
            model_classes=spec.model_classes,
            clear=self._clear(request, target.name) if named else None,
        )

    @classmethod
    def known_by_models(cls) -> str | None:
        """Return the name of a source that has no pictures here, and is known by its models."""
        return cls.spec.trained_on

    @classmethod
    def facts(cls) -> list[str]:
        """Return what a card says beside the docstring, a line each."""
        return folder_facts(cls.spec)

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the folder, one line each; every image is really decoded."""
        return check_folder(self.spec, data_root)

    def _domain(self, root: Path | None, name: str) -> DomainTree:
        """Return a domain with its pictures."""
        return self.spec.tree(self.spec.home(root), name)

    def _arrange(self, domains: list[DomainTree]) -> tuple[tuple[str, ...], list[DomainTree]]:
        """Return the classes in their order, and the domains over these classes."""
        return self.spec.classes or class_names(*(domain.tree for domain in domains)), domains

    def _clear(self, request: DataRequest, target: str) -> Callable[[], Labelled] | None:
        """Return what opens pictures of a source that is known by its models, if there are any."""
        return None

    def _splits(
        self, home: Path, source: tuple[str, ...], target: tuple[str, ...]
    ) -> Mapping[str, ClassSplit]:
        """Return the open-set class splits, from the classes of the two domains."""
        return self.spec.splits


def entries_of(domain: str, classes: tuple[str, ...], tree: Tree) -> Iterable[Entry]:
    """Return a domain's files with their labels: positions in ``classes``."""
    for label, name in enumerate(classes):
        for path in tree.get(name, ()):
            yield Entry(f"{domain}/{name}/{path.name}", path, label)
