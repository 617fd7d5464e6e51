"""Pieces of test-time adaptation: reliable samples, anchored weights, teachers.

Functions over lists of parameters work on all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def as_samples(dense: Tensor) -> Tensor:
    """Return (B, K, ...) rows as (N, K): every pixel of a dense answer is a sample."""
    return dense.movedim(1, -1).flatten(0, -2)


def reliability_weights(entropy: Tensor, limit: float) -> Tensor:
    """Return (N,) weights exp(limit - H), and 0 where H >= limit; without gradient.

    Source: EATA (Niu et al., ICML 2022), Eq. 3.
    """
    h = entropy.detach()
    return torch.where(h < limit, (limit - h).exp(), torch.zeros_like(h))


def is_novel(p: Tensor, mean: Tensor, margin: float) -> Tensor:
    """Return (N,) bool: |cos(p_i, mean)| < margin, so no repetition of what was seen.

    Args:
        p: (N, K) probabilities.
        mean: (K,) moving average of earlier ones; all zero = there were none, all are novel.
        margin: in (0, 1].

    Source: EATA (Niu et al., ICML 2022), Eq. 4.
    """
    return F.cosine_similarity(p, mean[None], dim=1).abs() < margin


def flatten_all(tensors: Iterable[Tensor]) -> Tensor:
    """Return all elements of the tensors as one vector."""
    return torch.cat([t.reshape(-1) for t in tensors])


def fisher_information(
    losses: Iterable[Tensor], parameters: Sequence[Tensor], like: Tensor
) -> Tensor:
    """Return the mean over batches of the squared gradient, elementwise: a diagonal Fisher matrix.

    Args:
        losses: scalar loss of every batch; they are consumed one by one.
        parameters: with respect to which.
        like: (P,) vector of the result's size.

    Source: EATA's code, which squares the gradient of a batch's mean loss.
    """
    total, count = torch.zeros_like(like), 0
    for loss in losses:
        gradients = torch.autograd.grad(loss, list(parameters), materialize_grads=True)
        total += flatten_all(gradients).square()
        count += 1
    return total / max(1, count)


def fisher_penalty(parameters: Iterable[Tensor], start: Tensor, fisher: Tensor) -> Tensor:
    """Return sum_i F_i (theta_i - theta0_i)^2 over the flattened parameters.

    Source: EATA (Niu et al., ICML 2022), Eq. 8; Kirkpatrick et al., 2017.
    """
    return (fisher * (flatten_all(parameters) - start).square()).sum()


@torch.no_grad()
def ascent_step(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor], radius: float
) -> list[Tensor]:
    """Move parameters by radius * g / (||g|| + 1e-12) in place, and return where they came from.

    Source: sharpness-aware minimisation (Foret et al., ICLR 2021), Eq. 2.
    """
    kept = [p.detach().clone() for p in parameters]
    norm = torch.nn.utils.get_total_norm(list(gradients))
    steps = torch._foreach_mul(list(gradients), radius / (norm + 1e-12))
    torch._foreach_add_(list(parameters), steps)
    return kept


@torch.no_grad()
def restore_values(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy values into parameters."""
    torch._foreach_copy_(list(parameters), list(values))


@torch.no_grad()
def ema_update(teacher: Sequence[Tensor], student: Sequence[Tensor], decay: float) -> None:
    """Set teacher <- decay * teacher + (1 - decay) * student, in place.

    Source: mean teacher (Tarvainen and Valpola, 2017).
    """
    torch._foreach_lerp_(list(teacher), list(student), 1 - decay)


@torch.no_grad()
def ema_state(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """Move a teacher's whole state (weights, BatchNorm statistics) towards the student's."""
    state = student.state_dict()
    for name, value in teacher.state_dict().items():
        if value.is_floating_point():
            value.lerp_(state[name], 1 - decay)
        else:
            value.copy_(state[name])


@torch.no_grad()
def stochastic_restore(
    parameters: Sequence[Tensor], source: Sequence[Tensor], share: float
) -> None:
    """Set every element back to its source value with probability ``share``, in place.

    Source: CoTTA (Wang et al., CVPR 2022), Eq. 7-8.
    """
    for parameter, value in zip(parameters, source, strict=True):
        parameter.copy_(torch.where(torch.rand_like(parameter) < share, value, parameter))
