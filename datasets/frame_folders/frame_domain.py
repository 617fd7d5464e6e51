"""A domain of a segmentation set: where it lies, in which layout, and what plays which role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dabench.datasets.caching.cache_folder import warn_once
from dabench.datasets.class_folders.folder_tree import find_child
from dabench.datasets.frame_folders.frame_files import (
    Layout,
    Pair,
    Role,
    frame_pairs,
    image_files,
    left_out,
)
from dabench.errors import ConfigError, DataError


@dataclass(frozen=True)
class Domain:
    """A domain of a segmentation set.

    Attributes:
        name: as ``--source`` and ``--target`` name it.
        folders: its folder under the data root, or other places where it may lie; compared without
            case, spaces, ``_`` and ``-``.
        layouts: layouts of its files; the first one that has images counts.
        where: where one gets the data.
    """

    name: str
    folders: tuple[str, ...]
    layouts: tuple[Layout, ...]
    where: str

    def has_role(self, role: Role) -> bool:
        """Return whether the domain can play a role."""
        return self.layouts[0].part(role) is not None

    def find(self, root: Path) -> tuple[Path, Layout]:
        """Return the domain's folder and the layout of its files.

        Raises:
            DataError: no such folder, or no image in it; says what was expected.
        """
        homes = [home for folder in self.folders if (home := _walk(root, folder))]
        if not homes:
            raise DataError(
                f"domain '{self.name}': no folder {' or '.join(self.folders)} in data root {root} "
                f"({self.where})"
            )
        for home in homes:
            for layout in self.layouts:
                if any(image_files(home, part) for part in layout.parts().values()):
                    return home, layout
        raise DataError(
            f"domain '{self.name}': no images in {homes[0]}; expected {self.expected()} "
            f"({self.where})"
        )

    def expected(self) -> str:
        """Return the layouts in words, for messages."""
        ways = []
        for layout in self.layouts:
            part = next(iter(layout.parts().values()))
            ways.append(f"{part.images} with masks {layout.masks[0].mask(part.images)}")
        return ", or ".join(ways)

    def frames(self, root: Path, role: Role) -> Sequence[Pair]:
        """Return the frames that play a role, in the order of their paths.

        Raises:
            ConfigError: the domain cannot play that role.
            DataError: nothing there, or an image without a mask.
        """
        home, layout = self.find(root)
        part = layout.part(role)
        if part is None:
            raise ConfigError(f"domain '{self.name}' has no frames for {role}")
        every = frame_pairs(home, part, layout)
        for line in left_out(home, part, every):
            warn_once(f"domain '{self.name}', {role}: {line}")
        kept = part.keep(every)
        if not kept:
            raise DataError(
                f"domain '{self.name}': no frames for {role} in {home}; expected {part.images} "
                f"({self.where})"
            )
        return kept


def _walk(root: Path, folder: str) -> Path | None:
    found: Path | None = root
    for name in folder.split("/"):
        found = find_child(found, (name,)) if found else None
    return found
