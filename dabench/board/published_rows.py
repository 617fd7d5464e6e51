"""Published rows of a benchmark: YAML files that name their source (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from dabench import registry
from dabench.board.tables.cards import METRICS
from dabench.config.yaml_file import read_mapping
from dabench.errors import ConfigError, did_you_mean, one_line

#: the figure that is the mean of the parts
MEAN = "mean"
_TEXTS = ("benchmark", "model", "metric", "segment", "worse", "better")
_NEEDED = (*_TEXTS, "run", "rows")
_OTHER = ("images", "classes")
_OF_ROW = ("source", "tolerance", "figures")


@dataclass(frozen=True)
class PublishedRow:
    """A method's published figures.

    Attributes:
        method: its name in dabench.
        source: who published them, and where.
        tolerance: points by which a figure of the same files and weights may differ.
        figures: name of a part (a corruption), or ``mean`` -> percent.
    """

    method: str
    source: str
    tolerance: float
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Published:
    """A benchmark's published rows.

    Attributes:
        benchmark: as the field calls it.
        model: whose rows they are.
        metric: one of ``cards.METRICS``.
        segment: a score's segment, with ``{}`` for the part.
        worse: what it usually means that the first row is worse.
        better: what it usually means that it is better.
        run: options of ``dabench run``, without ``method``.
        rows: in the order in which they are run; the first one tells files and weights.
        images: of a part, behind each figure; None = not told.
        classes: K, to tell chance; None = not told.
    """

    benchmark: str
    model: str
    metric: str
    segment: str
    worse: str
    better: str
    run: Mapping[str, str]
    rows: tuple[PublishedRow, ...]
    images: int | None = None
    classes: int | None = None

    @property
    def parts(self) -> list[str]:
        """Names of the parts, in the order of the first row that has them."""
        names = {name: None for row in self.rows for name in row.figures}
        return [name for name in names if name != MEAN]

    def segment_of(self, part: str) -> str:
        """Return the segment of the scores of a part."""
        return self.segment.replace("{}", part)


def known_benchmarks() -> list[str]:
    """Return the names of the benchmarks whose rows come with dabench."""
    names = (path.name for path in (files("dabench.board") / "published").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def read_published(name: str) -> Published:
    """Read the rows of a benchmark.

    Args:
        name: of one that comes with dabench, or the path of a YAML file like theirs.

    Raises:
        ConfigError: no rows of that name, or a file that is not sound.
    """
    if name.endswith((".yaml", ".yml")):
        return _read(Path(name))
    if name not in (known := known_benchmarks()):
        more = ""
        if name in registry.DATASETS:
            more = (
                "; figures of this set hang on a training of one's own ('dabench cards' has some); "
                f"'dabench data check {name}' tells whether its files are whole"
            )
            known = []
        near = did_you_mean(name, known) if known else ""
        near = near if "did you mean" in near else ""
        raise ConfigError(
            f"no published rows of '{one_line(name, 60)}' with files of weights to compare with"
            f"{near}{more}; there are: {', '.join(known_benchmarks())}"
        )
    with as_file(files("dabench.board") / "published" / f"{name}.yaml") as path:
        return _read(path)


def _read(path: Path) -> Published:
    found = read_mapping(path, "published rows", "metric: error") or {}
    try:
        _check_names("", found, _NEEDED, _OTHER)
        if found["metric"] not in METRICS:
            raise ValueError(f"metric '{found['metric']}'{did_you_mean(found['metric'], METRICS)}")
        rows = tuple(_row(name, row) for name, row in _block("rows", found["rows"]).items())
        images, classes = (int(found[name]) if found.get(name) else None for name in _OTHER)
        benchmark, model, metric, segment, worse, better = (str(found[name]) for name in _TEXTS)
        texts = (benchmark, model, metric, segment, worse, better)
        made = Published(*texts, dict(_block("run", found["run"])), rows, images, classes)
        if "{}" not in made.segment or not made.parts:
            raise ValueError("segment has no {}, or no row has a figure of a part")
    except ValueError as error:
        raise ConfigError(f"published rows {path}: {one_line(error, 400)}") from None
    return made


def _row(method: str, found: Any) -> PublishedRow:
    if method not in registry.METHODS:
        raise ValueError(f"rows: unknown method '{method}'{did_you_mean(method, registry.METHODS)}")
    _check_names(f"rows.{method}.", _block(f"rows.{method}", found), _OF_ROW, ())
    written = _block(f"rows.{method}.figures", found["figures"])
    figures = {name: float(value or "nan") for name, value in written.items()}
    for name, value in figures.items():
        if not 0 <= value <= 100:
            raise ValueError(f"rows.{method}.figures.{name} '{written[name]}' is not in 0 to 100")
    return PublishedRow(method, str(found["source"]), float(found["tolerance"]), figures)


def _block(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{name} is no block")
    return value


def _check_names(
    where: str, found: Mapping[str, Any], needed: tuple[str, ...], other: tuple[str, ...]
) -> None:
    for name in needed:
        if not found.get(name):
            raise ValueError(f"{where}{name} is missing")
    for name in found:
        if name not in (*needed, *other):
            raise ValueError(f"{where}{name} is unknown{did_you_mean(name, (*needed, *other))}")
