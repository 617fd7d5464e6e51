"""A ring of the last features, each with what was said of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeatureQueue(nn.Module):
    """The last Q features with an answer to each; a new one takes the place of the oldest.

    Everything lies in buffers of a fixed size, hence in ``state_dict()``.

    Args:
        features: (Q, D) of the start.
        answers: (Q, ...) to them: labels, or probabilities.
    """

    features: Tensor
    answers: Tensor
    arrived: Tensor

    def __init__(self, features: Tensor, answers: Tensor) -> None:
        super().__init__()
        self.register_buffer("features", features)
        self.register_buffer("answers", answers)
        arrived = torch.zeros((), dtype=torch.int64, device=features.device)
        self.register_buffer("arrived", arrived)

    def __len__(self) -> int:
        """Return how many came in and are there, without those of the start."""
        return min(int(self.arrived), len(self.features))

    def put(self, features: Tensor, answers: Tensor) -> None:
        """Take in (B, D) features with (B, ...) answers; of more than Q the last Q."""
        size, count = len(self.features), len(features)
        kept = min(size, count)
        places = torch.arange(count - kept, count, device=self.features.device) + self.arrived
        places %= size
        self.features[places] = features[count - kept :].detach()
        self.answers[places] = answers[count - kept :].detach()
        self.arrived += count

    def stored(self) -> tuple[Tensor, Tensor]:
        """Return the (N, D) features that came in, in no order, and their (N, ...) answers."""
        return self.features[: len(self)], self.answers[: len(self)]
