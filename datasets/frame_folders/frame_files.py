"""The files of one part of a segmentation set: every image with its mask, in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from dabench.datasets.decoding.picture_files import describe_left_out, is_picture
from dabench.datasets.frame_folders.dense_ids import MaskIds
from dabench.errors import DataError

Role = Literal["source_train", "source_val", "target_all"]
ROLES: tuple[Role, ...] = ("source_train", "source_val", "target_all")


class Pair(NamedTuple):
    """One frame: its path under the domain's folder, its two files, and what the mask holds."""

    name: str
    image: Path
    mask: Path
    ids: MaskIds


@dataclass(frozen=True)
class Part:
    """The frames of one role.

    Attributes:
        images: glob under the domain's folder; frames come in the order of their paths.
        keep: takes a part of them (frames of other roles away).
        count: how many the public set has before ``keep``, where known.
    """

    images: str
    keep: Callable[[Sequence[Pair]], Sequence[Pair]] = tuple
    count: int | None = None


@dataclass(frozen=True)
class Naming:
    """Path of a mask: regular expressions replaced one after another in the image's path."""

    swaps: tuple[tuple[str, str], ...]
    ids: MaskIds

    def mask(self, name: str) -> str:
        """Return the mask's path for an image's, both under the domain's folder."""
        for pattern, replacement in self.swaps:
            name = re.sub(pattern, replacement, name)
        return str(Path(name).with_suffix(".png").as_posix())


@dataclass(frozen=True)
class Layout:
    """One way in which a domain's files lie; ``masks`` are tried in turn for every image."""

    masks: tuple[Naming, ...]
    source_train: Part | None = None
    source_val: Part | None = None
    target_all: Part | None = None

    def part(self, role: Role) -> Part | None:
        """Return what plays a role, or None where the domain cannot."""
        found: Part | None = getattr(self, role)
        return found

    def parts(self) -> dict[Role, Part]:
        """Return role -> frames, for the roles that the domain can play."""
        return {role: part for role in ROLES if (part := self.part(role))}


def image_files(home: Path, part: Part) -> list[Path]:
    """Return the image files of a part, sorted by their paths."""
    found = (path for path in home.glob(part.images) if not path.name.startswith("."))
    return sorted(path for path in found if is_picture(path))


def left_out(home: Path, part: Part, pairs: Sequence[Pair]) -> list[str]:
    """Return a line for each reason why files where a part's images lie are not read."""
    return describe_left_out(home, (pair.image for pair in pairs), home.glob(part.images))


def frame_pairs(home: Path, part: Part, layout: Layout) -> list[Pair]:
    """Return every image of a part with its mask.

    Raises:
        DataError: images without a mask: how many, the first one, and where its mask should lie.
    """
    found, lonely = [], []
    for image in image_files(home, part):
        name = image.relative_to(home).as_posix()
        ways = [(home / naming.mask(name), naming.ids) for naming in layout.masks]
        mask = next((way for way in ways if way[0].is_file()), None)
        if mask is None:
            lonely.append((image, " or ".join(str(path) for path, _ in ways)))
        else:
            found.append(Pair(name, image, *mask))
    if lonely:
        raise DataError(
            f"{len(lonely)} of {len(found) + len(lonely)} images in {home} have no mask, the "
            f"first: {lonely[0][0]}; expected {lonely[0][1]}; add the masks or remove the images"
        )
    return found
