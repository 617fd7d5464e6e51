"""What a method's networks have done, counted outside the method."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from dabench.contract.confined import Confined
from dabench.errors import AccessError


@dataclass
class _Pass:
    """Images of a pass with gradients, and how many of its backward passes were taken back."""

    images: int
    taken: int = 0
    ran: bool = False


@dataclass
class Cost:
    """Images that went through networks, and questions to an oracle; copies share one counter.

    Whoever made it may pause it; networks that are granted carry a :class:`GrantedCost`.
    """

    forward: int = 0
    backward: int = 0
    queries: int = 0
    scoring_queries: int = 0
    paused: bool = False
    #: paused where nothing may learn
    _frozen: bool = field(default=False, repr=False)
    #: the last pass with gradients: it was charged for a backward pass
    _last: _Pass = field(default_factory=lambda: _Pass(0), repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Cost:
        return self

    @contextlib.contextmanager
    def pause(self, *, learning: bool = True) -> Iterator[None]:
        """Do not count inside (scoring for curves is not the method's cost).

        Args:
            learning: whether backward passes through what a network gives inside are let pass;
                else they raise ``AccessError``.
        """
        before = self.paused, self._frozen
        self.paused, self._frozen = True, self._frozen or not learning
        try:
            yield
        finally:
            self.paused, self._frozen = before

    def count(self, images: int, *, backward: bool) -> None:
        """Count images that pass a network, where ``backward`` with gradients switched on.

        Raises:
            AccessError: a negative number.
        """
        if images < 0:
            raise AccessError(f"{images} images cannot have passed a network")
        if not self.paused:
            self.forward += images
            if backward:
                self._last = _Pass(images)
                self.backward += images

    def follow(self, out: Tensor) -> None:
        """Notice whether a backward pass comes through what the last pass with gradients gave.

        Args:
            out: (B, …) features or logits of that pass.
        """
        if out.grad_fn is None:
            return
        # confined: hooks can be read, and lead to the counter of the run
        if self._frozen:
            out.grad_fn.register_prehook(Confined(_refuse))
        elif not self.paused:
            out.grad_fn.register_prehook(Confined(partial(self._came, self._last)))

    def _came(self, which: _Pass, slopes: object) -> None:
        """A backward pass has come: it is charged, also where that was taken back before."""
        self.backward += which.taken
        which.taken, which.ran = 0, True

    def uncount_backward(self, images: int) -> None:
        """Take back what the last pass with gradients was charged for a backward pass.

        It is charged as images pass; where samples are selected, only what comes out of the network
        says whether a backward pass follows. Nothing is taken back where one came. Passes without
        gradients may lie between.
        """
        last = self._last
        if not self.paused and not last.ran:
            taken = min(max(images, 0), last.images - last.taken)
            last.taken += taken
            self.backward -= taken


def _refuse(slopes: object) -> None:
    raise AccessError(
        "a backward pass while answers are collected, which are free of charge: calibrate, predict "
        "and also learn nothing; adapt in training_step"
    )


class GrantedCost:
    """A cost as a method reaches it: its networks count, and nothing is paused or set back.

    Args:
        cost: of the run; it cannot be reached from here.
    """

    __slots__ = ("_ask",)
    _ask: Confined[..., int]

    def __init__(self, cost: Cost) -> None:
        def ask(
            name: str, images: int = 0, backward: bool = False, out: Tensor | None = None
        ) -> int:
            if name == "count":
                cost.count(images, backward=backward)
            elif out is not None:
                cost.follow(out)
            elif name == "uncount_backward":
                cost.uncount_backward(images)
            return {
                "forward": cost.forward,
                "backward": cost.backward,
                "queries": cost.queries,
                "paused": int(cost.paused),
            }.get(name, 0)

        object.__setattr__(self, "_ask", Confined(ask))

    def __setattr__(self, name: str, value: object) -> None:
        raise AccessError(f"cost.{name}: a method reads its cost, and changes nothing of it")

    def __deepcopy__(self, memo: dict[int, Any]) -> GrantedCost:
        return self

    @property
    def forward(self) -> int:
        """Images that passed so far."""
        return self._ask("forward")

    @property
    def backward(self) -> int:
        """Images among them that a backward pass was charged for."""
        return self._ask("backward")

    @property
    def queries(self) -> int:
        """Questions to the oracle."""
        return self._ask("queries")

    @property
    def paused(self) -> bool:
        """Whether the protocol is scoring."""
        return bool(self._ask("paused"))

    def count(self, images: int, *, backward: bool) -> None:
        """As in :class:`Cost`."""
        self._ask("count", images, backward)

    def follow(self, out: Tensor) -> None:
        """As in :class:`Cost`."""
        self._ask("follow", out=out)

    def uncount_backward(self, images: int) -> None:
        """As in :class:`Cost`: nothing where a backward pass came, or comes later."""
        self._ask("uncount_backward", images)


#: what a network carries
Counter = Cost | GrantedCost
