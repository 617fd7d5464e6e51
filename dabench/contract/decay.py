"""The learning rate that decays over a run, and the optimiser that follows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def inverse_decay(progress: float, gain: float = 10.0, power: float = 0.75) -> float:
    """Return the learning-rate factor (1 + gain * progress)^-power.

    DANN's (Ganin and Lempitsky, ICML 2015), and SHOT's with 10 and .75 (Liang et al., ICML 2020).

    Args:
        progress: p, the share of the training steps that are done, in [0, 1].
        gain, power: 0 or more; a power of 0 = a constant rate.

    Returns:
        A factor in (0, 1], 1 at the beginning.
    """
    return float((1.0 + gain * progress) ** -power)


class DecayingSGD(torch.optim.SGD):
    """SGD with Nesterov momentum whose rate follows :func:`inverse_decay` step by step.

    The optimiser of SHOT's code (Liang et al., ICML 2020). Its authors set the rate of the n-th of
    T steps at p = n / T, here it is p = (n - 1) / T: the first step is made at the full rate.

    Args:
        groups: parameter groups with ``params`` and ``lr``, the rate at the beginning.
        total_steps: T, length of the run.
        factor: progress p in [0, 1) -> factor of the rates.
        momentum: momentum factor, above 0.
        weight_decay: L2 penalty.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        total_steps: int,
        factor: Callable[[float], float] = inverse_decay,
        momentum: float = 0.9,
        weight_decay: float = 1e-3,
    ) -> None:
        super().__init__(
            groups, lr=1.0, momentum=momentum, weight_decay=weight_decay, nesterov=True
        )
        self._total = max(1, total_steps)
        self._factor = factor
        self._done = 0
        self._base = [float(group["lr"]) for group in self.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return torch's, and how many steps are done."""
        return {**super().state_dict(), "done": self._done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._done = int(state_dict["done"])
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "done"})

    def step(self, closure: Any = None) -> Any:
        """Set the rate for this step, then update."""
        factor = self._factor(self._done / self._total)
        for group, base in zip(self.param_groups, self._base, strict=True):
            group["lr"] = base * factor
        self._done += 1
        return super().step(closure)
