"""What stands beside the road in ``streets``: trees, lamp posts, signs, people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dabench.datasets.streets.canvas import Array, Canvas, Colour, upright
from dabench.datasets.streets.look import Dice, Look

_SKIN: tuple[Colour, ...] = ((224, 178, 146), (172, 122, 90), (110, 76, 56), (236, 196, 166))


@dataclass(frozen=True)
class Tree:
    """A tree; ``blobs`` is (N, 5): x, y, radius across, radius up (metres), brightness."""

    x: float
    z: float
    trunk: float
    blobs: Array
    crown: Colour
    bark: Colour

    def draw(self, c: Canvas, ahead: float) -> None:
        """Draw trunk and crown, both vegetation."""
        if c.misses(self.x, self.z, 4):
            return
        bark = c.ink(self.bark, "vegetation", self.z)
        stem = upright(self.x - 0.16, self.x + 0.16, 0, self.trunk + 0.8, self.z, self.z)
        c.shapes(stem, bark)
        seen = self.blobs if c.metre(self.z) > 9 else self.blobs[:: len(self.blobs) // 5]
        places = np.full((len(seen), 3), self.z)
        places[:, 0], places[:, 1] = self.x + seen[:, 0], seen[:, 1]
        inks = [c.ink(self.crown, "vegetation", self.z, light) for light in seen[:, 4].tolist()]
        c.ellipses(places, seen[:, 2:4], inks)


def make_tree(dice: Dice, look: Look, x: float, z: float) -> Tree:
    """Draw lots for a tree."""
    slender = dice.chance(look.tall)
    trunk = dice.between((0.4, 1.0) if slender else (1.8, 3.0))
    high = dice.between((4, 7.5) if slender else (2.6, 5.0))
    wide = dice.between((0.5, 0.9)) if slender else high * dice.between((0.4, 0.55))
    count = dice.whole(14, 20)
    place = dice.rng.normal(0, 0.36, (count, 2)).clip(-0.8, 0.8)
    place = place[np.argsort(place[:, 1])]  # light comes from above: bright parts last
    if slender:
        place[:, 0] *= 0.5 * (1 - place[:, 1])
    size = dice.rng.uniform(0.28, 0.5, count)
    y = trunk + high / 2 * (1 + place[:, 1])
    tall = size * (high / 2 if slender else wide)
    light = 0.82 + 0.3 * place[:, 1] + dice.rng.normal(0, 0.09, count)
    blobs = np.stack((place[:, 0] * wide, y, size * wide, tall, light), axis=1)
    body = np.array(((0, trunk + high / 2, wide * 0.72, high * 0.42, 0.72),))
    crown = dice.colour(look.crowns, 9)
    return Tree(x, z, trunk, np.concatenate((body, blobs)), crown, look.trunk)


@dataclass(frozen=True)
class Post:
    """A lamp post with an arm over the road."""

    x: float
    z: float
    high: float
    arm: float
    colour: Colour

    def draw(self, c: Canvas, ahead: float) -> None:
        """Draw post, arm and lamp, all of class pole."""
        if c.misses(self.x, self.z, 2.5):
            return
        ink, top = c.ink(self.colour, "pole", self.z), self.high
        bar = upright(self.x - 0.09, self.x + 0.09, 0, top, self.z, self.z)
        c.shapes(bar, ink)
        ends = sorted((self.x, self.x + self.arm))
        c.shapes(upright(ends[0], ends[1], top - 0.12, top, self.z, self.z), ink)
        lamp = np.array(((0.32, 0.16),))
        c.ellipses([(self.x + self.arm, top - 0.12, self.z)], lamp, [ink])


@dataclass(frozen=True)
class Sign:
    """A traffic sign on a post.

    ``shape`` is disc, triangle, diamond or board; ``size`` half its height in metres.
    """

    x: float
    z: float
    high: float
    shape: str
    size: float
    colour: Colour
    inner: Colour
    post: Colour

    def draw(self, c: Canvas, ahead: float) -> None:
        """Draw the post (pole) and the sign before it."""
        if c.misses(self.x, self.z, 1.5):
            return
        post = upright(self.x - 0.06, self.x + 0.06, 0, self.high, self.z, self.z)
        c.shapes(post, c.ink(self.post, "pole", self.z))
        for share, colour in ((1.0, self.colour), (0.62, self.inner)):
            ink, r = c.ink(colour, "sign", self.z), self.size * share
            if self.shape == "disc":
                c.ellipses([(self.x, self.high, self.z)], np.array(((r, r),)), [ink])
            else:
                outline = _OUTLINES[self.shape] * r
                middle = np.array((self.x, self.high))
                flat = middle + outline
                c.shapes(np.column_stack((flat, np.full(len(flat), self.z))), ink)


_OUTLINES = {
    "triangle": np.array(((-1.1, -0.8), (1.1, -0.8), (0.0, 1.1))),
    "diamond": np.array(((-1.1, 0.0), (0.0, -1.1), (1.1, 0.0), (0.0, 1.1))),
    "board": np.array(((-1.9, -1.0), (1.9, -1.0), (1.9, 1.0), (-1.9, 1.0))),
}


def make_sign(dice: Dice, look: Look, x: float, z: float) -> Sign:
    """Draw lots for a sign."""
    shapes = ("diamond", "board", "triangle") if look.shutters else ("disc", "triangle", "board")
    shape = shapes[int(dice.rng.choice(3, p=(0.45, 0.25, 0.3)))]
    size = dice.between((0.42, 0.62))
    inner = (244.0, 244.0, 240.0) if dice.chance(0.7) else (40.0, 40.0, 44.0)
    high = dice.between((2.3, 3.2)) + size
    colour, post = dice.colour(look.boards, 5), dice.colour(look.post)
    return Sign(x, z, high, shape, size, colour, inner, post)


@dataclass(frozen=True)
class Person:
    """Someone on foot: height, colours, and the phase of the stride (radians)."""

    x: float
    z: float
    high: float
    wide: float
    coat: Colour
    legs: Colour
    skin: Colour
    stride: float

    def draw(self, c: Canvas, ahead: float) -> None:
        """Draw legs, body, arms and head; ``ahead`` moves the person along the street."""
        x, z, h, w = self.x, self.z + ahead, self.high, self.wide
        if c.misses(x, z, 0.6):
            return
        swing = 0.13 * h * np.sin(self.stride + 2.2 * ahead)
        legs, coat = c.ink(self.legs, "person", z), c.ink(self.coat, "person", z)
        foot, hip, half = np.array((-swing, swing)), 0.25 * w, 0.055 * h
        flat = np.empty((2, 4, 3))
        flat[:, :2, 0] = x + foot[:, None] + np.array((-half, half))
        flat[:, 2:, 0] = x + np.array(((-hip,), (hip,))) + np.array((half, -half))
        flat[..., 1], flat[..., 2] = (0, 0, 0.5 * h, 0.5 * h), z
        c.shapes(flat, legs)
        body = np.array(
            (
                *((x - 0.42 * w, 0.42 * h, z), (x + 0.42 * w, 0.42 * h, z)),
                *((x + 0.55 * w, 0.82 * h, z), (x - 0.55 * w, 0.82 * h, z)),
            )
        )
        c.shapes(body, coat)
        if c.metre(z) < 4:
            return  # a head of less than a pixel
        head = np.array(((0.07 * h, 0.085 * h),))
        c.ellipses([(x, 0.92 * h, z)], head, [c.ink(self.skin, "person", z)])


def make_person(dice: Dice, look: Look, x: float, z: float) -> Person:
    """Draw lots for a person."""
    high = dice.between((1.05, 1.4)) if dice.chance(0.12) else dice.between((1.55, 1.92))
    wide = high * dice.between((0.24, 0.32))
    coat, legs = (
        dice.colour(look.clothes),
        dice.colour(((44, 46, 58), (70, 62, 56), (96, 104, 122))),
    )
    return Person(x, z, high, wide, coat, legs, dice.colour(_SKIN, 5), dice.between((0, 6.28)))
