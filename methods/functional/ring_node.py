"""A node for "unknown" that is second for every image of a known class (OneRing)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def ring_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the per-sample CE(l, y) + CE(l without y, K + 1).

    The label comes first, the node second. Of all free logits of the node, given the others, the
    loss is least at (log sum_c exp l_c + log sum_{c != y} exp l_c) / 2: it is then larger than l_y
    where p_y over the K classes lies below .618.

    Args:
        logits: (B, K + 1) l, the node last.
        labels: (B,) int64 y in 0..K-1.

    Source: OneRing (Yang et al., 2022), authors' code: the loss of its source training.
    """
    node = torch.full_like(labels, logits.shape[1] - 1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return F.cross_entropy(logits, labels, reduction="none") + F.cross_entropy(
        others, node, reduction="none"
    )


def fit_ring_node(
    features: Tensor, logits: Tensor, labels: Tensor, *, penalty: float = 5e-4, rounds: int = 100
) -> tuple[Tensor, Tensor]:
    """Return the row (D,) and the bias of a linear node with the least mean :func:`ring_loss`.

    The K other logits stand. The loss is convex in row and bias, and has one minimum with the
    penalty, (penalty / 2) times their squared norm; found by L-BFGS in float64.

    Args:
        features: (N, D).
        logits: (N, K) of the classes.
        labels: (N,) int64.
        penalty: of the squared norm, above 0.
        rounds: most iterations.

    Source: OneRing (Yang et al., 2022), which learns the node with the whole network on labelled
    source images; on frozen features and given labels: ours.
    """
    x, known = features.detach().double(), logits.detach().double()
    node = x.new_zeros(x.shape[1] + 1, requires_grad=True)
    solver = torch.optim.LBFGS(
        [node],
        max_iter=rounds,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        solver.zero_grad()
        own = x @ node[:-1] + node[-1]
        value = ring_loss(torch.cat((known, own[:, None]), 1), labels).mean()
        value = value + penalty / 2 * node.square().sum()
        torch.autograd.backward(value)
        return value

    with torch.enable_grad():
        solver.step(loss)  # type: ignore[no-untyped-call]
    found = node.detach().to(features)
    return found[:-1], found[-1]
