"""What a set in class folders looks like on disk, and where its folders lie."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dabench.contract.data import ClassSplit
from dabench.datasets.class_folders.folder_tree import Tree, find_child, folders_in, match, scan
from dabench.datasets.class_folders.splits import comparable_name, printable_name
from dabench.errors import ConfigError, DataError, did_you_mean


class DomainTree(NamedTuple):
    """A domain on disk: its canonical name, the folder that it was read from, and its pictures."""

    name: str
    folder: Path
    tree: Tree


@dataclass(frozen=True)
class Spec:
    """What a set looks like on disk; names are compared without case, spaces, ``_`` and ``-``.

    Attributes:
        name: registered name.
        where: where one gets the data.
        folders: names of its folder under the data root; empty = the data root itself.
        domains: canonical domain -> further names of its folder; empty = every folder.
        classes: canonical class names; empty = the folders that are there.
        counts: images per domain in the public release, where known.
        splits: open-set class splits.
        between: folders that may lie between the set and its domains, or a domain and its classes.
        single: the set's own folder is its one domain (class folders lie directly in it); a copy
            with other counts than the public ones is then usable.
        read: a domain's folder -> its pictures by class, where they do not lie in class folders.
        listed: a list says which pictures count, so that others in the folder are none that were
            forgotten.
        optional: domains that may be absent.
        partial: a domain may lack classes.
        trained_on: name of the source domain of models for this set, whose pictures are not here.
        model_classes: outputs of such models, in their order.
        look_alikes: name -> classes of other sets that this one is easily taken for.
        archives: name -> MD5 of what the set is handed out as, where it is listed.
        crop: share of a picture's shorter side that the central square has which is read; None =
            the whole picture, squeezed.
    """

    name: str
    where: str
    folders: tuple[str, ...] = ()
    domains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    counts: Mapping[str, int | None] = field(default_factory=dict)
    splits: Mapping[str, ClassSplit] = field(default_factory=dict)
    between: tuple[str, ...] = ("images",)
    single: bool = False
    read: Callable[[Path], Tree] = scan
    listed: bool = False
    optional: Collection[str] = ()
    partial: bool = False
    trained_on: str | None = None
    model_classes: tuple[str, ...] = ()
    look_alikes: Mapping[str, Collection[str]] = field(default_factory=dict)
    archives: Mapping[str, str] = field(default_factory=dict)
    crop: float | None = None

    def advice(self) -> str:
        """Return where help is, for the end of an error message."""
        return f"see `dabench data check {self.name}`; {self.where}"

    def home(self, root: Path | None) -> Path:
        """Return the folder that holds the domains."""
        if root is None:
            raise DataError(
                f"{self.name}: no data root; pass --data-root or set DABENCH_DATA ({self.where})"
            )
        if not root.is_dir():
            raise DataError(
                f"{self.name}: data root {root} is not a folder; mend --data-root or DABENCH_DATA"
            )
        found = [home for home in (find_child(root, (name,)) for name in self.folders) if home]
        found = found if self.folders else [root]
        if not found:
            raise DataError(
                f"{self.name}: no folder {' or '.join(self.folders)} in data root {root} "
                f"({self.where})"
            )
        homes = [deep for home in found for deep in self._chain(home)]
        return max(homes, key=lambda home: len(self.present(home)))

    def _chain(self, home: Path) -> list[Path]:
        """Return a folder and those below it that only lie between."""
        chain = [home]
        while deeper := find_child(chain[-1], self.between):
            chain.append(deeper)
        return chain

    def present(self, home: Path) -> list[str]:
        """Return the domains that have a folder."""
        return [domain for domain in self.domains if self._folder(home, domain)]

    def _folder(self, home: Path, domain: str) -> Path | None:
        """Return a domain's folder; a name ``a/b`` is folder ``b`` in ``a``."""
        if self.single:
            return home
        for name in (domain, *self.domains.get(domain, ())):
            folder: Path | None = home
            for part in name.split("/"):
                folder = folder and find_child(folder, (part,))
            if folder is not None:
                return folder
        return None

    def discover(self, home: Path) -> list[str]:
        """Return the folders that have class folders with images."""
        return [folder.name for folder in folders_in(home) if any(scan(folder).values())]

    def tree(self, home: Path, domain: str | None) -> DomainTree:
        """Return a domain with its pictures by class folder."""
        known = list(self.domains) or [folder.name for folder in folders_in(home)]
        if not domain:
            raise ConfigError(f"{self.name}: name --source and --target; in {home}: {known}")
        name = next((d for d in known if d == domain), None)
        name = name or next(
            (d for d in known if comparable_name(d) == comparable_name(domain)), None
        )
        if name is None:
            near = did_you_mean(domain, known) if known else f": {home} has no folder of a domain"
            raise ConfigError(f"{self.name} has no domain '{domain}'{near}")
        folder = self._folder(home, name)
        if folder is None:
            raise DataError(
                f"{self.name}: domain folder '{name}' is missing in {home} ({self.where})"
            )
        if self.classes:
            folder = self._chain(folder)[-1]
        try:
            tree = self.read(folder)
        except DataError as error:
            raise DataError(f"{self.name}: {error} ({self.advice()})") from error
        if not tree:
            raise DataError(f"{self.name}: no class folders in {folder} ({self.advice()})")
        return DomainTree(printable_name(name), folder, tree)

    def match(self, classes: tuple[str, ...], tree: Tree) -> tuple[Tree, list[str]]:
        """Return a tree under canonical class names, and what is wrong with its classes."""
        # without a list of classes it is for the folders to say which there are
        partial = self.partial or not self.classes
        matched, problems = match(classes, tree, partial=partial)
        if problems and not partial and len(tree) != len(classes):
            problems.insert(0, f"{len(tree)} classes, expected {len(classes)}")
        for name, others in self.look_alikes.items():
            if problems and set(tree) == set(others):
                problems = [
                    f"these are the {len(tree)} classes of {name}, and not the {len(classes)} of "
                    f"{self.name}: use --dataset {name}, or another folder"
                ]
        return matched, problems
