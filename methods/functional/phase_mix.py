"""RAIN's regularisers: images with mixed phases, narrower networks, and how gradients agree."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def phase_mix(images: Tensor, order: Tensor, share: float) -> Tensor:
    """Return images whose Fourier phases are mixed with a partner's; amplitudes stay.

    The phase is that of (1 - s) e^(i phi) + s e^(i phi_partner), so that the spectrum stays that
    of real images (the mean of two angles would jump where they cross 180 degrees). Cut to [0, 1].

    Args:
        images: (B, C, H, W) in [0, 1].
        order: (B,) int64 partners.
        share: s of the partner, in [0, 1].

    Source: Peng et al., "RAIN", IJCAI 2023, phase mixup; phasors in place of angles are ours. (The
    authors' file transforms along channels and rows, and takes the partner's phase entirely.)
    """
    spectrum = torch.fft.rfft2(images)
    phasor = torch.polar(torch.ones_like(spectrum.abs()), spectrum.angle())
    mixed = ((1 - share) * phasor + share * phasor[order]).angle()
    found: Tensor = torch.fft.irfft2(torch.polar(spectrum.abs(), mixed), s=images.shape[-2:])
    return found.clamp(0, 1)


@contextlib.contextmanager
def narrowed(net: nn.Module, width: float) -> Iterator[None]:
    """Silence the last 1 - ``width`` of the channels of every convolution inside, but one at least.

    (A layer of a network by width ``width`` of the whole, for networks of any make.)

    Args:
        net: a network without convolutions stays whole.
        width: in (0, 1].
    """

    def silence(layer: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        kept = max(1, round(width * out.shape[1]))
        channels = torch.arange(out.shape[1], device=out.device)
        return out * (channels < kept).to(out)[:, None, None]

    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    hooks = [layer.register_forward_hook(silence) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def gradient_disagreement(
    whole: tuple[Tensor, Tensor], part: tuple[Tensor, Tensor], labels: Tensor, weight: Tensor
) -> Tensor:
    """Return 1 - cosine of the gradients that two networks' losses have by one linear classifier.

    For a cross-entropy with soft labels t and features z the gradient by the weights is
    sum_i w_i (p_i - t_i) z_i^T / sum_i w_i: no second derivative is needed.

    Args:
        whole: (B, D) features and (B, K) probabilities of the one network.
        part: of the other.
        labels: (B, K) t.
        weight: (B,) w, positive.

    Returns:
        A scalar in [0, 2]; 1 where a gradient is 0.

    Source: RAIN, whose file takes the cosine of autograd's gradients.
    """
    share = weight / weight.sum()
    one, two = (((p - labels) * share[:, None]).T @ z for z, p in (whole, part))
    cosine: Tensor = nn.functional.cosine_similarity(one.flatten(), two.flatten(), dim=0)
    return 1 - cosine
