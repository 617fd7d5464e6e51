"""What a set in class folders looks like on disk, and where its folders lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dabench.contract.data import ClassSplit
from dabench.datasets.class_folders.folder_tree import Tree, find_child, folders_in, scan
from dabench.datasets.class_folders.splits import comparable_name, printable_name
from dabench.errors import ConfigError, DataError, did_you_mean


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
        homes = [deep for home in found for deep in (home, find_child(home, self.between)) if deep]
        return max(homes, key=lambda home: sum(map(bool, self._domain_folders(home).values())))

    def _domain_folders(self, home: Path) -> dict[str, Path | None]:
        return {d: find_child(home, (d, *names)) for d, names in self.domains.items()}

    def discover(self, home: Path) -> list[str]:
        """Return the folders that have class folders with images."""
        return [folder.name for folder in folders_in(home) if any(scan(folder).values())]

    def tree(self, home: Path, domain: str | None) -> tuple[str, Tree]:
        """Return a domain's canonical name and its class folders."""
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
        folder = home if self.single else find_child(home, (name, *self.domains.get(name, ())))
        if folder is None:
            raise DataError(
                f"{self.name}: domain folder '{name}' is missing in {home} ({self.where})"
            )
        while self.classes and (deeper := find_child(folder, self.between)):
            folder = deeper
        tree = scan(folder)
        if not tree:
            raise DataError(f"{self.name}: no class folders in {folder} ({self.advice()})")
        return printable_name(name), tree
