"""How much of a feature a linear head sees, and where "unknown" begins by the rest (LEAD)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional.mixture import fit_two_component

#: of the dip about a boundary
WIDTH = 1e-4


def head_basis(weight: Tensor) -> Tensor:
    """Return (K, D) orthonormal rows that span the rows of a head's (K, D) weight, K < D.

    Source: LEAD (Qu et al., CVPR 2024): the first K left singular vectors of the transpose.
    """
    basis: Tensor = torch.linalg.svd(weight.detach().T, full_matrices=False).U.T
    return basis


def space_norms(z: Tensor, basis: Tensor) -> Tensor:
    """Return (N, 2): the norms of z within the space of a basis, and of what is left of it.

    Args:
        z: (N, D) features.
        basis: (K, D) orthonormal rows.
    """
    within = z @ basis.T
    # by parts: a large set is not held twice more
    parts = zip(torch.split(z, 8192), torch.split(within, 8192), strict=True)
    rest = torch.cat([(rows - seen @ basis).norm(dim=1) for rows, seen in parts])
    return torch.stack((within.norm(dim=1), rest), 1)


def upper_mean(values: Tensor, seed: int) -> float | None:
    """Return the larger mean of a two-component mixture, in the scale of the (N,) values.

    None where the mixture separates nothing (fewer than 4 values, or equal ones, among others).
    """
    # sorted: the starts of the fit must not follow the order of images
    statistic = np.sort(values.detach().cpu().double().numpy())
    split = fit_two_component(statistic, seed=seed)
    if split.degenerate:
        return None
    low, high = np.quantile(statistic, [0.01, 0.99])  # the scale in which it was fitted
    return float(low + (high - low) * split.means[1])


def common_score(z: Tensor, prototypes: Tensor, anchors: Tensor) -> Tensor:
    """Return (N, K) scores sqrt((1 - exp(-[cos(z, P_c)]+)) exp([cos(z, W_c)]+ - 1)), below 1.

    Args:
        z: (N, D) features of unit length.
        prototypes: (K, D) P of the target's classes, of unit length.
        anchors: (K, D) rows W of the source's head, of any length.

    Source: LEAD (Qu et al., CVPR 2024), authors' code.
    """
    target = (z @ prototypes.T).clamp_min(0)
    source = (z @ F.normalize(anchors, dim=1).T).clamp_min(0)
    return ((1 - (-target).exp()) * (source - 1).exp()).sqrt()


def instance_boundary(score: Tensor, usual: Tensor, upper: float | None) -> tuple[Tensor, Tensor]:
    """Return (N,) classes and the norms from which each image is unknown: t = n + s [upper - n]+.

    s is the score of an image's best class and n that class's usual norm outside the head's space.

    Args:
        score: (N, K) common scores.
        usual: (K,) mean norms of the classes' likeliest images.
        upper: mean norm of the unknown; None: infinite bounds, nothing is unknown.

    Source: LEAD (Qu et al., CVPR 2024), authors' code.
    """
    best, label = score.max(1)
    own = usual[label]
    if upper is None:
        return label, torch.full_like(best, torch.inf)
    return label, own + best * (upper - own).clamp_min(0)


def boundary_weight(norms: Tensor, bounds: Tensor) -> Tensor:
    """Return 1 - (1 + (u - t)^2 / w)^(-(1 + w) / 2), w = 1e-4: 0 at the boundary, 1 far from it.

    Source: LEAD (Qu et al., CVPR 2024), authors' code, which then means to set the weight to 1
    beyond the means of known and unknown, but writes to a copy.
    """
    return 1 - (1 + (norms - bounds).square() / WIDTH).pow(-(1 + WIDTH) / 2)
