"""A small memory of past target images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Policy = Literal["confident", "fifo", "reservoir"]


def largest_per_class(labels: Tensor, keys: Tensor, per_class: int | Tensor) -> Tensor:
    """Return (N,) bool: the ``per_class`` rows with the largest keys of every class.

    Rows with a negative label are never chosen; of equal keys the earlier row wins.

    Args:
        labels: (N,) int64.
        keys: (N,) sortable numbers.
        per_class: how many rows of a class to keep at most; or (K,) numbers, one a class.
    """
    order = keys.argsort(descending=True, stable=True)
    order = order[labels[order].argsort(stable=True)]
    ordered = labels[order]
    place = torch.arange(len(order), device=labels.device)
    rank = place - torch.searchsorted(ordered, ordered)
    keep = torch.zeros_like(labels, dtype=torch.bool)
    most = per_class if isinstance(per_class, int) else per_class[ordered.clamp_min(0)]
    keep[order] = (rank < most) & (ordered >= 0)
    return keep


def missing_per_class(labels: Tensor, num_classes: int) -> Tensor:
    """Return (K,) int64: how many rows each class lacks of an even share, ceil(N / K) of N rows."""
    counts = torch.bincount(labels, minlength=num_classes)
    return (-(-len(labels) // num_classes) - counts).clamp_min(0)


def forward_separately(forward: Callable[[Tensor], Tensor], *groups: Tensor) -> Tensor:
    """Return a network's answers to groups of images that pass it one after another.

    So BatchNorm normalises a batch by its own statistics, and stored images, which show earlier
    conditions, by theirs. Groups without an image are left out.
    """
    return torch.cat([forward(group) for group in groups if len(group)])


class ReplayBuffer(nn.Module):
    """At most ``per_class`` images of each class, by pseudo-label, as 8-bit pictures.

    Target images are 8-bit pictures, so that nothing is lost. A policy says which images of a
    class stay: the most ``confident``; the last ones (``fifo``); or a uniform choice among all that
    were offered (``reservoir``). All three keep the largest keys: the confidence, the arrival
    number, or a random number drawn at arrival, as in reservoir sampling by random tags. Everything
    lies in buffers of a fixed size, hence in ``state_dict()``.

    Args:
        num_classes: K; the buffer never holds more than K * per_class images.
        per_class: images of a class, at least 1.
        image_size: side S in pixels.
        policy: as above.
        answer_size: numbers that are kept with every image, what the model said of it, say.
    """

    answers: Tensor
    pictures: Tensor
    labels: Tensor
    keys: Tensor
    arrived: Tensor

    def __init__(
        self,
        num_classes: int,
        per_class: int,
        image_size: int,
        policy: Policy = "confident",
        answer_size: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes, self.per_class, self.policy = num_classes, per_class, policy
        size, side = num_classes * per_class, image_size
        pictures = torch.zeros(size, 3, side, side, dtype=torch.uint8)
        self.register_buffer("pictures", pictures)
        self.register_buffer("labels", torch.full((size,), -1))  # -1 = an empty place
        self.register_buffer("keys", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("arrived", torch.zeros((), dtype=torch.int64))
        answers = torch.zeros(size, answer_size)
        self.register_buffer("answers", answers, persistent=answer_size > 0)

    def __len__(self) -> int:
        return int((self.labels >= 0).sum())

    def stored_places(self) -> Tensor:
        """Return the (M,) int64 places that are taken."""
        return (self.labels >= 0).nonzero()[:, 0]

    def sample(self, count: int) -> Tensor:
        """Return ``count`` different taken places (all, if there are fewer) from torch's draws."""
        places = self.stored_places()
        if count >= len(places):
            return places
        chosen = torch.randperm(len(places))[:count].to(places.device)
        return places[chosen.sort().values]

    def images(self, places: Tensor) -> Tensor:
        """Return (M, 3, S, S) float images in [0, 1]."""
        return self.pictures[places].to(torch.float32).div_(255.0)

    def counts(self) -> Tensor:
        """Return the (K,) int64 histogram of stored pseudo-labels."""
        return torch.bincount(self.labels[self.labels >= 0], minlength=self.num_classes)

    def recall(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Return ``count`` stored images (None = all), (M, 3, S, S), and their (M,) places."""
        places = self.stored_places() if count is None else self.sample(count)
        return self.images(places), places

    def update(self, images: Tensor, places: Tensor, labels: Tensor, confidence: Tensor) -> None:
        """Renew what is known of recalled images, and offer new ones.

        Args:
            images: (B, 3, S, S) new images.
            places: (M,) of the recalled ones.
            labels: (B + M,) pseudo-labels.
            confidence: (B + M,) their probabilities.
        """
        new = len(images)
        self.rescore(places, labels[new:], confidence[new:])
        self.add(images, labels[:new], confidence[:new])

    def record(
        self, put: Callable[[str, int, float | Tensor], None], step: int, every: int = 10
    ) -> None:
        """Record how many images are stored, of how many classes, the largest, and all counts."""
        if step % every:
            return
        counts = self.counts()
        put("buffer/size", step, float(counts.sum()))
        put("buffer/classes", step, float((counts > 0).sum()))
        put("buffer/largest_class", step, float(counts.max()))
        put("buffer/histogram", step, counts)

    def rescore(self, places: Tensor, labels: Tensor, confidence: Tensor) -> None:
        """Renew the pseudo-labels, and under ``confident`` the keys, of stored images.

        A class that has grown beyond its share loses the images with the smallest keys.
        """
        self.labels[places] = labels
        if self.policy == "confident":
            self.keys[places] = confidence.to(self.keys)
        keep = largest_per_class(self.labels, self.keys, self.per_class)
        self.labels[~keep] = -1

    def add(
        self,
        images: Tensor,
        labels: Tensor,
        confidence: Tensor,
        answers: Tensor | None = None,
    ) -> None:
        """Offer images.

        Args:
            images: (B, 3, S, S) in [0, 1].
            labels: (B,) pseudo-labels.
            confidence: (B,) their probabilities.
            answers: (B, A) what to keep with them, where ``answer_size`` is A.
        """
        keys = self._new_keys(confidence)
        all_labels = torch.cat((self.labels, labels))
        keep = largest_per_class(all_labels, torch.cat((self.keys, keys)), self.per_class)
        stored = len(self.labels)
        self.labels[~keep[:stored]] = -1
        new = keep[stored:].nonzero()[:, 0]
        places = (self.labels < 0).nonzero()[: len(new), 0]
        self.pictures[places] = (images[new] * 255).round().to(torch.uint8)
        self.labels[places] = labels[new]
        self.keys[places] = keys[new]
        if answers is not None:
            self.answers[places] = answers[new].to(self.answers)

    def _new_keys(self, confidence: Tensor) -> Tensor:
        count = len(confidence)
        numbers = self.arrived + torch.arange(count, device=self.keys.device)
        self.arrived += count
        if self.policy == "confident":
            return confidence.to(self.keys)
        if self.policy == "fifo":
            return numbers.to(self.keys)
        return torch.rand(count, dtype=torch.float64).to(self.keys)
