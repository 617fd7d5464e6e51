"""What a kind of weather or corruption is; the kinds themselves stand in files beside this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pictures = npt.NDArray[np.uint8]
#: (H, W, 3) uint8 picture, severity 1..levels, the item's own generator -> picture of that size
Render = Callable[[Pictures, int, np.random.Generator], Pictures]


@dataclass(frozen=True)
class Kind:
    """One kind of weather or corruption.

    Attributes:
        name: as users write it (``fog``, ``aid-cc``, ``c-gaussian-noise``).
        levels: severities are 1 to ``levels``; 0 is the clear picture.
        standard: whose levels they are (``imagenet-c/cifar-c``, ``published``, ``dabench``).
        render: a pure function of its three arguments.
    """

    name: str
    levels: int
    standard: str
    render: Render
