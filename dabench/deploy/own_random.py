"""Random numbers of a model that lives in somebody else's program."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor


class CardGenerator(NamedTuple):
    """The generator of a card: ``get`` and ``set`` its state, ``seed`` it."""

    get: Callable[[], Tensor]
    set: Callable[[Tensor], Any]
    seed: Callable[[int], Any]


def card_generator(device: torch.device) -> CardGenerator | None:
    """Return the generator that a card draws from; None where there is none of its own."""
    if device.type == "mps":
        return CardGenerator(
            torch.mps.get_rng_state, torch.mps.set_rng_state, torch.mps.manual_seed
        )
    if device.type != "cuda" or not torch.cuda.default_generators:
        return None
    number = torch.cuda.current_device() if device.index is None else device.index
    found = torch.cuda.default_generators[number]
    return CardGenerator(found.get_state, found.set_state, found.manual_seed)


class OwnRandom:
    """Generators of one model: it draws on as if it were alone, and so does everybody else.

    Args:
        seed: that a card's generator begins with, once the model draws on one.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._processor = self._card = torch.empty(0, dtype=torch.uint8)

    def begin(self) -> None:
        """Begin where torch's generator stands now."""
        self._processor = torch.random.get_rng_state()

    @contextlib.contextmanager
    def drawing(self, device: torch.device) -> Iterator[None]:
        """Draw from these generators inside, and put the program's own back."""
        card = card_generator(device)
        outside = None if card is None else card.get()
        with torch.random.fork_rng(devices=[]):
            torch.random.set_rng_state(self._processor)
            if card is not None and len(self._card):
                card.set(self._card)
            elif card is not None:
                card.seed(self._seed)
            try:
                yield
                self._processor = torch.random.get_rng_state()
                if card is not None:
                    self._card = card.get()
            finally:
                if card is not None and outside is not None:
                    card.set(outside)

    def state(self) -> dict[str, Tensor]:
        """Return what later draws depend on."""
        card = {"card": self._card} if len(self._card) else {}
        return {"random": self._processor} | card

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._processor = state["random"].cpu()
        self._card = state.get("card", self._card).cpu()
