"""What a backbone makes of images, found by a pass of zeros."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from dabench.errors import ConfigError, reason_of


def feature_width(net: nn.Module, name: str, side: int | None) -> int:
    """Return F of a backbone (B, 3, S, S) -> (B, F), which is left as it is.

    Args:
        net: on the CPU.
        name: for messages.
        side: S; None = the first of the sizes that the backbone was made for.

    Raises:
        ConfigError: images of this size cannot pass (names one that can), or what comes out is
            not (B, F).
    """
    fits = _usual_sides(net)
    try:
        out = _pass(net, side or fits[0])
    except Exception as error:  # a library's network raises whatever its authors chose
        works = next((s for s in fits if s != side and _runs(net, s)), None)
        raise ConfigError(_refusal(name, side or fits[0], works, error)) from error
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != 2:
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ConfigError(
            f"--backbone {name} gives {shape} for two images, where one vector each is needed, "
            "(2, F): choose another --backbone"
        )
    return int(out.shape[1])


def _pass(net: nn.Module, side: int) -> Any:
    # in training mode, where some networks answer in another form; a twin, because a pass moves
    # BatchNorm's statistics and fills caches
    twin = copy.deepcopy(net).train()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        return twin(torch.zeros(2, 3, side, side))


def _runs(net: nn.Module, side: int) -> bool:
    try:
        _pass(net, side)
    except Exception:  # noqa: BLE001  a library's network raises whatever its authors chose
        return False
    return True


def _usual_sides(net: nn.Module) -> list[int]:
    """Return sizes to try: the network's own (torchvision, then timm), then common ones."""
    own: Any = getattr(net, "image_size", None)
    listed = (getattr(net, "pretrained_cfg", None) or {}).get("input_size")
    first = [own] if isinstance(own, int) else []
    return list(dict.fromkeys([*first, *([int(listed[-1])] if listed else []), 224, 299]))


def _refusal(name: str, side: int, works: int | None, error: Exception) -> str:
    why = f"--backbone {name} does not take images of {side} x {side} px ({reason_of(error)})"
    if works is None:
        return f"{why}, nor of its usual sizes: choose another --backbone"
    return (
        f"{why}; it takes {works} x {works}: give --image-size {works}, or choose another "
        "--backbone (small-cnn, small-vit and most convolutional ones take any size)"
    )
