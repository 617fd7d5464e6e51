"""``max-squares``: Tent's update with the maximum-squares loss in place of the entropy."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from dabench.methods.functional.losses import max_squares
from dabench.methods.online.tent import Tent


class MaxSquares(Tent):
    """Maximum squares (Chen et al., ICCV 2019) at test time, by Tent's rules.

    One step on -1/2 mean p^2, over classes, pixels and images, for every batch. The paper adapts
    offline, with source images beside the target's; the loop, and that weight and bias of the
    normalisation layers alone are trained, are Tent's. Options are those of ``tent``; ``adam`` does
    not see that this loss is smaller than the entropy, while ``sgd`` wants a larger ``lr``.
    """

    fixed_options: ClassVar[frozenset[str]] = frozenset({"loss"})

    def objective(self, logits: Tensor) -> Tensor:
        """Return the (N, ...) losses of (N, K, ...) logits."""
        return max_squares(logits.softmax(1))
