"""What a data set hands to a protocol: labelled images of two domains, and class splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from dabench.contract.types import IntArray, Kind


class ImageArray(Protocol):
    """Anything that answers positions with uint8 pictures: an array, a memory map, a decoder."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: IntArray) -> npt.NDArray[np.uint8]:
        """Return (B, H, W, 3) uint8 for B positions."""
        ...


@dataclass(frozen=True)
class Labelled:
    """Images with their classes, in an order that says nothing about the classes.

    Attributes:
        images: N pictures, (H, W, 3) uint8 each.
        labels: (N,) int64 indices into ``DomainData.classes``.
        digest: SHA-256 over the content and its order.
    """

    images: ImageArray
    labels: IntArray
    digest: str


def no_images(image_size: int) -> Labelled:
    """Return no pictures: of a source that is known by its models alone."""
    pictures = np.zeros((0, image_size, image_size, 3), np.uint8)
    return Labelled(pictures, np.zeros(0, np.int64), "no images")


class MaskArray(Protocol):
    """Anything that answers positions with dense labels: an array or a memory map."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: IntArray) -> npt.NDArray[np.uint8]:
        """Return (B, H, W) uint8 for B positions."""
        ...


@dataclass(frozen=True)
class Frames:
    """Images with a class for every pixel, in the order of their frames.

    Attributes:
        images: N pictures, (H, W, 3) uint8 each.
        masks: N dense labels, (H, W) uint8 each: indices into ``DenseData.classes``, or
            ``types.IGNORE`` where a pixel has no class.
        digest: SHA-256 over the content and its order.
    """

    images: ImageArray
    masks: MaskArray
    digest: str


@dataclass(frozen=True)
class ClassSplit:
    """Class *names* of a split; classes in no list are dropped.

    Attributes:
        known: what source and target share.
        unknown: what the target alone has.
        source_private: what the source alone has; its target images are dropped.
        own: whether a user's file says so, which may say otherwise by the same name tomorrow.
    """

    known: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    source_private: tuple[str, ...] = ()
    own: bool = False

    @property
    def source(self) -> tuple[str, ...]:
        """Classes of the source model, in no order that a method sees."""
        return self.known + self.source_private


class PublishedShifts(Protocol):
    """Corruptions of the target's pictures that were published as files."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the corruptions that are there, as streams call them."""
        ...

    def open(self, name: str, severity: int) -> tuple[ImageArray, str]:
        """Return the pictures by the target's positions, and a digest of their content.

        Raises:
            DataError: no such corruption or severity, or a file of another form.
        """
        ...


@dataclass(frozen=True)
class StreamRoles:
    """Positions of the target that a stream shows, and those that it holds out.

    For sets whose source and target are parts of one domain (training and test images): the set
    says who plays which role, and a stream's shift is corruption or weather alone.
    """

    stream: IntArray
    held_out: IntArray


@dataclass(frozen=True)
class DomainData:
    """A source domain and a target domain over one list of classes.

    ``source_val`` is used to report the source model's accuracy; when it is None the recipe holds a
    part of ``source_train`` out. ``splits`` always has ``"default"`` where the set has an open-set
    convention. ``flip`` says whether a mirrored image keeps its class. ``shifts`` are published
    corruptions of the target (no part of the digest: a stream's own digest covers those that it
    shows), ``roles`` what a stream shows of it; None = no such files, and the protocol's own split.
    ``source_train`` is empty where the source is known by its models alone; a run then needs
    ``--source-model``. ``model_classes`` names the outputs of such models in order: one of more
    classes is cut down to those of the set. ``clear`` opens pictures of such a source for what
    methods are granted of it (None = there are none). ``more`` are further sources of the same
    target; ``source`` then names all of them, with commas between.
    """

    dataset: str
    source: str
    target: str
    classes: tuple[str, ...]
    image_size: int
    source_train: Labelled
    source_val: Labelled | None
    target_all: Labelled
    splits: Mapping[str, ClassSplit] = field(default_factory=dict)
    flip: bool = True
    shifts: PublishedShifts | None = None
    roles: StreamRoles | None = None
    model_classes: tuple[str, ...] = ()
    clear: Callable[[], Labelled] | None = None
    more: tuple[DomainData, ...] = ()
    kind: ClassVar[Kind] = "classification"

    @property
    def has_source(self) -> bool:
        """Whether there are images of the source to train on."""
        return len(self.source_train.labels) > 0

    @property
    def unseen(self) -> tuple[str, ...]:
        """Classes that no source image has; none where there are no source images to tell."""
        if not self.has_source:
            return ()
        seen = set(np.unique(self.source_train.labels).tolist())
        return tuple(name for i, name in enumerate(self.classes) if i not in seen)

    @property
    def digest(self) -> str:
        """One digest for everything above."""
        val = self.source_val.digest if self.source_val else "-"
        names = (self.dataset, self.source, self.target, *self.classes, str(self.image_size))
        parts = (*names, self.source_train.digest, val, self.target_all.digest)
        parts += tuple(one.digest for one in self.more)
        return hashlib.sha256("|".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class DenseData:
    """What ``DomainData`` is for segmentation: frames of a source and of a target domain.

    ``source_val`` are clear source frames that training never sees: the source model's mIoU, and
    what hyper-parameters are chosen on. ``target_all`` is what streams are made of. ``subsets``
    names further sets of classes that the field reports the mean IoU over (13 of SYNTHIA's 16).
    ``target_parts`` says which frames of ``target_all`` are of which domain where there are several
    targets, in order: (name, how many). All frames are ``image_size`` pixels high and ``width``
    wide.
    """

    dataset: str
    source: str
    target: str
    classes: tuple[str, ...]
    image_size: int
    width: int
    source_train: Frames
    source_val: Frames
    target_all: Frames
    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    flip: bool = True
    target_parts: tuple[tuple[str, int], ...] = ()
    kind: ClassVar[Kind] = "segmentation"

    @property
    def digest(self) -> str:
        """One digest for everything above."""
        names = (self.dataset, self.source, self.target, *self.classes)
        sizes = (str(self.image_size), str(self.width))
        content = (self.source_train.digest, self.source_val.digest, self.target_all.digest)
        parts = [f"{name}={count}" for name, count in self.target_parts]
        return hashlib.sha256("|".join((*names, *sizes, *content, *parts)).encode()).hexdigest()


@dataclass(frozen=True)
class DataRequest:
    """What the engine asks of a data set."""

    source: str
    target: str
    image_size: int
    data_root: Path | None
    cache_dir: Path


class DataSet(Protocol):
    """The contract of a file in ``datasets/``: one class with ``load``, and what else it has.

    ``defaults`` fills in options that the user left out: ``source``, ``target``, ``image_size``,
    ``backbone``, ``weights``, ``epochs``, ``batch_size``, ``source_epochs``, and ``freeze``, which
    goes with its ``backbone``. A plug-in says its ``kind``, where that is ``segmentation``, and
    with ``per_class`` that the mean over classes ranks; a class method ``facts`` gives lines for
    ``dabench data info``. A class may have ``protocol_defaults`` too: by a protocol's name,
    options of the protocol likewise; and a class method ``known_by_models``, the name of a source
    that has no images here (or None), so that a run without ``--source-model`` is refused before
    anything is fetched.
    """

    domains: ClassVar[tuple[str, ...]]
    defaults: ClassVar[Mapping[str, Any]]

    def load(self, request: DataRequest) -> DomainData | DenseData:
        """Return the two domains; a ``DataError`` says what is missing and where to get it."""
        ...

    def check(self, data_root: Path | None) -> list[str]:
        """Return the problems of the folder, one line each (empty = complete)."""
        ...
