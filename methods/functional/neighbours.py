"""Nearest neighbours in feature space: of every image, and of a batch in a bank of all images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def bank_neighbours(
    z: Tensor, bank: Tensor, own: Tensor, count: int, *, chunk: int = 1024
) -> Tensor:
    """Return the places of the ``count`` nearest rows of a bank by cosine, the nearest first.

    Works on ``chunk`` rows at a time, so that no B x N matrix is held.

    Args:
        z: (B, D) rows of unit length.
        bank: (N, D) rows of unit length, N >= 2.
        own: (B,) int64 places of the rows' own images in the bank. An image is not its own
            neighbour, however old its row is.
        count: neighbours a row; at most N - 1 are given.
        chunk: rows compared at a time.

    Returns:
        (B, min(count, N - 1)) int64 places.
    """
    count = min(count, len(bank) - 1)
    found = []
    for start in range(0, len(z), chunk):
        similarity = z[start : start + chunk] @ bank.T
        rows = torch.arange(len(similarity), device=z.device)
        similarity[rows, own[start : start + chunk]] = -torch.inf
        found.append(similarity.topk(count, dim=1).indices)
        del similarity  # before the next one is made
    return torch.cat(found)


def nearest_neighbours(z: Tensor, count: int, *, chunk: int = 1024) -> Tensor:
    """Return :func:`bank_neighbours` of (N, D) rows among themselves."""
    return bank_neighbours(z, z, torch.arange(len(z), device=z.device), count, chunk=chunk)


def neighbourhood_mean(p: Tensor, places: Tensor) -> Tensor:
    """Return the (N, K) mean of every row of p with those of its (N, k) neighbours."""
    return (p + p[places].sum(1)) / (places.shape[1] + 1)


def bank_probabilities(
    z: Tensor, bank: Tensor, p: Tensor, count: int, *, chunk: int = 256
) -> Tensor:
    """Return the (B, K) mean probabilities of the nearest rows of a bank, by cosine.

    Works on ``chunk`` rows at a time, so that no B x N matrix is held.

    Args:
        z: (B, D) features of any length.
        bank: (N, D) stored features of unit length, N >= 1.
        p: (N, K) their probabilities.
        count: neighbours a row; all, where the bank has fewer.
        chunk: rows compared at a time.

    Source: AdaContrast (Chen et al., CVPR 2022), Eq. 2.
    """
    count, found = min(count, len(bank)), []
    for rows in torch.split(z, chunk):
        places = (F.normalize(rows, dim=1) @ bank.T).topk(count, dim=1).indices
        found.append(p[places].mean(1))
    return torch.cat(found)


def within_class(count: int, images: int, classes: int) -> int:
    """Return the neighbours that an image can have of its own class, at least 1 and at most count.

    All of them are as many as a class of average size has beside the image. (Published numbers of
    neighbours are for sets of 500 images and more.)
    """
    return min(count, max(1, images // classes - 1))


def reciprocal_weights(own: Tensor, second: Tensor, weak: float) -> Tensor:
    """Return (B, k) weights: 1 for a neighbour that has the image among its own, else ``weak``.

    Args:
        own: (B,) int64 places of the images.
        second: (B, k, m) places of the neighbours' neighbours.
        weak: in [0, 1].

    Source: NRC (Yang et al., NeurIPS 2021), reciprocal nearest neighbours.
    """
    mutual = (second == own[:, None, None]).any(2)
    return torch.where(mutual, 1.0, weak)


class FeatureBank:
    """What a network last made of every image: a feature of unit length, and probabilities.

    Args:
        features: (N, D), of any length.
        p: (N, K).

    Attributes:
        z: (N, D) rows of unit length.
        p: (N, K) probabilities.
    """

    def __init__(self, features: Tensor, p: Tensor) -> None:
        self.z, self.p = F.normalize(features.detach(), dim=1), p.detach().clone()

    def write(self, index: Tensor, features: Tensor, p: Tensor) -> None:
        """Exchange the rows of a batch; the others stay."""
        self.z[index] = F.normalize(features.detach(), dim=1)
        self.p[index] = p.detach()

    def nearest(self, index: Tensor, count: int, features: Tensor | None = None) -> Tensor:
        """Return (B, k) places of the nearest other images of those at ``index``.

        ``features``: (B, D), looked up in place of the bank's own rows.
        """
        z = self.z[index] if features is None else F.normalize(features.detach(), dim=1)
        return bank_neighbours(z, self.z, index, count)
