"""``aerial``: ConDA with normalised gradients, under the name of the paper that proposes it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dabench.methods.functional.bounds import BelowOne, NonNegative, Positive
from dabench.methods.functional.gradient_step import GradNorm
from dabench.methods.functional.replay import Policy
from dabench.methods.online.conda import ConDA, Mixing


class Aerial(ConDA):
    """Continual adaptation on aerial images (arXiv 2308.00924), **a reconstruction**: an alias.

    ``conda`` with ``grad_norm=unit-global`` at a rate of its own, and nothing else: gradient
    normalisation is what the abstract proposes against the instability of buffer-fed methods; its
    formula, and that one of the paper's methods is ConDA, are inferred. As an alias of a row it is
    counted once in ranks.
    Options that are not here are those of ``conda``, at their defaults.

    Args:
        lr: learning rate of the bottleneck; with gradients of norm 1 it alone sets a step's length.
        backbone_factor: learning-rate factor of the backbone.
        momentum: of SGD (Nesterov).
        weight_decay: L2 penalty, added after normalisation.
        mixing: as in ``conda``.
        per_class: size of the buffer, in images of each class.
        policy: which images stay in the buffer.
        replay: stored images that join a batch; leave out for all of them.
        grad_norm: normalisation of the gradient before the optimiser.
        max_norm: norm c of ``grad_norm``.
    """

    def __init__(
        self,
        *,
        lr: Positive = 0.1,
        backbone_factor: NonNegative = 0.1,
        momentum: BelowOne = 0.9,
        weight_decay: NonNegative = 1e-3,
        mixing: Mixing = "mixup",
        per_class: Annotated[int, Field(ge=1)] = 10,
        policy: Policy = "confident",
        replay: Annotated[int, Field(ge=0)] | None = None,
        grad_norm: GradNorm = "unit-global",
        max_norm: Positive = 1.0,
    ) -> None:
        super().__init__(
            lr=lr,
            backbone_factor=backbone_factor,
            momentum=momentum,
            weight_decay=weight_decay,
            mixing=mixing,
            per_class=per_class,
            policy=policy,
            replay=replay,
            grad_norm=grad_norm,
            max_norm=max_norm,
        )
