"""What a named stream is made of, and how one is: images, the domains that they are shown in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dabench.contract import seeding
from dabench.contract.stream import Segment
from dabench.contract.types import IntArray
from dabench.errors import ConfigError

Options = Mapping[str, Any]
#: the domain of a segment whose images are not all of one
MIXED = "mixed"


@dataclass(frozen=True)
class Pool:
    """What a stream is drawn from: a pure function of it and the options.

    Attributes:
        name: of the stream, for messages.
        labels: (N,) classes of the images that the stream may show.
        domains: the shifts in which each of them may appear, in the order of the protocol.
        seed: of the run.
    """

    name: str
    labels: IntArray
    domains: tuple[Segment, ...]
    seed: int

    def rng(self, *names: str) -> np.random.Generator:
        """Return the generator of one part of the stream."""
        return np.random.default_rng(seeding.seed(self.seed, "named stream", self.name, *names))

    @property
    def size(self) -> int:
        """N, images in one domain."""
        return len(self.labels)

    def count(self, asked: int, there: int, unit: str) -> int:
        """Return how many images are meant: 0 = all that are there.

        Raises:
            ConfigError: more than there are.
        """
        if asked > there:
            raise ConfigError(
                f"stream '{self.name}': images={asked} {unit}, and there are {there}; give "
                f"images={there} or fewer, or use more data"
            )
        return asked or there

    def draw(self, images: int, rng: np.random.Generator) -> IntArray:
        """Return so many different images at random (0 = all)."""
        return rng.permutation(self.size)[: self.count(images, self.size, "of a visit")]


@dataclass(frozen=True)
class Arrivals:
    """A segment of a stream, and what arrives in it.

    Attributes:
        segment: its name and, where all images are of one domain, its shift.
        images: (T,) places in ``Pool.labels``, in the order of arrival.
        shown: (T,) places in the stream's list of domains.
    """

    segment: Segment
    images: IntArray
    shown: IntArray


@dataclass(frozen=True)
class Arranged:
    """A stream: its domains (more than the pool's, where severities change), its segments."""

    domains: tuple[Segment, ...]
    segments: tuple[Arrivals, ...]


def one_domain(domain: Segment, place: int, images: IntArray, name: str | None = None) -> Arrivals:
    """Return a segment in one domain, under its name or another."""
    segment = Segment(name or domain.name, domain.domain, domain.severity)
    return Arrivals(segment, images, np.full(len(images), place, dtype=np.int64))


def mixed(pool: Pool, images: IntArray, shown: IntArray, name: str = MIXED) -> Arranged:
    """Return a stream of one segment whose images are of any of the pool's domains."""
    return Arranged(pool.domains, (Arrivals(Segment(name, MIXED), images, shown),))


def by_domain(pool: Pool, images: IntArray, shown: IntArray) -> Arranged:
    """Return a stream cut where the domain changes; one that comes again is in a further round."""
    starts = [0, *(np.flatnonzero(np.diff(shown)) + 1).tolist(), len(shown)]
    met: dict[int, int] = {}
    again = len(starts) - 1 > len(np.unique(shown))
    found = []
    for first, last in pairwise(starts):
        place = int(shown[first])
        met[place] = met.get(place, 0) + 1
        domain = pool.domains[place]
        name = f"{domain.name}@{met[place]}" if again else domain.name
        found.append(one_domain(domain, place, images[first:last], name))
    return Arranged(pool.domains, tuple(found))
