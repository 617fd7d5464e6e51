"""RPL: pseudo-labels with a loss that bears wrong ones."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from dabench.methods.functional.losses import generalised_cross_entropy
from dabench.methods.online.pl import PL


class RPL(PL):
    """RPL (Rusak et al., 2021): generalised cross-entropy with the network's own hard label.

    ``pl`` with the loss (1 - p_y^q) / q, whose gradient is small where p_y is.

    Args:
        q: 1 = mean absolute error, towards 0 = cross-entropy.
    """

    q: Annotated[float, Field(gt=0, le=1)] = 0.8

    def objective(self, logits: Tensor) -> Tensor:
        """Return the (N,) losses of (N, K) logits."""
        p = logits.softmax(1)
        return generalised_cross_entropy(p, p.argmax(1), self.q)
