"""Contrast along a graph of labels, and prototypes that follow a network's features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional.memory import blend


def label_graph(
    similarity: Tensor,
    labels: tuple[Tensor, Tensor],
    reliable: tuple[Tensor, Tensor],
    *,
    weight: float,
    neighbours: int,
) -> Tensor:
    """Return (B, M) weights of the keys that queries are drawn to; every row sums to one.

    1 for the query's own key (column i of row i) and for keys of its label, where both sides are
    reliable; ``weight`` for other keys of its label and, for a query that is not reliable, its
    nearest keys. Then rows are divided by their sums.

    Args:
        similarity: (B, M), M >= B.
        labels: (B,) and (M,) int64 of queries and keys.
        reliable: (B,) and (M,) bool.
        weight: in [0, 1].
        neighbours: nearest keys; 0 = none, at most M.

    Source: SEAL's code (MingxuanXia/SEAL).
    """
    same = labels[0][:, None] == labels[1][None, :]
    both = same & reliable[0][:, None] & reliable[1][None, :]
    near = torch.zeros_like(same)
    if neighbours:
        places = similarity.topk(min(neighbours, similarity.shape[1]), dim=1).indices
        near = near.scatter(1, places, True) & ~reliable[0][:, None]
    graph = torch.where(both, 1.0, weight * (same | near))
    rows = torch.arange(len(graph), device=graph.device)
    graph[rows, rows] = 1.0
    return graph / graph.sum(1, keepdim=True)


def graph_contrast(
    query: Tensor,
    key: Tensor,
    labels: tuple[Tensor, Tensor],
    reliable: tuple[Tensor, Tensor],
    *,
    weight: float = 0.2,
    neighbours: int = 0,
    temperature: float = 0.07,
) -> Tensor:
    """Return mean_i -sum_j g_ij log softmax_j(q_i . k_j / T), with g of :func:`label_graph`.

    Args:
        query: (B, D) of unit length.
        key: (M, D) of unit length, without gradient; the first B are the queries' own.
        labels: as in :func:`label_graph`.
        reliable: likewise.
        weight: likewise.
        neighbours: likewise.
        temperature: T.

    Source: SEAL's code.
    """
    similarity = query @ key.T
    graph = label_graph(similarity.detach(), labels, reliable, weight=weight, neighbours=neighbours)
    return -(graph * (similarity / temperature).log_softmax(1)).sum(1).mean()


def blended_prototypes(prototypes: Tensor, z: Tensor, labels: Tensor, momentum: float) -> Tensor:
    """Return (K, D) prototypes of unit length, moved by a batch's features.

    A class with n images keeps momentum^n of its prototype; the rest is the images' mean. A class
    without any stays, and a prototype of zeros stands for a class that never had one.

    Args:
        prototypes: (K, D).
        z: (B, D) of unit length.
        labels: (B,) int64.
        momentum: in [0, 1).

    Source: SEAL's code, which moves image by image.
    """
    count = torch.bincount(labels, minlength=len(prototypes)).to(z)[:, None]
    mean = torch.zeros_like(prototypes).index_add_(0, labels, z) / count.clamp_min(1)
    kept = momentum**count
    return F.normalize(blend(prototypes, mean, kept), dim=1)


def prototype_answer(z: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """Return the (B, K) softmax of cosines to prototypes / T.

    Classes without a prototype (zeros) get nothing; where there is none at all, all get the same.

    Source: SEAL's code; there a prototype of zeros has a cosine of 0, more than a distant class.
    """
    missing = prototypes.norm(dim=1) == 0
    cosine = z @ prototypes.T
    if not bool(missing.all()):
        cosine = cosine.masked_fill(missing, -torch.inf)
    return (cosine / temperature).softmax(1)


def aligned_targets(
    named: Tensor, p: Tensor, proto: Tensor, easy: Tensor, confident: Tensor
) -> Tensor:
    """Return the (B, K) targets of images by the group that they are in.

    Easy: the named class. Confident: m e_y + (1 - m) r, with y = argmax p, m = max p and the
    prototypes' answer r. All others: r.

    Args:
        named: (B,) int64 classes.
        p: (B, K) probabilities.
        proto: (B, K) r.
        easy: (B,) bool; goes before ``confident``.
        confident: (B,) bool.

    Source: SEAL's code.
    """
    top, own = p.max(1, keepdim=True)
    mixed = ((1 - top) * proto).scatter_add(1, own, top)
    hard = torch.zeros_like(proto).scatter(1, named[:, None], 1.0)
    target = torch.where(confident[:, None], mixed, proto)
    return torch.where(easy[:, None], hard, target)
