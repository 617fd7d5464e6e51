"""Made-up features that a head takes for a class, and others that it takes for none (RRDA)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional.divergence import normalised_entropy
from dabench.methods.functional.losses import entropy

#: fewest points behind a node of the new head
LEAST = 3
#: how far a number of a feature can move in all (1,000 steps of 1e-3 in the authors' code)
REACH = 1.0

Head = Callable[[Tensor], Tensor]


def spread_hinge(points: Tensor, floor: float) -> Tensor:
    """Return the mean over dimensions of [1 - sqrt(var + floor)]+ of (N, D) points, a scalar.

    Keeps points from falling onto one another.

    Source: RRDA (Nejjar et al., 2024), authors' code; VICReg (Bardes et al., ICLR 2022).
    """
    return (1 - (points.var(0) + floor).sqrt()).clamp_min(0).mean()


def _moved(start: Tensor, loss: Callable[[Tensor], Tensor], steps: int) -> Tensor:
    """Return points after Adam's steps, each of REACH / steps."""
    points = start.detach().clone().requires_grad_(True)
    adam = torch.optim.Adam([points], lr=REACH / steps)
    for _ in range(steps):
        adam.zero_grad()
        (points.grad,) = torch.autograd.grad(loss(points), points)
        adam.step()
    return points.detach()


def known_points(
    features: Tensor, head: Head, label: int, classes: int, *, steps: int, most: int
) -> Tensor:
    """Move features until the head calls them a class, and return those that it is sure of.

    Least mean CE(head(x), label) + :func:`spread_hinge`. Kept are points with a cross-entropy below
    a quarter of log K, ``most`` at the most; the 3 best where there are fewer.

    Args:
        features: (N, D) of the target, the starting points.
        head: (N, D) -> (N, K) logits.
        label: the class.
        classes: K.
        steps: of Adam.
        most: points kept.

    Returns:
        (M, D), M from min(3, N) to ``most``.

    Source: RRDA (Nejjar et al., 2024), authors' code.
    """
    target = torch.full((len(features),), label, device=features.device)

    def loss(points: Tensor) -> Tensor:
        return F.cross_entropy(head(points), target) + spread_hinge(points, 1e-4)

    with torch.enable_grad():
        points = _moved(features, loss, steps)
    with torch.no_grad():
        ce = F.cross_entropy(head(points), target, reduction="none")
    kept = (ce < 0.25 * math.log(classes)).nonzero().flatten()[:most]
    return points[kept if len(kept) >= LEAST else ce.argsort(stable=True)[:LEAST]]


def unknown_points(
    features: Tensor, head: Head, *, steps: int, generator: torch.Generator
) -> Tensor:
    """Move noisy features until the head is at a loss, and return those of which it is.

    Every feature stands twice, each time with noise of variance 4; largest mean entropy, less
    :func:`spread_hinge`. Kept are points whose normalised entropy is above .75; the 3 least sure
    where there are fewer.

    Args:
        features: (N, D) of the target.
        head: (N, D) -> (N, K) logits.
        steps: of Adam.
        generator: of the noise, on the CPU.

    Returns:
        (M, D), M from min(3, 2 N).

    Source: RRDA (Nejjar et al., 2024), authors' code.
    """
    twice = features.detach().repeat_interleave(2, 0)
    noise = torch.randn(twice.shape, generator=generator).to(twice)

    def loss(points: Tensor) -> Tensor:
        return spread_hinge(points, 1e-3) - entropy(head(points).softmax(1)).mean()

    with torch.enable_grad():
        points = _moved(twice + 2 * noise, loss, steps)
    with torch.no_grad():
        doubt = normalised_entropy(head(points).softmax(1))
    kept = (doubt > 0.75).nonzero().flatten()
    return points[kept if len(kept) >= LEAST else doubt.argsort(descending=True)[:LEAST]]


def groups_of(points: Tensor, count: int, seed: int) -> Tensor:
    """Return (M,) int64 groups of points by k-means, at most ``count`` and at most M.

    Source: RRDA (Nejjar et al., 2024), authors' code; three starts and a fixed seed are ours.
    """
    means = KMeans(min(count, len(points)), n_init=3, random_state=seed)
    found = means.fit_predict(points.cpu().double().numpy())
    return torch.from_numpy(found).long().to(points.device)
