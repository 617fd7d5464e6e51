"""A memory of past images that stays balanced over the predicted classes."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn


def balanced_place(stored: list[int], label: int, seen: int) -> int | None:
    """Return the place that a new sample takes; None = it is not stored.

    An empty place, if there is one. Else, a random one of a class that has most places (a random
    one of these classes); where the new sample's class is itself among them, a random one of its
    own, with the probability stored / seen, as in reservoir sampling. Draws from torch.

    Args:
        stored: label of every place; -1 = empty.
        label: of the new sample.
        seen: samples of its class that came so far, this one included.

    Source: NOTE (Gong et al., NeurIPS 2022), Algorithm 1.
    """
    if -1 in stored:
        return stored.index(-1)
    counts = Counter(stored)
    most = max(counts.values())
    largest = sorted(c for c, count in counts.items() if count == most)
    if label not in largest:
        giving = largest[int(torch.randint(len(largest), ()))]
    elif float(torch.rand(())) <= most / seen:
        giving = label
    else:
        return None
    places = [place for place, c in enumerate(stored) if c == giving]
    return places[int(torch.randint(len(places), ()))]


class BalancedReservoir(nn.Module):
    """At most N images, by prediction as even as the stream lets them be, as 8-bit pictures.

    Prediction-balanced reservoir sampling. Everything lies in buffers of a fixed size, hence in
    ``state_dict()``.

    Args:
        size: N.
        num_classes: K; there may be more classes than places.
        image_size: side S in pixels.
    """

    pictures: Tensor
    labels: Tensor
    seen: Tensor

    def __init__(self, size: int, num_classes: int, image_size: int) -> None:
        super().__init__()
        pictures = torch.zeros(size, 3, image_size, image_size, dtype=torch.uint8)
        self.register_buffer("pictures", pictures)
        self.register_buffer("labels", torch.full((size,), -1))  # -1 = an empty place
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.int64))

    def __len__(self) -> int:
        return int((self.labels >= 0).sum())

    def images(self) -> Tensor:
        """Return all stored images, (M, 3, S, S) float in [0, 1]."""
        return self.pictures[self.labels >= 0].to(torch.float32).div_(255.0)

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Offer (B, 3, S, S) images in [0, 1] one by one, with (B,) predicted classes."""
        stored, seen = self.labels.tolist(), self.seen.tolist()
        rows: dict[int, int] = {}
        for row, label in enumerate(labels.tolist()):
            seen[label] += 1
            place = balanced_place(stored, label, seen[label])
            if place is not None:
                stored[place], rows[place] = label, row
        self.labels.copy_(torch.tensor(stored))
        self.seen.copy_(torch.tensor(seen))
        if rows:
            pictures = (images[list(rows.values())] * 255).round().to(torch.uint8)
            self.pictures[list(rows)] = pictures
