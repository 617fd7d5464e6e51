"""Orders of the images of one domain: pure functions of labels and a generator (no torch).

Every function takes (N,) labels and returns positions among them, in the order of arrival.
"""

from __future__ import annotations

import numpy as np

from dabench.contract.types import FloatArray, IntArray
from dabench.errors import ConfigError

#: images that a chunk of the Dirichlet form has at least
FEWEST_IN_CHUNK = 10
#: draws after which an order that keeps breaking its rule is given up
TRIES = 1000


def dirichlet_chunks(
    labels: IntArray, chunks: int, concentration: float, rng: np.random.Generator
) -> IntArray:
    """Put images into chunks of few classes each.

    Class by class, its shuffled images are cut at floor(cumulated share · n); shares are drawn from
    Dirichlet(concentration), those of chunks that hold N / chunks images already are 0. All is
    drawn again until every chunk has ``FEWEST_IN_CHUNK`` images. In a chunk whole classes follow
    each other in random order. ``concentration`` 0 sorts by class; infinity is a random order.

    Raises:
        ConfigError: too few images for so many chunks, or no draw of ``TRIES`` fits.

    Source: ``sort_by_dirichlet`` of Döbler et al.'s test-time-adaptation, after NOTE (Gong et al.,
    NeurIPS 2022). There a draw that leaves every open chunk a share of 0 divides by 0; here it is
    drawn again. They try for two minutes, not so many times.
    """
    if concentration == np.inf:
        return rng.permutation(len(labels))
    if concentration == 0:
        shuffled = rng.permutation(len(labels))
        return shuffled[np.argsort(labels[shuffled], kind="stable")]
    if len(labels) < FEWEST_IN_CHUNK * chunks:
        raise ConfigError(
            f"correlated order: {len(labels)} images make no {chunks} chunks of {FEWEST_IN_CHUNK}; "
            "too few images a class: use more images, or, where the stream has the option, "
            f"slots={max(1, len(labels) // FEWEST_IN_CHUNK)} or fewer"
        )
    for _ in range(TRIES):
        found = _chunks(labels, chunks, concentration, rng)
        if found is not None:
            return np.concatenate([part for chunk in found for part in shuffled_list(chunk, rng)])
    raise ConfigError(
        f"correlated order: no draw of {TRIES} with concentration={concentration:g} gives every "
        f"one of {chunks} chunks {FEWEST_IN_CHUNK} images; give a larger concentration or fewer "
        "slots"
    )


def _chunks(
    labels: IntArray, chunks: int, concentration: float, rng: np.random.Generator
) -> list[list[IntArray]] | None:
    """Return by chunk the images of each class; None where a chunk has too few."""
    found: list[list[IntArray]] = [[] for _ in range(chunks)]
    sizes = np.zeros(chunks, dtype=np.int64)
    for c in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == c))
        shares = rng.dirichlet(np.full(chunks, concentration))
        shares = shares * (sizes < len(labels) / chunks)
        if not shares.sum() > 0:
            return None
        parts = cut(own, shares / shares.sum())
        for chunk, part in zip(found, parts, strict=True):
            chunk.append(part)
        sizes += [len(part) for part in parts]
    return found if sizes.min() >= FEWEST_IN_CHUNK else None


def slot_order(
    labels: IntArray, slots: int, concentration: float, rng: np.random.Generator
) -> IntArray:
    """Spread every class over slots in Dirichlet shares; in a slot whole classes in random order.

    As :func:`dirichlet_chunks`, but nothing limits a slot: it may be empty, or hold most images.

    Source: ``LabelDirichletDomainSequence`` of RoTTA's code (Yuan et al., CVPR 2023), which cuts a
    class's images in the order of the data; here they are shuffled first.
    """
    found: list[list[IntArray]] = [[] for _ in range(slots)]
    for c in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == c))
        shares = rng.dirichlet(np.full(slots, concentration))
        for slot, part in zip(found, cut(own, shares), strict=True):
            slot.append(part)
    return np.concatenate([part for slot in found for part in shuffled_list(slot, rng)])


def cut(values: IntArray, shares: FloatArray) -> list[IntArray]:
    """Cut values at floor(cumulated share · n)."""
    return np.split(values, (np.cumsum(shares)[:-1] * len(values)).astype(np.int64))


def shuffled_list(parts: list[IntArray], rng: np.random.Generator) -> list[IntArray]:
    """Return the parts in random order."""
    return [parts[i] for i in rng.permutation(len(parts))]


def label_shift(labels: IntArray, images: int, ratio: float, rng: np.random.Generator) -> IntArray:
    """Draw a stream in which one class after the other dominates.

    There are K stretches of floor(images / K) arrivals. In a stretch its own class has the
    probability ratio / (ratio + K - 1), every other one 1 / (ratio + K - 1); the stretches' classes
    are in random order. Images of a class are drawn **with replacement**.

    Source: ``generate_shifted_sample_indices.py`` of SAR's code (Niu et al., ICLR 2023), after Wu
    et al., NeurIPS 2021.
    """
    classes = np.unique(labels)
    k = len(classes)
    chance = np.full((k, k), 1 / (ratio + k - 1))
    np.fill_diagonal(chance, ratio / (ratio + k - 1))
    drawn = [rng.choice(k, size=images // k, p=chance[c]) for c in rng.permutation(k)]
    return _images_of(labels, classes[np.concatenate(drawn)], rng)


def zipf_draw(labels: IntArray, exponent: float, rng: np.random.Generator) -> IntArray:
    """Draw images class by class in shares of Zipf draws, in random order.

    A class's share is its draw of Zipf(exponent) over the sum of all draws; it gets
    floor(share · N) images, **with replacement**. All shares are drawn again until the largest
    tenth of the classes (one at least) has less than .9 of N.

    Raises:
        ConfigError: no draw of ``TRIES`` fits.

    Source: ``zipf_imbalance`` of LAME's code (Boudiaf et al., CVPR 2022). The paper says that a
    tenth of the classes has 90 %; the code accepts the draws in which it has less. With fewer than
    ten classes its tenth is empty and the code never ends: hence one at least.
    """
    classes = np.unique(labels)
    top = max(1, len(classes) // 10)
    for _ in range(TRIES):
        shares = rng.zipf(exponent, len(classes)).astype(np.float64)
        counts = (len(labels) * (shares / shares.sum())).astype(np.int64)
        if np.sort(counts)[-top:].sum() < int(0.9 * len(labels)):
            return rng.permutation(_images_of(labels, np.repeat(classes, counts), rng))
    raise ConfigError(
        f"LAME's imbalance: in {TRIES} draws of Zipf({exponent:g}) a tenth of the {len(classes)} "
        "classes has nine tenths of the images; give a larger zipf (one class always has all)"
    )


def _images_of(labels: IntArray, wanted: IntArray, rng: np.random.Generator) -> IntArray:
    """Return a position of every wanted class, drawn with replacement."""
    found = np.empty(len(wanted), dtype=np.int64)
    for c in np.unique(wanted):
        here = wanted == c
        found[here] = rng.choice(np.flatnonzero(labels == c), size=int(here.sum()))
    return found
