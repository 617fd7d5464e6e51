"""What tests of memory share: tensors that are made, and those that are held at the same time."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that is made inside."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, Tensor):
                self.note(each)
        return out

    def note(self, made: Tensor) -> None:
        self.most = max(self.most, made.numel())


class Held(Largest):
    """Notes the most bytes that large tensors made inside hold at the same time.

    Args:
        least: bytes from which a tensor is large.
    """

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least = least
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def note(self, made: Tensor) -> None:
        storage = made.untyped_storage()
        if storage.nbytes() < self.least:
            return
        self.alive = {key: one for key, one in self.alive.items() if not one[0].expired()}
        weak = StorageWeakRef(storage)
        self.alive[weak.cdata] = weak, storage.nbytes()
        self.most = max(self.most, sum(size for _, size in self.alive.values()))
