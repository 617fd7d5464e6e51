"""Streets of ``streets`` by lot: where everything stands."""

from __future__ import annotations

import numpy as np

from dabench.datasets.streets.air import make_air
from dabench.datasets.streets.canvas import FAR, Camera
from dabench.datasets.streets.cars import make_car
from dabench.datasets.streets.fences import Fence, make_fence
from dabench.datasets.streets.ground import Ground
from dabench.datasets.streets.houses import make_house
from dabench.datasets.streets.look import Dice, Look
from dabench.datasets.streets.street import Box, Street
from dabench.datasets.streets.things import Post, make_person, make_sign, make_tree

_END = FAR + 45.0  # metres of street that are built


def make_street(look: Look, rng: np.random.Generator) -> Street:
    """Draw lots for a street with everything on it."""
    dice = Dice(rng)
    ground, sun = _make_ground(dice, look), dice.whole(0, 1) * 2 - 1
    lane_x = (look.lanes - 1 - (look.lanes > 1 and dice.chance(0.3)) + 0.5) * ground.lane
    camera = Camera(
        *(lane_x, dice.between(look.camera), 0.0, dice.between(look.focal)),
        *(dice.between(look.horizon), dice.between((-0.06, 0.06)), dice.between((-0.0016, 0.0016))),
    )
    speed = 0.0 if dice.chance(0.1) else dice.between((0.7, 2.4))
    street = Street(
        *(look, ground, make_air(dice, look), camera, speed, sun),
        *(dice.between((0.2, 0.7)), dice.between(look.contrast)),
    )
    for side in (-1, 1):
        _line(dice, street, side)
        _kerb(dice, street, side)
        _walkers(dice, street, side)
    _traffic(dice, street)
    return street


def _make_ground(dice: Dice, look: Look) -> Ground:
    lane = dice.between(look.lane)
    return Ground(
        half=lane * look.lanes + dice.between(look.kerb_room),
        lane=lane,
        path=dice.between(look.path),
        verge=dice.between((1.0, 2.6)) if dice.chance(0.55) else 0.0,
        road=dice.colour(look.road, 7),
        pavement=dice.colour(look.pavement, 7),
        terrain=dice.colour(look.terrain, 7),
        crossing=dice.between((14, 60)) if dice.chance(0.6) else None,
        side=dice.between((6, 10)),
    )


def _line(dice: Dice, s: Street, side: int) -> None:
    """Line one side of the street with houses, and with yards between them."""
    g, look, z = s.ground, s.look, -30.0
    while z < _END:
        if g.crossing is not None and g.crossing - 2.5 <= z < g.crossing + g.side + 2:
            z = g.crossing + g.side + 2
        yard = dice.chance(look.gap)
        last = _before(g, z, z + dice.between((4, 14) if yard else look.front))
        if yard:
            _yard(dice, s, side, z, last)
        elif last - z > 3:
            house = make_house(dice, look, side, g.fronts, (z, last), s.sun)
            reach = s.slant * min(house.high, 14)
            box = (side * g.fronts, side * (g.fronts - reach), z, last)
            s.add(house, last, last, box=box if side == s.sun else None)
        z = last


def _before(g: Ground, z: float, end: float) -> float:
    """Return ``end``, or the corner of the side street where that comes first."""
    corner = None if g.crossing is None else g.crossing - 2.5
    return corner if corner is not None and z < corner < end else end


def _yard(dice: Dice, s: Street, side: int, z: float, end: float) -> None:
    """Fill a gap between houses: a fence or hedge, trees behind it."""
    g = s.ground
    for _ in range(dice.whole(0, 3)):
        x = side * (g.fronts + dice.between((2.5, 8)))
        s.add(make_tree(dice, s.look, x, dice.between((z, end))), end + 0.1, end)
    if end - z > 1 and dice.chance(0.65):
        s.add(make_fence(dice, s.look, side * g.fronts, z, end), end, end)


def _kerb(dice: Dice, s: Street, side: int) -> None:
    """Put trees, lamp posts and signs along the kerb; before it parked cars, or a railing."""
    g, look = s.ground, s.look
    x, z = side * (g.half + 0.45), dice.between((-4, 6))
    trees, step = dice.between((0.1, 0.6)), dice.between((5, 8))
    turn = 0
    while z < _END:
        if not g.crosses(z - 1, z + 1):
            _stand(dice, s, x, z, turn % 4 == 0, trees)
        z, turn = z + step * dice.between((0.8, 1.2)), turn + 1
    if g.half - g.lane * look.lanes > 1.2:
        _park(dice, s, side)
    elif dice.chance(0.4):
        _rail(dice, s, side * (g.half + 0.1))


def _stand(dice: Dice, s: Street, x: float, z: float, lamp: bool, trees: float) -> None:
    """Put a lamp post, a sign, a tree or nothing at the kerb."""
    if lamp:
        arm = -np.sign(x) * dice.between((0.5, 1.8))
        s.add(Post(x, z, dice.between(s.look.lamp), arm, dice.colour(s.look.post)), z, z)
    elif dice.chance(0.3):
        s.add(make_sign(dice, s.look, x, z), z, z)
    elif dice.chance(trees):
        away = x - 3 * s.sun * s.slant
        s.add(make_tree(dice, s.look, x, z), z, z, box=(away - 1.5, away + 1.5, z - 1.2, z + 1.2))


def _park(dice: Dice, s: Street, side: int) -> None:
    """Park cars along the kerb."""
    g, z, full = s.ground, dice.between((-4, 4)), dice.between((0.05, 0.55))
    while z < _END:
        long = 6.0
        if not g.crosses(z, z + long) and dice.chance(full):
            x = side * (g.half - 1.0)
            car = make_car(dice, s.look, x, z, side > 0, -s.sun)
            s.add(car, z, z + car.long, box=_under(x, z, car.long))
            long = car.long + dice.between((0.8, 2.0))
        z += long


def _rail(dice: Dice, s: Street, x: float) -> None:
    """Put pieces of a low railing along the kerb."""
    colour, high, z = dice.colour(s.look.fences), dice.between((0.8, 1.0)), -8.0
    while z < _END:
        if not s.ground.crosses(z, z + 6) and dice.chance(0.5):
            s.add(Fence(x, z, z + 5, high, colour, hedge=False), z, z + 5)
        z += 6


def _under(x: float, z: float, long: float) -> Box:
    """Return what a car shades: a little more than the ground below it."""
    return x - 1.05, x + 1.05, z - 0.2, z + long + 0.2


def _walkers(dice: Dice, s: Street, side: int) -> None:
    """Put people on the pavement, single and in pairs, and on the zebra stripes."""
    g = s.ground
    inner = g.half + g.verge
    for _ in range(dice.whole(5, 14)):
        x, z = inner + dice.between((0.7, g.path - 0.3)), dice.between((4, 75))
        speed = dice.between((-0.4, 0.4))
        for i in range(1 + dice.chance(0.35)):
            person = make_person(dice, s.look, side * x + 0.6 * i, z)
            feet = (person.x - 0.3, person.x + 0.3, z, z + 0.4)
            s.add(person, z, z, speed=speed, box=feet)
    if g.crossing is not None and side > 0:
        for _ in range(dice.whole(0, 4)):
            x, z = dice.between((-g.half, g.half)), g.crossing - dice.between((1.6, 3.6))
            s.add(make_person(dice, s.look, x, z), z, z)


def _traffic(dice: Dice, s: Street) -> None:
    """Let cars drive: ahead in the camera's direction, and towards it."""
    g = s.ground
    for lane in range(-s.look.lanes, s.look.lanes):
        away, x = lane >= 0, (lane + 0.5) * g.lane
        z = dice.between((7, 30)) if away else dice.between((-5, 30))
        speed = s.speed * dice.between((0.85, 1.15)) if away else -dice.between((0.8, 2.6))
        while z < 110:
            car = make_car(dice, s.look, x + dice.between((-0.3, 0.3)), z, away, -s.sun)
            s.add(car, z, z + car.long, speed=speed, box=_under(car.x, z, car.long))
            z += car.long + dice.between((6, 45))
