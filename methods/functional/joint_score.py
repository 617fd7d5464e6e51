"""How far a label can be trusted: by the clusters of the data, and by the model (CoWA-JMDS)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: rows that are computed in double precision at a time
ROWS = 4096
#: added to the diagonal of covariances
RIDGE = 1e-6


def gaussian_log_posterior(z: Tensor, mass: Tensor, means: Tensor, weight: Tensor) -> Tensor:
    """Return log gamma of one Gaussian a class: (N, K), rows of exp summing to one.

    Covariances S_c about the given means are shrunk towards their average, (1 - s) S_c + s S with
    s = D / (D + n_c): a class of n_c images, fewer than D, has a singular one, in which the
    log-densities lie a thousand apart.

    Args:
        z: (N, D) features.
        mass: (K,) masses of the classes, up to a factor.
        means: (K, D).
        weight: (N, K) non-negative shares of the images in the covariances; n_c are their sums.

    Source: CoWA-JMDS (Lee et al., ICML 2022), authors' code; the shrinkage is ours.
    """
    means, weight = means.double(), weight.double()
    n, width = weight.sum(0).clamp_min(1e-12), z.shape[1]
    spread = means.new_zeros(len(means), width, width)
    for rows, shares in zip(torch.split(z, ROWS), torch.split(weight, ROWS), strict=True):
        for c, m in enumerate(means):
            away = rows.double() - m
            spread[c] += away.T @ (away * shares[:, c, None]) / n[c]
    pooled = torch.einsum("k,kde->de", n / n.sum(), spread)
    shrink = (width / (width + n))[:, None, None]
    spread = (1 - shrink) * spread + shrink * pooled
    spread = spread + RIDGE * torch.eye(width, dtype=means.dtype, device=z.device)
    found = []
    for m, s, share in zip(means, spread, mass.double().clamp_min(1e-12), strict=True):
        root = torch.linalg.cholesky(s)
        solved = (
            torch.linalg.solve_triangular(root, (rows.double() - m).T, upper=False)
            for rows in torch.split(z, ROWS)
        )
        away = torch.cat([x.square().sum(0) for x in solved])
        volume = 2 * root.diagonal().log().sum() + width * math.log(2 * math.pi)
        found.append(share.log() - (away + volume) / 2)
    return torch.stack(found, 1).log_softmax(1)


def data_log_posterior(z: Tensor, p: Tensor) -> Tensor:
    """Return (N, K) log gamma of a Gaussian mixture that starts from the model's answers.

    Masses and means from p, covariances from all images alike; then one round from gamma.

    Args:
        z: (N, D) features of unit length.
        p: (N, K) probabilities.

    Source: CoWA-JMDS (Lee et al., ICML 2022), authors' code.
    """
    weight, spread = p.double(), torch.full_like(p, 1 / p.shape[1]).double()
    for _ in range(2):
        mass = weight.sum(0)
        parts = zip(torch.split(z, ROWS), torch.split(weight, ROWS), strict=True)
        sums = torch.stack([shares.T @ rows.double() for rows, shares in parts]).sum(0)
        means = sums / mass.clamp_min(1e-12)[:, None]
        log_gamma = gaussian_log_posterior(z, mass, means, spread)
        weight = spread = log_gamma.exp()
    return log_gamma


def joint_score(log_gamma: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N,) labels and the scores of model and data together, in [0, 1].

    y = argmax gamma; LPG = the gap between the two largest log gamma, over the largest gap of the
    set; JMDS = LPG p_y. Where no gap is above 0 all scores are 0.

    Args:
        log_gamma: (N, K).
        p: (N, K) probabilities of the model.

    Source: CoWA-JMDS (Lee et al., ICML 2022).
    """
    top = log_gamma.topk(min(2, log_gamma.shape[1]), dim=1)
    gap = top.values[:, 0] - top.values[:, -1]
    certainty = gap / gap.max().clamp_min(torch.finfo(gap.dtype).tiny)
    label = top.indices[:, 0]
    return label, certainty.to(p) * p.gather(1, label[:, None]).squeeze(1)
