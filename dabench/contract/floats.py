"""From uint8 pictures to the float images of a batch, on the device that takes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dabench.contract.types import IntArray


def to_float(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Turn (B, H, W, 3) uint8 into (B, 3, H, W) float32 in [0, 1], channels last in memory.

    Pictures travel to an accelerator as bytes, a quarter of what floats are, and while it computes.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    where = torch.device(device)
    if where.type == "cuda":
        tensor = tensor.pin_memory().to(where, non_blocking=True)
    return fractions(tensor.to(where))


def fractions(pictures: Tensor) -> Tensor:
    """Turn bytes into floats where they lie; the last digit is the same on every device."""
    found = pictures.permute(0, 3, 1, 2).to(torch.float32)
    if found.device.type == "cpu":
        return found.div_(255.0)
    # by a number of the host, a device may multiply by 1/255, which is another last digit
    return found.div_(torch.full((), 255.0, device=found.device))


def resident(pictures: np.ndarray, device: torch.device) -> Callable[[IntArray], Tensor]:
    """Return what makes floats of pictures that lie on a device."""
    held = torch.from_numpy(pictures).to(device)
    return lambda positions: fractions(held[torch.from_numpy(positions).to(device)])


def free_memory(device: torch.device) -> int:
    """Return the free bytes of an accelerator; 0 where nobody tells."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
