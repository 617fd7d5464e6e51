"""REM's loss: who sees less of an image shall be less sure, of the same answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional.losses import entropy, soft_cross_entropy


def ranked_entropy(answers: Sequence[Tensor], weight: float, margin: float) -> Tensor:
    """Return the mean over samples of two sums over all pairs of answers.

    sum_{i < j} CE(sg p_i -> p_j) + weight sum_{i < j} max(0, H(p_i) - sg H(p_j) + margin): who sees
    less learns the answer of who sees more, which shall not be less sure.

    Args:
        answers: (B, K) logits each; later ones saw less of the images.
        weight: of the ranking.
        margin: by which entropies shall differ, in nats.

    Returns:
        Scalar; 0 for fewer than two answers.

    Source: REM (Han et al., ICML 2025), authors' code.
    """
    total = answers[0].new_zeros(())
    for more, less in combinations(answers, 2):
        p, q = more.softmax(1), less.softmax(1)
        rise = entropy(p) - entropy(q).detach() + margin
        total = total + soft_cross_entropy(less, p.detach()).mean()
        total = total + weight * F.relu(rise).mean()
    return total
