"""CMF: ROID with a Kalman filter in place of the way back to the source."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from dabench.api import Online
from dabench.methods.functional.bounds import NonNegative, Share
from dabench.methods.functional.kalman import kalman_gain
from dabench.methods.online.roid import ROID

#: trained parameters that the published noise is for
USUAL_PARAMETERS = 38400


class CMF(ROID):
    """CMF, continual momentum filtering (Lee and Chang, ICLR 2024), after the authors' code.

    Loss, weights and prior are those of ``roid``. A hidden copy of the trained weights goes back
    towards the source's, takes the learned weights in by a Kalman gain, and the learned weights are
    averaged with it.

    Args:
        alpha: share of the hidden weights that is kept each step; the rest is the source's.
        gamma: share of the learned weights that is kept; the rest is the hidden ones'.
        noise: of the filter's process for 38,400 trained parameters; it grows with their number.
    """

    fixed_options: ClassVar[frozenset[str]] = frozenset({"source_decay"})
    hidden: Tensor
    variance: Tensor

    alpha: Share = 0.99
    gamma: Share = 0.99
    noise: NonNegative = 0.005

    def begin(self, access: Online) -> None:
        """Take the source model; the hidden weights are its own."""
        super().begin(access)
        self.register_buffer("hidden", self.start.clone())
        self.register_buffer("variance", torch.zeros((), dtype=torch.float64))

    def restrain(self) -> None:
        """Filter: predict, update, and average the learned weights with the hidden ones."""
        q = self.noise * len(self.start) / USUAL_PARAMETERS
        keep, variance = kalman_gain(float(self.variance), self.alpha, q)
        self.variance.fill_(variance)
        learned = self.trained_values()
        predicted = torch.lerp(self.start, self.hidden, self.alpha)
        self.hidden.copy_(torch.lerp(learned, predicted, keep))
        self.set_trained_values(torch.lerp(self.hidden, learned, self.gamma))
