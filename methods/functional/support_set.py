"""Features kept by class, the surest first, and the classifier that their means are (T3A)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dabench.methods.functional.losses import entropy
from dabench.methods.functional.replay import largest_per_class


def prototypes(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the (K, D) mean directions of unit-length features by class; 0 for an empty class.

    Args:
        features: (N, D).
        labels: (N,) int64.
        num_classes: K.

    Source: T3A (Iwasawa and Matsuo, NeurIPS 2021), authors' code.
    """
    onehot = F.one_hot(labels, num_classes).to(features.dtype)
    return F.normalize(onehot.T @ F.normalize(features, dim=1), dim=1)


class SupportSet(nn.Module):
    """The supports S, each with the class and the entropy that the classifier gave it.

    The first are the classifier's own rows, answered by the classifier itself, so that one may
    count for another class, and be driven out.

    Args:
        head: linear layer, (N, D) -> (N, K).
        per_class: supports that a class keeps; 0 = all.
    """

    rows: Tensor
    labels: Tensor
    entropies: Tensor

    def __init__(self, head: Any, per_class: int) -> None:
        super().__init__()
        self.num_classes, self.per_class = int(head.weight.shape[0]), per_class
        weight = head.weight.detach().clone()
        self.register_buffer("rows", weight[:0])
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64, device=weight.device))
        self.register_buffer("entropies", weight[:0, 0])
        with torch.no_grad():
            self.add(weight, head(weight))

    def add(self, features: Tensor, logits: Tensor) -> None:
        """Take in (N, D) features with their (N, K) logits; what is less sure may fall out."""
        p = logits.detach().softmax(1)
        rows = torch.cat((self.rows, features.detach()))
        labels = torch.cat((self.labels, p.argmax(1)))
        entropies = torch.cat((self.entropies, entropy(p)))
        most = self.per_class or len(labels)
        keep = largest_per_class(labels, -entropies, most)
        self.rows, self.labels, self.entropies = rows[keep], labels[keep], entropies[keep]

    def answer(self, features: Tensor) -> Tensor:
        """Return (N, K) logits: the features times the classes' mean directions, no bias."""
        return features @ prototypes(self.rows, self.labels, self.num_classes).T

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # a checkpoint may hold more or fewer supports than there are now
        for name in ("rows", "labels", "entropies"):
            if prefix + name in state_dict:
                shape = state_dict[prefix + name].shape
                setattr(self, name, getattr(self, name).new_empty(shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
