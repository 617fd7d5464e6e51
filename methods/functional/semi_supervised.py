"""Learning from a part of the images as if it were labelled, and from how images were turned."""

from __future__ import annotations

import torch
from torch import Tensor

from dabench.methods.functional.losses import entropy


def surest_of_each_class(p: Tensor) -> Tensor:
    """Return (N,) bool: of every predicted class, the same share of its images, the surest ones.

    The share is that of all images whose entropy is below the mean; a class's number is rounded
    down. Where all entropies are equal, nobody is chosen.

    Args:
        p: (N, K) probabilities.

    Source: SHOT++ (Liang et al., TPAMI 2021), authors' code.
    """
    doubt, label = entropy(p), p.argmax(1)
    share = float((doubt < doubt.mean()).double().mean())
    chosen = torch.zeros(len(p), dtype=torch.bool, device=p.device)
    for c in range(p.shape[1]):
        members = (label == c).nonzero().squeeze(1)
        order = doubt[members].argsort(stable=True)
        chosen[members[order[: int(share * len(members))]]] = True
    return chosen


def squared_difference(p: Tensor, target: Tensor) -> Tensor:
    """Return (N,) means over the classes of (p - t)^2.

    Source: MixMatch (Berthelot et al., 2019), Eq. 4.
    """
    return (p - target).square().mean(1)


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Return (B, C, S, S) images turned by 0 to 3 quarters, each by its own number.

    Args:
        images: square ones.
        turns: (B,) int64 in 0..3.

    Source: Gidaris et al., "Unsupervised representation learning by predicting image rotations",
    2018.
    """
    out = images.clone()
    for quarter in range(1, 4):
        rows = turns == quarter
        out[rows] = torch.rot90(images[rows], quarter, (2, 3))
    return out
