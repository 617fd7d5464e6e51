"""One optimiser step with normalised gradients.

That buffer-fed methods become unstable on streams, and that normalised gradients are a remedy, is
said in the abstract of arXiv 2308.00924; the formulas are ours.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dabench.errors import ConfigError

GradNorm = Literal["none", "clip", "unit-global", "unit-per-layer"]
EPS = 1e-12


def normalise_gradients(
    gradients: list[Tensor],
    mode: GradNorm,
    max_norm: float = 1.0,
    layers: Tensor | None = None,
    norm: Tensor | None = None,
) -> None:
    """Rescale gradients in place.

    ``clip``: g <- c g / ||g|| where ||g|| > c. ``unit-global``: g <- c g / (||g|| + 1e-12), so that
    all gradients together have norm c whatever the loss's scale. ``unit-per-layer``: the same for
    the parameters of every layer by themselves.

    Args:
        gradients: of all trainable parameters.
        mode: as above; ``none`` leaves everything as it is.
        max_norm: c.
        layers: (P,) int64 number of the layer that each of the P gradients belongs to, for
            ``unit-per-layer``; None = each is a layer of its own.
        norm: () norm ||g|| of all gradients together, if it is known.
    """
    if mode == "none":
        return
    if mode == "unit-per-layer":
        squares = torch.stack(torch._foreach_norm(gradients)).square()
        index = torch.arange(len(squares)) if layers is None else layers
        sums = squares.new_zeros(int(index.max()) + 1)
        index = index.to(squares.device)
        scales = max_norm / (sums.index_add_(0, index, squares).sqrt() + EPS)
        torch._foreach_mul_(gradients, list(scales[index].unbind()))
        return
    total = torch.nn.utils.get_total_norm(gradients) if norm is None else norm
    scale = max_norm / (total + EPS)
    torch._foreach_mul_(gradients, scale.clamp(max=1.0) if mode == "clip" else scale)


def layer_numbers(net: nn.Module, parameters: list[Tensor]) -> Tensor:
    """Return for every parameter the number of the module that owns it.

    Weight and bias of a module are one layer: the gradient of a bias in front of BatchNorm is
    rounding noise, which a norm of its own would blow up to full length.
    """
    owner = {id(p): name.rpartition(".")[0] for name, p in net.named_parameters()}
    names = [owner.get(id(p), f"parameter {i}") for i, p in enumerate(parameters)]
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([number[name] for name in names])


def learnable(net: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are not frozen, by name.

    Raises:
        ConfigError: all are.
    """
    found = {name: p for name, p in net.named_parameters() if p.requires_grad}
    _check_any(found)
    return found


def _check_any(parameters: Collection[object]) -> None:
    if not parameters:
        raise ConfigError(
            "every weight that this method could change is frozen; freeze fewer stages "
            "(requires_grad), or choose a method that changes none: bn-adapt, t3a, lame"
        )


def build_optimiser(
    kind: Literal["adam", "sgd"],
    parameters: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Return SGD, or Adam with ``momentum`` as its first beta, over one group of parameters.

    Raises:
        ConfigError: there are none.
    """
    _check_any(parameters)
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
    return torch.optim.Adam(parameters, lr=lr, betas=(momentum, 0.999), weight_decay=weight_decay)


class GradientStep(nn.Module):
    """Backward pass, normalisation, optimiser step: ``update(loss)``.

    The norm runs over the parameters that the optimiser holds and that received a gradient, so
    frozen ones stay out of it. Rates of parameter groups, momentum and weight decay act
    afterwards, in the optimiser. A gradient that is zero everywhere, or not finite, is skipped.
    Every ten steps ``loss/total``, ``gradient/before``, ``gradient/after`` (norms) and
    ``gradient/skipped`` (a count) are recorded.

    Args:
        net: names the layers.
        optimiser: any torch optimiser; its state is part of ``state_dict()``.
        put: recorder of (name, step, value).
        mode: see :func:`normalise_gradients`.
        max_norm: c of the same.
    """

    def __init__(
        self,
        net: nn.Module,
        optimiser: torch.optim.Optimizer,
        put: Callable[[str, int, float], None],
        mode: GradNorm = "none",
        max_norm: float = 1.0,
    ) -> None:
        super().__init__()
        self.optimiser, self.put = optimiser, put
        self.mode: GradNorm = mode
        self.max_norm = max_norm
        self.held: list[Tensor] = [p for group in optimiser.param_groups for p in group["params"]]
        self.layers = layer_numbers(net, self.held)
        self.steps = self.skipped = 0

    def forward(self, loss: Tensor) -> bool:
        """Step on a scalar loss; return False where the step was skipped."""
        self.backward(loss)
        return self.step()

    def backward(self, loss: Tensor) -> None:
        """Replace all gradients by those of a loss."""
        if self.steps % 10 == 0:
            self.put("loss/total", self.steps, float(loss.detach()))
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)

    def step(self) -> bool:
        """Step on the gradients that are there; return False where it was skipped."""
        rows = [i for i, p in enumerate(self.held) if p.grad is not None]
        gradients = [p.grad for p in self.held if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        before = float(norm)
        usable = math.isfinite(before) and before > 0
        if usable:
            normalise_gradients(gradients, self.mode, self.max_norm, self.layers[rows], norm)
            self.optimiser.step()
        self.skipped += not usable
        self._record(before if usable else None, gradients)
        self.steps += 1
        return usable

    def _record(self, before: float | None, gradients: list[Tensor]) -> None:
        tenth = self.steps % 10 == 0
        if tenth or before is None:
            self.put("gradient/skipped", self.steps, self.skipped)
        if tenth and before is not None:
            self.put("gradient/before", self.steps, before)
            after = before
            if self.mode != "none":
                after = float(torch.nn.utils.get_total_norm(gradients))
            self.put("gradient/after", self.steps, after)

    def reset_optimiser(self) -> None:
        """Drop what the optimiser remembers (momentum)."""
        self.optimiser.state.clear()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the optimiser's state and the counts."""
        state = self.optimiser.state_dict()
        return {"optimiser": state, "steps": self.steps, "skipped": self.skipped}

    def set_extra_state(self, state: Any) -> None:
        """Take over a state; nothing is shared with it."""
        self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
        self.steps, self.skipped = int(state["steps"]), int(state["skipped"])
