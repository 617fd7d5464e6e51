"""Fences, railings and hedges of ``streets``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dabench.datasets.streets.canvas import Canvas, Colour, grid, panes, upright
from dabench.datasets.streets.look import Dice, Look


@dataclass(frozen=True)
class Fence:
    """A fence or hedge along the pavement, before a yard."""

    x: float
    z0: float
    z1: float
    high: float
    colour: Colour
    hedge: bool

    def draw(self, c: Canvas, ahead: float) -> None:
        """Draw it; a fence has darker gaps between its boards, which count as fence."""
        wall = upright(self.x, self.x, 0, self.high, self.z0, self.z1)
        name = "vegetation" if self.hedge else "fence"
        c.shapes(wall, c.ink(self.colour, name, self.z0))
        boards = max(2, round((self.z1 - self.z0) / 0.5))
        if self.hedge:
            cap = panes(wall, np.array(((0.0, 1.0),)), np.array(((0.8, 1.0),)))
            c.shapes(cap, c.ink(self.colour, name, self.z0, 1.18))
        elif c.metre((self.z0 + self.z1) / 2) > 5:
            gaps = grid(boards, 1, 0.35, 0.7)
            c.shapes(panes(wall, *gaps), c.ink(self.colour, name, self.z0, 0.62))


def make_fence(dice: Dice, look: Look, x: float, z0: float, z1: float) -> Fence:
    """Draw lots for what stands before a yard."""
    hedge = dice.chance(0.25)
    colour = dice.colour(look.crowns if hedge else look.fences)
    return Fence(x, z0, z1, dice.between((1.0, 1.9)), colour, hedge)
