"""Frames and masks of a user's own, in folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from dabench.contract.data import DataRequest, DenseData
from dabench.datasets.class_folders.folder_tree import folders_in
from dabench.datasets.decoding.images import read_picture
from dabench.datasets.frame_folders.camvid import CamVid
from dabench.datasets.frame_folders.dense_ids import MaskIds
from dabench.datasets.frame_folders.driving_domains import first_nine_tenths, last_tenth
from dabench.datasets.frame_folders.frame_domain import Domain
from dabench.datasets.frame_folders.frame_files import Layout, Naming, Pair, Part, image_files
from dabench.datasets.frame_folders.frame_set import FrameFolder, target_names
from dabench.datasets.frame_folders.own_classes import read_classes
from dabench.errors import ConfigError, DataError, did_you_mean, one_line

_IMAGES = "images/**/*"
_FORM = "classes.yaml and DOMAIN/images/**/* with masks DOMAIN/masks/**/*.png of the same names"


class OwnFrames:
    """Frames of your own: ``<data root>/<domain>/images/**/*`` with ``masks/**/*.png`` of the same
    names, and ``<data root>/classes.yaml``.

    Frames come in the order of their paths; they get the shape of the target's first frame. The
    first nine tenths of the source train the source model, the last tenth validates it; the stream
    is the whole target (``--target fog,night``: one after the other). Where source and target are
    one domain, its first six tenths train, the next tenth validates, and the last three are the
    stream.
    """

    domains: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = {
        key: value for key, value in CamVid.defaults.items() if key not in ("source", "target")
    }

    def load(self, request: DataRequest) -> DenseData:
        """Return the frames of the source and of the target, or of several targets in turn.

        Raises:
            ConfigError: an unknown domain, or a useless image size.
            DataError: no data root, no ``classes.yaml`` or a bad one, no frames, an image without a
                mask, a bad image or mask, too few frames.
            CacheError: the frame cache cannot be written.
        """
        root, found = _open(request.data_root)
        targets = target_names(request.target)
        for option, name in (("source", request.source), *(("target", t) for t in targets)):
            if name not in found:
                near = did_you_mean(name, found)
                raise ConfigError(f"--{option} '{one_line(name, 60)}': no such domain{near}")
        classes, ids = read_classes(root / "classes.yaml")
        shared = request.source in targets
        return _frames(
            classes,
            [_domain(name, ids, shared and name == request.source) for name in found],
            _aspect(root / targets[0]),
        ).load(request)

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the folder, one line each; every frame is really decoded."""
        try:
            root, found = _open(data_root)
            classes, ids = read_classes(root / "classes.yaml")
        except DataError as error:
            return [str(error)]
        made = _frames(classes, [_domain(name, ids, False) for name in found], 1.0)
        made.defaults = {"source": found[0], "target": found[0]}  # type: ignore[misc]
        problems = made.check(root)
        if len(found) == 1:
            problems.append(
                f"optional: one domain: --source {found[0]} --target {found[0]}, whose last three "
                "tenths are the stream"
            )
        return problems


def _open(root: Path | None) -> tuple[Path, list[str]]:
    """Return the data root and the names of the domains in it."""
    if root is None:
        raise DataError(f"frame-folder: no data root; pass --data-root, with {_FORM}")
    if not root.is_dir():
        raise DataError(f"frame-folder: data root {root} is not a folder; expected {_FORM}")
    found = [folder.name for folder in folders_in(root) if (folder / "images").is_dir()]
    if not found:
        raise DataError(f"frame-folder: no domain in {root}; expected {_FORM}")
    if bad := next((name for name in found if "," in name), None):
        raise DataError(f"frame-folder: '{one_line(bad, 60)}': rename it without a comma")
    return root, found


def _frames(classes: tuple[str, ...], places: Sequence[Domain], aspect: float) -> FrameFolder:
    made = FrameFolder()
    made.name, made.classes, made.places, made.aspect = (
        "frame-folder",
        classes,
        tuple(places),
        aspect,
    )
    return made


def _domain(name: str, ids: MaskIds, shared: bool) -> Domain:
    """Return a domain; ``shared``: it is the source and the target."""
    masks = (Naming((("^images/", "masks/"),), ids),)
    if shared:
        parts = (Part(_IMAGES, _tenths(a, b)) for a, b in ((0, 6), (6, 7), (7, 10)))
        layout = Layout(masks, *parts)
    else:
        train, val = (Part(_IMAGES, keep) for keep in (first_nine_tenths, last_tenth))
        layout = Layout(masks, train, val, Part(_IMAGES))
    return Domain(name, (name,), (layout,), "docs/own-data.md")


def _tenths(begin: int, end: int) -> Any:
    def keep(frames: Sequence[Pair]) -> Sequence[Pair]:
        return frames[begin * len(frames) // 10 : end * len(frames) // 10]

    return keep


def _aspect(home: Path) -> float:
    """Return width / height of a domain's first frame."""
    first = next(iter(image_files(home, Part(_IMAGES))), None)
    if first is None:
        raise DataError(f"frame-folder: no images in {home / 'images'}; expected {_FORM}")
    picture, _ = read_picture(first)
    return picture.width / picture.height
