"""The data set behind every segmentation set of image and mask files: load and check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tqdm import tqdm

from dabench.contract.data import DataRequest, DenseData
from dabench.datasets.arrays.checksums import differing_archives
from dabench.datasets.caching.frame_build import FrameBuild
from dabench.datasets.caching.frame_cache import load_frames
from dabench.datasets.caching.image_build import QUIET
from dabench.datasets.frame_folders.frame_domain import Domain
from dabench.datasets.frame_folders.frame_files import Pair, Role, frame_pairs, left_out
from dabench.datasets.frame_folders.joined import join_frames
from dabench.errors import ConfigError, DataError, did_you_mean, one_line


class FrameFolder:
    """The ``DataSet`` contract for folders of frames; a subclass names domains and classes.

    Frames come in the order of their paths. Pictures (antialiased bilinear) and masks (nearest)
    are brought to image_size x width; width = image_size * ``aspect``, rounded to a multiple of 8.
    """

    name: str
    classes: tuple[str, ...]
    places: tuple[Domain, ...]
    aspect: float
    subsets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    archives: ClassVar[Mapping[str, str]] = {}
    domains: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = {}

    def load(self, request: DataRequest) -> DenseData:
        """Return the frames of the source and of the target, or of several targets in turn.

        Raises:
            ConfigError: an unknown domain, one that cannot play its role, a useless image size.
            DataError: no data root, nothing there, an image without a mask, a bad image or mask.
            CacheError: the frame cache cannot be written.
        """
        shape = self._shape(request.image_size)
        root = self._root(request.data_root)
        source = self._domain(request.source, "source_train")
        targets = [self._domain(name, "target_all") for name in target_names(request.target)]
        layout = source.layouts[0]
        if source in targets and layout.source_val == layout.target_all:
            raise ConfigError(
                f"{self.name}: '{source.name}' as source and as target: its validation frames "
                "would be the stream as well; name another --source or --target"
            )
        plan: list[tuple[Role, Domain]] = [("source_train", source), ("source_val", source)]
        plan += [("target_all", target) for target in targets]
        # every folder is read before the first image is decoded, which may take long
        found = [(role, domain, domain.frames(root, role)) for role, domain in plan]
        train, val, *streams = (
            load_frames(
                FrameBuild(self.name, f"{domain.name}-{role}", frames, self.classes, shape),
                request.cache_dir,
            )
            for role, domain, frames in found
        )
        counts = [len(part.images) for part in streams]
        parts = tuple(zip((target.name for target in targets), counts, strict=True))
        return DenseData(
            dataset=self.name,
            source=source.name,
            target=",".join(target.name for target in targets),
            classes=self.classes,
            image_size=shape[0],
            width=shape[1],
            source_train=train,
            source_val=val,
            target_all=join_frames(streams),
            subsets=self.subsets,
            target_parts=parts if len(parts) > 1 else (),
        )

    @classmethod
    def facts(cls) -> list[str]:
        """Return what a card says beside the docstring, a line each."""
        where = " and ".join(dict.fromkeys(domain.where for domain in cls.places))
        lines = [f"{len(cls.classes)} classes in this order: {' '.join(cls.classes)}"]
        lines += [f"where: {where}"]
        lines += [f"MD5 of {name}: {md5}" for name, md5 in cls.archives.items()]
        return [*lines, "more: docs/datasets.md (roles of frames, licence, what was not checked)"]

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the folder, one line each; every frame is really decoded.

        Domains beside the default ones may be absent (``optional``).
        """
        try:
            root = self._root(data_root)
        except DataError as error:
            return [str(error)]
        needed = {self.defaults["source"], self.defaults["target"]}
        problems = []
        for domain in self.places:
            lines = self._check_domain(domain, root)
            absent = domain.name not in needed and not _is_there(domain, root)
            problems += [f"optional: {line}" if absent else line for line in lines]
        return list(dict.fromkeys(problems))

    def _check_domain(self, domain: Domain, root: Path) -> list[str]:
        try:
            home, layout = domain.find(root)
        except DataError as error:
            return [str(error)]
        problems = differing_archives((home,), self.archives)
        frames: dict[str, Pair] = {}
        for role, part in layout.parts().items():
            try:
                every = frame_pairs(home, part, layout)
            except DataError as error:
                problems.append(f"domain '{domain.name}', {role}: {error}")
                continue
            kept = part.keep(every)
            if not kept:
                problems.append(f"domain '{domain.name}', {role}: no frames ({part.images})")
            elif part.count is not None and len(every) != part.count:
                problems.append(
                    f"optional: domain '{domain.name}', {part.images}: {len(every)} frames, the "
                    f"public set has {part.count}"
                )
            problems += [
                f"optional: domain '{domain.name}', {role}: {line}"
                for line in left_out(home, part, every)
            ]
            frames |= {pair.name: pair for pair in kept}
        build = FrameBuild(self.name, domain.name, list(frames.values()), self.classes, (32, 64))
        title = one_line(f"checking {domain.name}")
        same: dict[str, list[str]] = {}
        for pair in tqdm(build.frames, desc=title, disable=len(frames) <= QUIET or None):
            try:
                digest = build.decode(pair).digest.split()[0]  # of the image
                same.setdefault(digest, []).append(pair.name)
            except DataError as error:
                problems.append(f"domain '{domain.name}': {error}")
        if twice := [" = ".join(sorted(names)[:3]) for names in same.values() if len(names) > 1]:
            problems.append(
                f"optional: domain '{domain.name}': {len(twice)} frame(s) twice, byte by byte: "
                + ", ".join(twice[:3])
            )
        return problems

    def _shape(self, height: int) -> tuple[int, int]:
        if height < 8:
            raise ConfigError(f"--image-size {height}: expected at least 8 pixels")
        return height, max(8, 8 * round(height * self.aspect / 8))

    def _root(self, root: Path | None) -> Path:
        where = " and ".join(dict.fromkeys(domain.where for domain in self.places))
        if root is None:
            raise DataError(
                f"{self.name}: no data root; pass --data-root or set DABENCH_DATA ({where})"
            )
        if not root.is_dir():
            raise DataError(
                f"{self.name}: data root {root} is not a folder; mend --data-root or DABENCH_DATA"
            )
        return root

    def _domain(self, name: str, role: Role) -> Domain:
        if not name:
            raise ConfigError(f"{self.name}: name --source and --target; known: {self.domains}")
        found = next((domain for domain in self.places if domain.name == name), None)
        if found is None:
            near = did_you_mean(name, self.domains)
            raise ConfigError(f"{self.name} has no domain '{name}'{near}")
        if not found.has_role(role):
            side = "source" if role == "source_train" else "target"
            able = ", ".join(domain.name for domain in self.places if domain.has_role(role))
            raise ConfigError(f"{self.name}: '{name}' cannot be the {side}; --{side} is {able}")
        return found


def target_names(text: str) -> list[str]:
    """Return the targets that ``--target a,b`` names.

    Raises:
        ConfigError: one of them twice.
    """
    names = [name.strip() for name in text.split(",")]
    if len(set(names)) < len(names):
        raise ConfigError(f"--target {one_line(text, 100)}: name every domain once")
    return names


def _is_there(domain: Domain, root: Path) -> bool:
    try:
        domain.find(root)
    except DataError:
        return False
    return True
