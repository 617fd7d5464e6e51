"""A CCC-like walk: two kinds of weather at once, of which one fades while the other grows."""

from __future__ import annotations

import itertools

import numpy as np

from dabench.contract.stream import Segment
from dabench.contract.types import FloatArray
from dabench.errors import ConfigError
from dabench.protocols.streams.named.arrivals import Arranged, Arrivals, Options, Pool, one_domain

#: between two kinds, with their severities, that a picture shows one on top of the other
BOTH = "&"
Steps = list[tuple[int, int]]


def ccc(pool: Pool, options: Options) -> Arranged:
    """Walk from kind to kind; each walk begins with the kind in which the last one ended."""
    kinds = {s.domain: s.severity for s in pool.domains if s.severity}
    if len(kinds) < 2 or len(kinds) < len(pool.domains):
        raise ConfigError(
            f"stream '{pool.name}' walks between two different kinds at least, none of them "
            "'clear'; name them with --protocol.shifts fog:5,rain:5"
        )
    if single := [kind for kind in kinds if "+" in kind or kind.startswith("published-")]:
        raise ConfigError(
            f"stream '{pool.name}' shows two kinds on one picture, and '{single[0]}' cannot be "
            "laid over another; name single kinds of 'dabench weather list'"
        )
    rng, names = pool.rng("walk"), list(kinds)
    domains: dict[str, Segment] = {}
    found: list[Arrivals] = []
    fading = names[int(rng.integers(len(names)))]
    for walk in range(1, (options["walks"] or len(names)) + 1):
        others = [name for name in names if name != fading]
        growing = others[int(rng.integers(len(others)))]
        table = np.add.outer(np.arange(kinds[fading] + 1.0), np.arange(kinds[growing] + 1.0))
        for one, two in path(table, options["level"]):
            parts = [(fading, one), (growing, two)]
            domain = _both([(kind, level) for kind, level in parts if level])
            domains.setdefault(domain.name, domain)
            place = list(domains).index(domain.name)
            images = pool.draw(options["images"], pool.rng(domain.name, str(walk)))
            found.append(one_domain(domain, place, images, f"{domain.name}@{walk}"))
        fading = growing
    return Arranged(tuple(domains.values()), tuple(found))


def path(table: FloatArray, level: float) -> Steps:
    """Return the path from a severity of the first kind alone to one of the second alone.

    A step lowers the first severity by one or raises the second by one. From every place the
    better of the two is taken, by how near the mean of the table over the rest of the path is to
    ``level``; of all beginnings (i, 0), i > 0, the nearest. On equal terms the second kind is
    raised.

    Args:
        table: (S1 + 1, S2 + 1) what is to be kept near ``level``.
        level: in its units.

    Source: ``find_path`` of CCC's code (Press et al., NeurIPS 2023). Its table is the accuracy of a
    source model; a stream here may depend on no model, and the table is the sum of severities.
    """
    rows, columns = table.shape
    best: dict[tuple[int, int], tuple[float, Steps]] = {}
    for i, j in itertools.product(range(rows), reversed(range(columns))):
        if i == 0:
            best[i, j] = (float(table[i, j]), [(i, j)])
            continue
        ways = [best[i, j + 1]] if j + 1 < columns else []
        ways.append(best[i - 1, j])
        cost, rest = min(
            ways, key=lambda way: abs((way[0] + table[i, j]) / (len(way[1]) + 1) - level)
        )
        best[i, j] = (cost + float(table[i, j]), [(i, j), *rest])
    begins = [best[i, 0] for i in range(1, rows)]
    return min(begins, key=lambda way: abs(way[0] / len(way[1]) - level))[1]


def _both(parts: list[tuple[str, int]]) -> Segment:
    """Return the domain of one kind or two; of none it is clear."""
    if not parts:
        return Segment("clear", "clear")
    name = BOTH.join(f"{kind}-{level}" for kind, level in parts)
    if len(parts) == 1:
        return Segment(name, *parts[0])
    domain = BOTH.join(f"{kind}:{level}" for kind, level in parts)
    return Segment(name, domain, sum(level for _, level in parts))
