"""What an image is not: a label from neighbours, and classes that it speaks against (PLUE)."""

from __future__ import annotations

import torch
from torch import Tensor


def complementary_classes(labels: Tensor, classes: int, count: int) -> Tensor:
    """Draw, for each image, different classes other than its label, all as likely.

    Draws from torch's default generator.

    Args:
        labels: (B,) int64 in 0..K-1.
        classes: K, at least 2.
        count: classes an image; at most K - 1 are drawn.

    Returns:
        (B, min(count, K - 1)) int64.

    Source: negative learning (Kim et al., ICCV 2019); PLUE (Litrico et al., CVPR 2023), which draws
    one.
    """
    order = torch.rand(len(labels), classes - 1, device=labels.device)
    away = order.topk(min(count, classes - 1), dim=1).indices + 1
    return (labels[:, None] + away) % classes


def negative_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the per-sample mean over k of -log(1 - p_k): small where none of them is likely.

    1 - p is at least 1e-5; where it would be less there is no gradient.

    Args:
        logits: (B, K).
        classes: (B, m) int64, what the images are said not to be.

    Source: Kim et al., ICCV 2019; clamped as in PLUE's code.
    """
    p = logits.softmax(1).gather(1, classes)
    return -(1 - p).clamp_min(1e-5).log().mean(1)


def never_alike(query: Tensor, stored: Tensor) -> Tensor:
    """Return (B, Q) bool: the two images never had the same label at the same time.

    Args:
        query: (B, T) int64 labels at T times.
        stored: (Q, T) labels at the same times.

    Source: PLUE (Litrico et al., CVPR 2023): pairs that are told apart by its contrast.
    """
    return (query[:, None] != stored[None]).all(2)
