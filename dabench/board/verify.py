"""Whether a user's runs are the published rows of a benchmark, and what it means if not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dabench.board.published_rows import MEAN, Published, PublishedRow
from dabench.board.tables.cards import METRICS
from dabench.errors import ConfigError
from dabench.store.records import Record

#: images a corruption of a quick look
QUICK = 1_000
#: standard errors of the sample that a quick look allows: with some thirty figures, one false alarm
#: in 500 looks
ERRORS = 4.0
#: the share of the errors of chance from which answers are called chance
_CHANCE = 0.95


@dataclass(frozen=True)
class Compared:
    """A figure beside the published one; ``published`` is None where none is at hand.

    ``allowed`` are the points by which they may differ.
    """

    name: str
    published: float | None
    ours: float
    allowed: float

    @property
    def gap(self) -> float:
        """Ours - published, in points; 0 where there is nothing to compare with."""
        return 0.0 if self.published is None else self.ours - self.published

    @property
    def fits(self) -> bool:
        """Whether the two are the same within what is allowed."""
        return abs(self.gap) <= self.allowed + 1e-9


def compare(published: Published, row: PublishedRow, record: Record) -> list[Compared]:
    """Put a run's figures beside a published row, part by part, and their mean.

    A run of fewer images than the published ones is allowed ``ERRORS`` standard errors more.

    Raises:
        ConfigError: the record lacks a part.
    """
    metric, wrong = METRICS[published.metric]
    scores = {(row["metric"], row.get("segment", "all")): row for row in record["scores"]}
    ours: dict[str, float] = {}
    images = published.images or 0
    for name in published.parts:
        score = scores.get((metric, published.segment_of(name)))
        if score is None or score["value"] is None:
            raise ConfigError(
                f"the run has no {metric} of '{published.segment_of(name)}'; segment, parts and "
                "options of the published rows do not fit each other"
            )
        ours[name] = 100 * (1 - score["value"] if wrong else score["value"])
        images = min(images, int(score["n"]))
    ours[MEAN] = math.fsum(ours.values()) / len(ours)
    found = []
    for name, value in ours.items():
        figure = row.figures.get(name)
        # of the mean this is the most that it can be: all parts show the same images
        more = sampling_error(figure or 0.0, images, published.images or 0)
        found.append(Compared(name, figure, value, row.tolerance + ERRORS * more))
    return found


def sampling_error(percent: float, images: int, whole: int) -> float:
    """Return the standard error, in points, of a share in a sample drawn without replacement."""
    if not 0 < images < whole:
        return 0.0
    p = percent / 100
    return 100 * math.sqrt(p * (1 - p) / images * (whole - images) / (whole - 1))


def meaning(published: Published, row: PublishedRow, found: Sequence[Compared]) -> str:
    """Say what it usually means that figures of a row differ."""
    told = [line for line in found if line.published is not None]
    off = [line for line in told if not line.fits]
    if row.method != published.rows[0].method:
        return (
            "the first row fits, so that files and weights are the published ones: look at the "
            "batch size, and at layers that normalise otherwise than by their batch"
        )
    parts = [line for line in off if line.name != MEAN]
    if len(off) <= len(told) / 2 and parts:
        return (
            f"the other figures fit, so that the weights are the published ones: the files of "
            f"{', '.join(line.name for line in parts)} are others (rendered anew, or another "
            f"severity): 'dabench data check {published.run.get('dataset', '')}'"
        )
    wrong = METRICS[published.metric][1]
    mean = next(line.ours for line in found if line.name == MEAN)
    if wrong and published.classes and mean >= _CHANCE * 100 * (1 - 1 / published.classes):
        return "that is chance: outputs in another order of the classes, or untrained weights"
    worse = (math.fsum(line.gap for line in off) > 0) == wrong
    return published.worse if worse else published.better
