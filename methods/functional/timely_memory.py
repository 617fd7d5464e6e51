"""RoTTA's memory: few images of each predicted class, young ones and sure ones (CSTU)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn


def timeliness(ages: Tensor, capacity: int) -> Tensor:
    """Return weights exp(-a) / (1 + exp(-a)), a = age / capacity: 1/2 for the youngest.

    Args:
        ages: (M,) images that were offered since.
        capacity: places of the memory.

    Source: RoTTA (Yuan et al., CVPR 2023), authors' code.
    """
    return torch.sigmoid(-ages / capacity)


class TimelyMemory(nn.Module):
    """At most N images with pseudo-label, entropy and age: category-balanced, timely, uncertain.

    An image of a class with fewer than N / K images takes a free place, or, where there is none,
    that of an image of a largest class; any other takes the place of one of its own class. The
    image that goes is the one with the largest score 1 / (1 + exp(-age / N)) * t + H / log K * u,
    and only if the new one's is smaller; else the new one is left out. So with K > N a class has
    one place. Everything lies in buffers of a fixed size, hence in ``state_dict()``.

    Args:
        capacity: N, at least 1.
        num_classes: K, at least 2.
        image_size: side S in pixels.
        time_weight: t.
        uncertainty_weight: u.

    Source: RoTTA (Yuan et al., CVPR 2023), authors' code. Images are stored as 8-bit pictures.
    """

    pictures: Tensor
    labels: Tensor
    entropies: Tensor
    ages: Tensor

    def __init__(
        self,
        capacity: int,
        num_classes: int,
        image_size: int,
        time_weight: float = 1.0,
        uncertainty_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.capacity, self.num_classes = capacity, num_classes
        self.time_weight, self.uncertainty_weight = time_weight, uncertainty_weight
        pictures = torch.zeros(capacity, 3, image_size, image_size, dtype=torch.uint8)
        self.register_buffer("pictures", pictures)
        self.register_buffer("labels", torch.full((capacity,), -1))  # -1 = an empty place
        self.register_buffer("entropies", torch.zeros(capacity, dtype=torch.float64))
        self.register_buffer("ages", torch.zeros(capacity, dtype=torch.int64))

    def __len__(self) -> int:
        return int((self.labels >= 0).sum())

    def recall(self) -> tuple[Tensor, Tensor]:
        """Return all (M, 3, S, S) images in [0, 1], float32, and their (M,) ages."""
        held = self.labels >= 0
        return self.pictures[held].to(torch.float32).div_(255.0), self.ages[held]

    def offer(self, images: Tensor, labels: Tensor, entropies: Tensor) -> None:
        """Offer images one after another; whatever is stored grows older with each.

        Args:
            images: (B, 3, S, S) in [0, 1].
            labels: (B,) pseudo-labels.
            entropies: (B,) of their answers, in nats.
        """
        # places are found on the CPU: a device would be asked for every image
        state = tuple(t.cpu().numpy().copy() for t in (self.labels, self.entropies, self.ages))
        stored, uncertain, ages = state
        newest: dict[int, int] = {}
        for i, (label, h) in enumerate(zip(labels.tolist(), entropies.tolist(), strict=True)):
            place = self._place(label, h, stored, uncertain, ages)
            if place is not None:
                stored[place], uncertain[place], ages[place] = label, h, 0
                newest[place] = i
            ages[stored >= 0] += 1
        for buffer, values in zip((self.labels, self.entropies, self.ages), state, strict=True):
            buffer.copy_(torch.from_numpy(values))
        if newest:
            chosen = images[list(newest.values())].detach()
            self.pictures[list(newest)] = (chosen * 255).round().to(self.pictures)

    def _place(
        self, label: int, h: float, labels: np.ndarray, entropies: np.ndarray, ages: np.ndarray
    ) -> int | None:
        """Return the place that a new image takes; None = it is left out."""
        counts = np.bincount(labels[labels >= 0], minlength=self.num_classes)
        free = np.flatnonzero(labels < 0)
        if counts[label] >= self.capacity / self.num_classes:
            rivals = np.flatnonzero(labels == label)
        elif len(free):
            return int(free[0])
        else:
            rivals = np.flatnonzero(counts[labels] == counts.max())
        scores = self._score(ages[rivals], entropies[rivals])
        worst = int(scores.argmax())
        return int(rivals[worst]) if scores[worst] > self._score(np.zeros(1), h)[0] else None

    def _score(self, ages: np.ndarray, entropies: np.ndarray | float) -> np.ndarray:
        timely = 1 / (1 + np.exp(-ages / self.capacity))
        uncertain = entropies / math.log(self.num_classes)
        found: np.ndarray = self.time_weight * timely + self.uncertainty_weight * uncertain
        return found
