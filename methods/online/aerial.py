"""``aerial``: ConDA with normalised gradients, under the name of the paper that proposes it."""

from __future__ import annotations

from typing import ClassVar

from dabench.methods.functional.bounds import Positive
from dabench.methods.functional.gradient_step import GradNorm
from dabench.methods.online.conda import ConDA


class Aerial(ConDA):
    """Continual adaptation on aerial images (arXiv 2308.00924), **a reconstruction**: an alias.

    ``conda`` with ``grad_norm=unit-global`` at a rate of its own, and nothing else: gradient
    normalisation is what the abstract proposes against the instability of buffer-fed methods; its
    formula, and that one of the paper's methods is ConDA, are inferred. As an alias of a row it is
    counted once in ranks.
    Options that are not here are those of ``conda``, at their defaults.

    Args:
        lr: learning rate of the bottleneck; with gradients of norm 1 it alone sets a step's length.
        weight_decay: L2 penalty, added after normalisation.
    """

    fixed_options: ClassVar[frozenset[str]] = frozenset(
        {"alpha", "mix_weight", "entropy_weight", "diversity_weight", "rho"}
    )

    lr: Positive = 0.1
    grad_norm: GradNorm = "unit-global"
