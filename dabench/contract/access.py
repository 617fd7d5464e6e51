"""What a protocol grants to a method. There is no label field anywhere in this file.

What a grant holds shows, by attributes, closures and the like, nothing but what it grants. Frames
and files are another matter: a determined method can walk the ones and open the others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from dabench.contract.confined import Confined
from dabench.contract.cost import Counter
from dabench.contract.data import ImageArray
from dabench.contract.floats import free_memory, resident, to_float
from dabench.contract.network import Network
from dabench.contract.types import IntArray, Separation, Task
from dabench.errors import DataError


@dataclass(frozen=True)
class TargetBatch:
    """Unlabelled target images.

    Attributes:
        images: (B, 3, H, W) float32 in [0, 1].
        index: (B,) int64 positions in the ``Unlabelled`` set, for memory banks.
    """

    images: Tensor
    index: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TargetBatch:
        """Return the batch on another device (Lightning calls this)."""
        images = self.images.to(device, non_blocking=non_blocking)
        return TargetBatch(images, self.index.to(device, non_blocking=non_blocking))


class Unlabelled(Dataset[TargetBatch]):
    """The target images that an offline method may iterate: positions in, pictures out.

    Args:
        images: the uint8 image array of the whole domain, in name-hashed order.
        rows: positions of this subset in ``images``, in increasing order.
    """

    def __init__(self, images: ImageArray, rows: IntArray) -> None:
        if len(rows) < 2:
            raise DataError(f"the target part has {len(rows)} image(s); at least 2 are needed")
        # the array holds the held-out pictures as well, and knows the path of its file
        self._pictures = Confined(lambda positions: images[rows[positions]])
        self._floats = Confined(lambda positions: to_float(images[rows[positions]]))
        self._count = len(rows)

    def on(self, device: torch.device | str) -> Unlabelled:
        """Return the same set for a device: its batches are there, and made there.

        An accelerator keeps all pictures as bytes where a quarter of its free memory takes them.
        """
        where = torch.device(device)
        if where.type == "cpu":
            return self
        twin, pictures = copy.copy(self), self._pictures
        twin._floats = Confined(lambda positions: to_float(pictures(positions), where))
        if len(self) * int(pictures(np.array([0])).nbytes) <= free_memory(where) // 4:
            floats = resident(pictures(np.arange(len(self))), where)
            twin._floats = Confined(lambda positions: floats(positions))
        return twin

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> TargetBatch:
        return self.__getitems__([index])

    def __getitems__(self, index: list[int]) -> TargetBatch:
        position = np.asarray(index, dtype=np.int64)
        return TargetBatch(self._floats(position), torch.from_numpy(position))

    def loader(
        self, batch_size: int, *, shuffle: bool = False, seed: int = 0
    ) -> DataLoader[TargetBatch]:
        """Return batches; a last batch of one image is left out of a shuffled epoch.

        (BatchNorm cannot estimate statistics from one image; another epoch draws another one.)
        """
        sampler: RandomSampler | SequentialSampler
        if shuffle:
            sampler = RandomSampler(self, generator=torch.Generator().manual_seed(seed))
        else:
            sampler = SequentialSampler(self)
        batches = _Batches(sampler, batch_size, drop_single=shuffle)
        return DataLoader(self, batch_sampler=batches, collate_fn=_as_is)

    def survey(self, most: int = 256) -> DataLoader[TargetBatch]:
        """Return batches in position order, for a pass without gradients over the whole set.

        They hold ``most`` images up to 64 px, and fewer of larger ones, for the memory's sake.
        """
        return self.loader(survey_size(self._pictures(np.array([0])).shape[1], most))


def survey_size(side: int, most: int = 256) -> int:
    """Return how many images of ``side`` pixels a pass without gradients takes at once."""
    return max(8, min(most, most * 64**2 // side**2))


def _as_is(batch: Any) -> Any:
    return batch


class _Batches(BatchSampler):
    """``BatchSampler`` that can leave out a last batch of a single image."""

    def __init__(
        self, sampler: RandomSampler | SequentialSampler, batch_size: int, drop_single: bool
    ) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        self._images = len(sampler)
        self._drop = drop_single and self._images % batch_size == 1

    def __iter__(self) -> Iterator[list[int]]:
        for batch in super().__iter__():
            if not (self._drop and len(batch) == 1):
                yield batch

    def __len__(self) -> int:
        return super().__len__() - int(self._drop)


class Recorder:
    """Write-only: how a method's inner figures reach TensorBoard and the report.

    The base class forgets everything; the engine hands out one that keeps it.
    """

    def start(self, step: int) -> None:
        """Begin at ``step``: what an earlier, killed run recorded from there on is void."""

    def put(self, name: str, step: int, value: float | Separation | Tensor) -> None:
        """Record a value under ``name`` at ``step``.

        Args:
            name: groups have a "/" behind them. Scalars of the group ``noted`` become curves of an
                offline run's record, of the metric ``noted``; all others are for TensorBoard alone.
            step: of the horizontal axis.
            value: a scalar; a separation, shown as a histogram; (K,) counts, shown as a histogram
                with one bucket a class; or (B, H, W, 3) uint8 pictures.
        """


@dataclass(frozen=True)
class Budget:
    """What the protocol allows everybody: epochs over the target, batch size, images per step."""

    epochs: int
    batch_size: int


@dataclass(frozen=True)
class SourceFree:
    """Unlabelled (B, 3, H, W) images in [0, 1], and a copy of the source model of (B, K) logits."""

    task: Task
    target: Unlabelled
    source_model: Network
    budget: Budget
    seed: int
    recorder: Recorder

    @property
    def cost(self) -> Counter:
        """What the method's networks have done so far."""
        return self.source_model.cost


class Oracle(Protocol):
    """The source model as an interface: pictures in, answers out, nothing else.

    Every question counts against the budget; a picture that was answered before is answered again
    from memory, and does not count.
    """

    @property
    def gives_probabilities(self) -> bool:
        """False where answers are one-hot (a hard-label interface)."""
        ...

    def ask(self, images: Tensor) -> Tensor:
        """Answer (B, 3, H, W) images in [0, 1], rounded to 8 bits as in a picture file.

        Returns:
            (B, K) float32 distributions on the CPU.

        Raises:
            AccessError: the budget of questions is spent.
            OracleError: no answer, or one that is no distribution over the task's classes.
        """
        ...

    def ask_all(self, target: Unlabelled) -> Tensor:
        """Answer a whole set in position order: (N, K)."""
        ...


@dataclass(frozen=True)
class BlackBox:
    """Grant of black-box protocols: unlabelled target images and answers of the source model.

    ``new_network(seed)`` builds a fresh target network, (B, 3, H, W) images to (B, K) logits
    (backbone as chosen, bottleneck and head drawn from ``seed``); its images count in ``cost``.
    """

    task: Task
    target: Unlabelled
    oracle: Oracle
    new_network: Callable[[int], Network]
    cost: Counter
    budget: Budget
    seed: int
    recorder: Recorder


@dataclass(frozen=True)
class Online:
    """Grant of online protocols: a copy of the source model; batches are pushed one by one.

    A pushed batch's ``index`` counts the images that arrived so far, and says nothing of what they
    show. ``source_model`` answers (B, 3, H, W) images in [0, 1] by (B, K) logits, in segmentation
    (B, K, H, W). ``extras`` holds, by name, what a method declared and the protocol granted.
    """

    task: Task
    source_model: Network
    batch_size: int
    seed: int
    recorder: Recorder
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cost(self) -> Counter:
        """What the method's networks have done so far."""
        return self.source_model.cost
