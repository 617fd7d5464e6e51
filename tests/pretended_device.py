"""A device that is not there: tensors of the CPU that say they lie on ``cuda``.

Sums are the CPU's, so that a run has the CPU's scores to the last bit. What differs is what a real
device refuses, and so does this one: tensors of two places in one call, NumPy's view of what lies
there, a random generator of the other place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

THERE, HERE = torch.device("cuda", 0), torch.device("cpu")
#: attributes that lie where their tensor lies
OWN = {getattr(Tensor, name).__get__ for name in ("grad", "_grad", "data", "_base")}
#: between two places, as on a device
BETWEEN = {Tensor.copy_, torch._has_compatible_shallow_copy_type}
INDEXING = {Tensor.__getitem__, Tensor.__setitem__, Tensor.index_put, Tensor.index_put_}


def lies_there(tensor: Any) -> bool:
    """Return whether a tensor, or a generator, pretends to lie on the device."""
    return bool(getattr(tensor, "lies_there", False))


def put(found: Any, there: bool) -> Any:
    """Mark every tensor of a result."""
    for tensor in tensors(found):
        tensor.lies_there = there
    return found


def tensors(given: Any) -> Iterator[Tensor]:
    """Return the tensors among arguments."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, list | tuple | dict):
        for one in given.values() if isinstance(given, dict) else given:
            yield from tensors(one)


def names_device(value: Any) -> bool:
    """Return whether an argument of ``Tensor.to`` is a device."""
    return isinstance(value, str | torch.device)


class Elsewhere(TorchFunctionMode):
    """Marks what calls from Python return, and refuses what a device refuses."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else None
        if func == Tensor.device.__get__ and lies_there(first):
            return THERE
        if func == Tensor.is_cuda.__get__:
            return lies_there(first)
        if func == Tensor.is_cpu.__get__:
            return not lies_there(first)
        if func in OWN:
            return put(func(*args), lies_there(first))
        if func is Tensor.pin_memory:
            return first
        if func is Tensor.cpu or func is Tensor.cuda:
            return self.to(first, "cpu" if func is Tensor.cpu else "cuda")
        if func is Tensor.to:
            return self.to(*args, **kwargs)
        if func in (Tensor.numpy, Tensor.__array__) and lies_there(first):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return self.compute(func, args, dict(kwargs))

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make a call whose tensors lie in one place, and mark its result."""
        named = kwargs.get("device")
        given = [t for t in tensors((args, kwargs)) if t.dim() or lies_there(t)]
        there = any(lies_there(t) for t in given)
        if func in BETWEEN or getattr(func, "__name__", "") == "__set__":
            # an attribute goes to its tensor, but for ``data``, with which the tensor goes
            there = lies_there(args[-1] if func == Tensor.data.__set__ else args[0])
            put(args[0], there)
        elif func in INDEXING:
            there = lies_there(args[0])
            self.check_index(there, *args[1:])
        elif not all(lies_there(t) for t in given) and there:
            places = [("cuda" if lies_there(t) else "cpu", tuple(t.shape)) for t in given]
            raise RuntimeError(f"{func.__name__}: tensors on two devices: {places}")
        if named is not None:
            there = torch.device(named).type == "cuda"
            kwargs["device"] = HERE
        generator = kwargs.get("generator")
        if generator is not None and lies_there(generator) != there:
            raise RuntimeError(f"{func.__name__}: a generator of another device")
        return put(func(*args, **kwargs), there) if there or named else func(*args, **kwargs)

    def check_index(self, there: bool, index: Any, value: Any = None, *_: Any) -> None:
        """Refuse indices that lie there for a tensor here, and a value of the other place."""
        if any(lies_there(t) for t in tensors(index)) and not there:
            raise RuntimeError("indices should be on the same device as the indexed tensor (cpu)")
        if any(t.dim() and lies_there(t) != there for t in tensors(value)):
            raise RuntimeError("a value on another device than the tensor that takes it")

    def to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Let a tensor go to another place or type."""
        named = kwargs.pop("device", None)
        if args and (args[0] is None or names_device(args[0])):
            named, args = args[0] or named, (HERE, *args[1:])
        if args and isinstance(args[0], Tensor):
            named, args = "cuda" if lies_there(args[0]) else "cpu", (args[0].dtype, *args[1:])
        goal = lies_there(tensor) if named is None else torch.device(named).type == "cuda"
        found = tensor.to(*args, **kwargs) if args or kwargs else tensor
        if found is tensor and goal != lies_there(tensor):
            found = tensor.clone()
        return found if found is tensor else put(found, goal)


class Generator(torch.Generator):
    """A random generator of the pretended device is one of the CPU that says so."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        found = super().__new__(cls, HERE)
        found.lies_there = torch.device(device).type == "cuda"
        return found


@contextlib.contextmanager
def pretended_device() -> Iterator[None]:
    """Let ``cuda`` be the name of a device of this machine."""
    make: Callable[..., Tensor] = Tensor._make_subclass

    def parameter(cls: Any, data: Tensor, *more: Any, **named: Any) -> Tensor:
        made: Tensor = put(make(cls, data, *more, **named), lies_there(data))
        return made

    def nothing(*_: Any, **__: Any) -> int:
        return 0

    answers: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda *_: "pretended",
        "get_device_capability": lambda *_: (7, 0),
        "mem_get_info": lambda *_: (1 << 34, 1 << 34),
        "get_rng_state": lambda *_: torch.zeros(1),
        "get_rng_state_all": list,
    }
    silent = (
        *("synchronize", "current_device", "set_device", "empty_cache", "set_rng_state"),
        *("reset_peak_memory_stats", "max_memory_allocated", "set_rng_state_all"),
    )
    with contextlib.ExitStack() as patches:
        for name, answer in (answers | dict.fromkeys(silent, nothing)).items():
            patches.enter_context(mock.patch.object(torch.cuda, name, answer))
        for name in dir(torch.optim.Optimizer):
            if name.endswith("_graph_capture_health_check"):  # it asks the driver
                patches.enter_context(mock.patch.object(torch.optim.Optimizer, name, nothing))
        patches.enter_context(mock.patch.object(torch, "Generator", Generator))
        patches.enter_context(mock.patch.object(Tensor, "_make_subclass", staticmethod(parameter)))
        patches.enter_context(Elsewhere())
        yield
