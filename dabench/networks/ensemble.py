"""Networks that answer together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from dabench.contract.network import Network

Averaged = Literal["logits", "probabilities"]


class Ensemble(nn.Module):
    """The mean of several networks' answers: (B, 3, H, W) images in [0, 1] -> (B, K) logits.

    Args:
        networks: one or more, of the same classes.
        averaged: what the mean is taken of; of probabilities, the answer is its logarithm.
    """

    def __init__(self, networks: Iterable[Network], averaged: Averaged) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.averaged: Averaged = averaged

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, K) logits."""
        answers = [net(images) for net in self.networks]
        if self.averaged == "logits":
            return torch.stack(answers).mean(0)
        p = torch.stack([logits.softmax(1) for logits in answers]).mean(0)
        return p.clamp_min(1e-10).log()
