"""The data set behind every set in class folders: load and check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tqdm import tqdm

from dabench.contract.data import ClassSplit, DataRequest, DomainData, Labelled
from dabench.datasets.caching.image_build import QUIET, Entry
from dabench.datasets.caching.image_cache import load_images
from dabench.datasets.class_folders.folder_spec import Spec
from dabench.datasets.class_folders.folder_tree import Tree, match
from dabench.datasets.decoding.images import decode
from dabench.errors import ConfigError, DataError, one_line


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
        classes = self.spec.classes or tuple(sorted(source[1], key=lambda c: (c.lower(), c)))
        ready: dict[str, Labelled] = {}
        for domain, tree in (source, target):
            matched, problems = match(classes, tree)
            if problems:
                raise DataError(
                    f"{self.spec.name}: domain '{domain}': {'; '.join(problems)}; mend the folder "
                    f"({self.spec.advice()})"
                )
            name, size = self.spec.name, request.image_size
            entries = list(_entries(domain, classes, matched))
            if domain not in ready:
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
            splits=self._splits(classes),
        )

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the folder, one line each; every image is really decoded."""
        try:
            home = self.spec.home(data_root)
        except DataError as error:
            return [str(error)]
        problems = []
        trees: dict[str, Tree] = {}
        for domain in self.spec.domains or self.spec.discover(home):
            try:
                trees[domain] = self.spec.tree(home, domain)[1]
            except (DataError, ConfigError) as error:
                problems.append(str(error))
        every = {c for tree in trees.values() for c in tree}
        classes = self.spec.classes or tuple(sorted(every))
        if not self.spec.domains and len(trees) < 2:
            problems.append(
                f"{home} has {len(trees)} domain folder(s) (domain/class/*.jpg), need 2"
            )
        for domain, tree in trees.items():
            problems += self._check_domain(domain, classes, tree)
        return problems

    def _check_domain(self, domain: str, classes: tuple[str, ...], tree: Tree) -> list[str]:
        problems = [f"domain '{domain}': {problem}" for problem in match(classes, tree)[1]]
        files = [path for paths in tree.values() for path in paths]
        public = self.spec.counts.get(domain)
        if public is not None and len(files) != public:
            reduced = "optional: " if self.spec.single and files else ""
            problems.append(
                f"{reduced}domain '{domain}': {len(files)} images, the public set has {public}"
            )
        title = one_line(f"checking {domain}")
        for path in tqdm(files, desc=title, disable=len(files) <= QUIET or None):
            try:
                decode(path, 32, self.spec.name)
            except DataError as error:
                problems.append(f"domain '{domain}': {str(error).split(';')[0]}")
        return problems

    def _splits(self, classes: tuple[str, ...]) -> Mapping[str, ClassSplit]:
        """Return the open-set class splits."""
        return self.spec.splits


def _entries(domain: str, classes: tuple[str, ...], tree: Tree) -> Iterable[Entry]:
    for label, name in enumerate(classes):
        for path in tree[name]:
            yield Entry(f"{domain}/{name}/{path.name}", path, label)
