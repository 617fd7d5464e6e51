"""Steps that never read a value back: on an accelerator the host would wait for it.

A CPU shows the same operations; ``tests/gpu`` asks CUDA itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dabench.contract.access import TargetBatch
from dabench.testing import Case

#: operations whose result, or its size, the host has to know
_READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal")


class Reads(TorchDispatchMode):
    """Notes what would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        masks = args[1] if name.startswith("index") and len(args) > 1 else ()
        by_mask = isinstance(masks, list | tuple) and any(
            isinstance(mask, Tensor) and mask.dtype.itemsize == 1 for mask in masks
        )
        if name in _READS or by_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_the_count_sees_what_waits() -> None:
    values = torch.tensor([1.0, -1.0])
    with Reads() as reads:
        values.sum().item()
        values[values > 0]
        values.max()
    assert reads.found == ["_local_scalar_dense", "index"]


@pytest.mark.parametrize("name", ["source", "bn-adapt", "bn-ema"])
def test_a_step_reads_nothing_back(cases: Callable[..., Case], name: str) -> None:
    case, found = cases(name, "gradual-weather", brief=True), []

    def build() -> Any:
        method = case.build()
        adapt = method.step

        def step(batch: TargetBatch) -> Tensor:
            with Reads() as reads:
                answer: Tensor = adapt(batch)
            found.append(reads.found)
            return answer

        object.__setattr__(method, "step", step)
        return method

    case.bench.run(build)
    assert found
    assert not any(found)
