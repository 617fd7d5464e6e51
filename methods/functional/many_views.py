"""What MEMO makes of a single image: AugMix views, and the entropy of the mean answer to views."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional.consistency import masked_mean
from dabench.methods.functional.losses import entropy

#: AugMix's operations, in the order of their numbers
OPERATIONS = ("contrast", "equalise", "turn", "solarise", "shear-x", "shear-y", "x", "y", "bits")
#: mixed chains, and operations a chain at most
CHAINS = DEPTH = 3
#: at the lowest level: degrees, shear, share of the side, share of the brightness, grey values
TURN, SHEAR, SHIFT, BRIGHT, BITS = 3.0, 0.03, 1 / 30, 0.1, 16


def marginal_entropy(logits: Tensor) -> Tensor:
    """Return the entropy of the mean prediction of (V, K) logits, a scalar in [0, log K].

    In logarithms, so that no probability becomes 0.

    Source: MEMO (Zhang et al., NeurIPS 2022), Eq. 3; authors' code.
    """
    mean = logits.log_softmax(1).logsumexp(0) - math.log(len(logits))
    mean = mean.clamp_min(torch.finfo(mean.dtype).min)
    return -(mean.exp() * mean).sum()


def pixel_marginal_entropy(p: Tensor, shown: Tensor) -> Tensor:
    """Return the mean over pixels of the entropy of the mean prediction, in [0, log K].

    A pixel's mean is over the views that show it; pixels that none shows do not count.

    Args:
        p: (V, K, H, W) probabilities of V views of one image, brought to the image's frame.
        shown: (V, H, W) bool, the pixels that a view shows.

    Returns:
        A scalar; 0 if no view shows any pixel.

    Source: a dense form, ours, of MEMO (Zhang et al., NeurIPS 2022), Eq. 3.
    """
    count = shown.sum(0)
    mean = torch.where(shown[:, None], p, 0).sum(0) / count.clamp_min(1)
    return masked_mean(entropy(mean[None]), count[None] > 0)


def augmix_views(image: Tensor, count: int, *, flip: bool, generator: torch.Generator) -> Tensor:
    """Return V views of one image: m x + (1 - m) sum_c w_c chain_c(x), x shifted and mirrored.

    Each of three chains makes one to three operations of :data:`OPERATIONS`, drawn anew for every
    view; w is Dirichlet(1, 1, 1), m uniform. x is shifted by whole pixels, up to an eighth of the
    side either way, and black comes in from beyond the frame.

    Args:
        image: (3, S, S) in [0, 1].
        count: V.
        flip: mirror every other view, on average.
        generator: on the CPU; all randomness is from there.

    Returns:
        (V, 3, S, S) in [0, 1].

    Source: AugMix (Hendrycks et al., ICLR 2020) as in MEMO's code for CIFAR-10; strengths are
    continuous, where that code rounds them to whole degrees, pixels and grey values.
    """

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    base = _shifted(image, draw(3, count), flip)
    shares = -draw(CHAINS, count).clamp_min(1e-12).log()
    m = _column(draw(count), base)
    out = base.repeat(CHAINS, 1, 1, 1)
    depth = (draw(len(out)) * DEPTH).long()
    for step in range(DEPTH):
        number = (draw(len(out)) * len(OPERATIONS)).long()
        strength = (0.1 + 0.9 * draw(len(out))) * (1 - 2 * (draw(len(out)) < 0.5).float())
        out = operate(out, torch.where(step <= depth, number, -1), strength)
    weights = (shares / shares.sum(0)).to(base).view(CHAINS, count, 1, 1, 1)
    mixed = (weights * out.view(CHAINS, *base.shape)).sum(0)
    return torch.lerp(mixed, base, m).clamp(0, 1)  # rounding


def operate(images: Tensor, numbers: Tensor, strength: Tensor) -> Tensor:
    """Return images after one of :data:`OPERATIONS` each.

    Args:
        images: (B, 3, S, S) in [0, 1].
        numbers: (B,) int64 of the operations; -1 = none.
        strength: (B,) in [-1, 1]; the sign is a direction, where there is one.
    """
    out = images.clone()
    for names, change in CHANGES:
        wanted = torch.tensor([OPERATIONS.index(name) for name in names])
        rows = torch.isin(numbers, wanted).nonzero()[:, 0]
        if len(rows):
            out[rows] = change(images[rows], numbers[rows], strength[rows])
    return out


def _spread(images: Tensor, numbers: Tensor, strength: Tensor) -> Tensor:
    """Let every channel of an image reach from 0 to 1, where it has two values."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    spread = (images - low) / (high - low).clamp_min(torch.finfo(images.dtype).tiny)
    return torch.where(high > low, spread, images)


def _equalised(images: Tensor, numbers: Tensor, strength: Tensor) -> Tensor:
    """Use all grey values of a channel equally often, as Pillow does; few pixels stay."""
    grey = (images * 255).round().long().flatten(2)
    counts = torch.zeros(*grey.shape[:2], 256, dtype=torch.long, device=grey.device)
    counts.scatter_add_(2, grey, torch.ones_like(grey))
    last = counts.gather(2, grey.amax(2, keepdim=True))
    step = (grey.shape[2] - last) // 255
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp_min(1)).clamp(max=255)
    flat = table.gather(2, grey).view_as(images).to(images) / 255
    return torch.where(step[..., None] > 0, flat, images)


def _solarised(images: Tensor, numbers: Tensor, strength: Tensor) -> Tensor:
    """Turn what is brightest into its negative."""
    limit = 1 - BRIGHT * _column(strength.abs(), images)
    return torch.where(images < limit, images, 1 - images)


def _coarse(images: Tensor, numbers: Tensor, strength: Tensor) -> Tensor:
    """Keep four of eight bits."""
    grey = (images * 255).round()
    return (grey - grey % BITS) / 255


def _moved(images: Tensor, numbers: Tensor, strength: Tensor) -> Tensor:
    """Turn, shear or shift images; grey comes in from beyond the frame."""

    def of(name: str) -> Tensor:
        return strength * (numbers == OPERATIONS.index(name))

    angle = math.radians(TURN) * of("turn")
    rows = (
        torch.stack((angle.cos(), SHEAR * of("shear-x") - angle.sin(), 2 * SHIFT * of("x")), 1),
        torch.stack((SHEAR * of("shear-y") + angle.sin(), angle.cos(), 2 * SHIFT * of("y")), 1),
    )
    theta = torch.stack(rows, 1).to(images)  # from -1 to 1 is the whole side
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images - 0.5, grid, align_corners=False) + 0.5


#: what makes each operation; all that move pixels are one map
CHANGES: tuple[tuple[tuple[str, ...], Callable[[Tensor, Tensor, Tensor], Tensor]], ...] = (
    (("contrast",), _spread),
    (("equalise",), _equalised),
    (("solarise",), _solarised),
    (("bits",), _coarse),
    (("turn", "shear-x", "shear-y", "x", "y"), _moved),
)


def _shifted(image: Tensor, drawn: Tensor, flip: bool) -> Tensor:
    """Return (V, 3, S, S) shifted and mirrored copies by (3, V) numbers in [0, 1)."""
    side = image.shape[-1]
    most = side // 8
    padded = F.pad(image, (most, most, most, most))
    places = (drawn[:2] * (2 * most + 1)).long().T.tolist()
    copies = [padded[:, top : top + side, left : left + side] for top, left in places]
    mirrored = _column((drawn[2] < 0.5) & flip, image).bool()
    stacked = torch.stack(copies)
    return torch.where(mirrored, stacked.flip(-1), stacked)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Return (B,) values as (B, 1, 1, 1) on the device and in the precision of others."""
    return values.to(like).view(-1, 1, 1, 1)
