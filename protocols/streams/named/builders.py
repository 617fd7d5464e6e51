"""The named streams: from images and domains to an order of arrival (docs/streams.md)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dabench.contract.stream import Segment
from dabench.contract.types import IntArray
from dabench.errors import ConfigError
from dabench.protocols.streams.named import markov
from dabench.protocols.streams.named.arrivals import (
    Arranged,
    Options,
    Pool,
    by_domain,
    mixed,
    one_domain,
)
from dabench.protocols.streams.named.orders import (
    dirichlet_chunks,
    label_shift,
    slot_order,
    zipf_draw,
)

Builder = Callable[[Pool, Options], Arranged]
#: arrivals that LAME's streams have at most
LAME_MOST = 50_000
#: slots of RoTTA's streams: one a class, and no more than these
MOST_SLOTS = 100


def correlated(pool: Pool, options: Options) -> Arranged:
    """Every domain once, in chunks of few classes."""
    found = [
        one_domain(s, n, _chunked(pool.labels, options, pool.rng(s.name)))
        for n, s in enumerate(pool.domains)
    ]
    return Arranged(pool.domains, tuple(found))


def single(pool: Pool, options: Options) -> Arranged:
    """Every domain once, shuffled; images come one at a time."""
    return correlated(pool, {"concentration": np.inf})


def mixed_domains(pool: Pool, options: Options) -> Arranged:
    """All domains together, shuffled or in chunks of few classes."""
    rng, d = pool.rng("order"), len(pool.domains)
    per_domain = [pool.draw(options["images"], pool.rng(s.name)) for s in pool.domains]
    images, shown = np.concatenate(per_domain), np.repeat(np.arange(d), len(per_domain[0]))
    order = _chunked(pool.labels[images], options, rng)
    return mixed(pool, images[order], shown[order])


def gradual(pool: Pool, options: Options) -> Arranged:
    """Every domain from its mildest severity to the named one and back, or as in CoTTA's code."""
    kinds = [top.domain for top in pool.domains]
    if len(set(kinds)) < len(kinds):
        raise ConfigError(
            f"stream '{pool.name}' climbs through all severities of a kind up to the one given; "
            "name every kind of --protocol.shifts once"
        )
    domains: list[Segment] = []
    found = []
    for number, top in enumerate(pool.domains):
        _check_severity(pool, top)
        up = list(range(1, top.severity + 1))
        ways = [("up", up), ("down", up[-2::-1])]
        if options["form"] == "cotta" and number == 0:
            ways = [("down", up[::-1])]
        base = len(domains)
        domains += [Segment(f"{top.domain}-{level}", top.domain, level) for level in up]
        for way, levels in ways:
            for level in levels:
                place = base + level - 1
                rng = pool.rng(domains[place].name, way)
                images = pool.draw(options["images"], rng)
                images = images[_chunked(pool.labels[images], options, rng)]
                name = f"{domains[place].name}-{way}"
                found.append(one_domain(domains[place], place, images, name))
    return Arranged(tuple(domains), tuple(found))


def ptta(pool: Pool, options: Options) -> Arranged:
    """Every domain once, each in RoTTA's slots."""
    return recurring(pool, {**options, "visits": 1, "images": 0})


def recurring(pool: Pool, options: Options) -> Arranged:
    """The stream of ``ptta`` again and again, every visit drawn anew."""
    slots = options["slots"] or min(len(np.unique(pool.labels)), MOST_SLOTS)
    visits = options["visits"]
    found = []
    for visit in range(1, visits + 1):
        for place, domain in enumerate(pool.domains):
            rng = pool.rng(domain.name, str(visit))
            images = pool.draw(options["images"], rng)
            order = slot_order(pool.labels[images], slots, options["concentration"], rng)
            name = f"{domain.name}@{visit}" if visits > 1 else None
            found.append(one_domain(domain, place, images[order], name))
    return Arranged(pool.domains, tuple(found))


def wild(pool: Pool, options: Options) -> Arranged:
    """One image at a time, each in a domain of its own, while class after class dominates."""
    count = _at_least_classes(pool, options["images"] or pool.size * len(pool.domains))
    rng = pool.rng("order")
    images = label_shift(pool.labels, count, options["ratio"], rng)
    return mixed(pool, images, rng.integers(len(pool.domains), size=len(images)))


def shifting_labels(pool: Pool, options: Options) -> Arranged:
    """Every domain once, and in each class after class dominates."""
    count = _at_least_classes(pool, options["images"] or pool.size)
    found = [
        one_domain(s, n, label_shift(pool.labels, count, options["ratio"], pool.rng(s.name)))
        for n, s in enumerate(pool.domains)
    ]
    return Arranged(pool.domains, tuple(found))


def lame(*, grouped: bool, zipf: bool) -> Builder:
    """Return the maker of one of LAME's four streams.

    Args:
        grouped: non-i.i.d.: domain after domain or, with a single domain, class after class.
        zipf: classes are imbalanced.
    """

    def build(pool: Pool, options: Options) -> Arranged:
        rng, d = pool.rng("order"), len(pool.domains)
        labels = np.tile(pool.labels, d)
        order = zipf_draw(labels, options["zipf"], rng) if zipf else rng.permutation(len(labels))
        images, shown = order % pool.size, order // pool.size
        if grouped:
            key = shown if d > 1 else pool.labels[images]
            _, first = np.unique(key, return_index=True)  # groups by their first image
            rank = np.full(int(key.max()) + 1, len(key))
            rank[key[first]] = first
            place = np.argsort(rank[key], kind="stable")
            images, shown = images[place], shown[place]
        # the floored shares of a Zipf draw are a few images fewer, how many by the seed
        most = min(pool.count(options["images"], len(labels), "in all"), len(images), LAME_MOST)
        images, shown = images[:most], shown[:most]
        return by_domain(pool, images, shown) if grouped and d > 1 else mixed(pool, images, shown)

    return build


def unitta(setting: str) -> Builder:
    """Return the maker of one of UniTTA's 24 streams (letters as ``markov.factors`` takes them)."""

    def build(pool: Pool, options: Options) -> Arranged:
        classes, counts = np.unique(pool.labels, return_counts=True)
        samples = options["samples"] or int(counts.min())
        if len(pool.domains) < 2 or len(classes) < 2:
            raise ConfigError(
                f"stream '{pool.name}' moves among two domains and two classes at least; name "
                "more shifts (--protocol.shifts fog:5,rain:5)"
            )
        sides = markov.factors(setting, len(pool.domains), len(classes))
        shown, visited = markov.chain(*sides, samples, pool.rng("chain"))
        images = np.empty(len(shown), dtype=np.int64)
        for d, c in np.unique(np.stack([shown, visited]), axis=1).T.tolist():
            here = np.flatnonzero((shown == d) & (visited == c))
            own = np.flatnonzero(pool.labels == classes[c])
            own = pool.rng(pool.domains[d].name, str(c)).permutation(own)
            images[here] = np.resize(own, len(here))  # in a circle
        one_by_one = setting[2] == "1"
        return by_domain(pool, images, shown) if one_by_one else mixed(pool, images, shown)

    return build


# -- what several of them share -------------------------------------------------------------------


def _chunked(labels: IntArray, options: Options, rng: np.random.Generator) -> IntArray:
    """Return the order in chunks, of which there are as many as classes unless ``slots`` says."""
    chunks = options.get("slots") or len(np.unique(labels))
    return dirichlet_chunks(labels, chunks, options["concentration"], rng)


def _at_least_classes(pool: Pool, count: int) -> int:
    classes = len(np.unique(pool.labels))
    if count < classes:
        raise ConfigError(
            f"stream '{pool.name}': images={count} leave no image for each of {classes} stretches, "
            f"one a class; give images={classes} or more"
        )
    return count


def _check_severity(pool: Pool, domain: Segment) -> None:
    if domain.severity == 0:
        raise ConfigError(
            f"stream '{pool.name}': 'clear' has no severities; take it out of --protocol.shifts"
        )
