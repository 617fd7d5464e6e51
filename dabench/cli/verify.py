"""``dabench verify``: are my files and my model the published ones?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dabench.cli.output import EXIT_DIFFERENT, print_columns, say
from dabench.config.options import FLAGS, OPTIONS
from dabench.errors import ConfigError

if TYPE_CHECKING:
    from dabench.board.published_rows import Published, PublishedRow
    from dabench.board.verify import Compared

_TAKEN = (
    *("data-root", "source-checkpoint", "source-model", "source-head", "source-mean", "source-std"),
    *("results", "cache-dir", "device", "threads"),
)


def add_options(verify: argparse.ArgumentParser) -> None:
    """Add what the command knows."""
    text = "acdc, cifar10-c, cifar100-c, imagenet-c; or a YAML file of published rows"
    verify.add_argument("benchmark", metavar="BENCHMARK", help=text)
    for name in _TAKEN:
        kind = name.upper().replace("-", "_")
        verify.add_argument(f"--{name}", dest=name, metavar=kind, help=OPTIONS[name][2])
    text = "1,000 images a corruption; what may differ grows by the error of such a sample"
    verify.add_argument("--quick", action="store_true", help=text)
    text = FLAGS["no-progress"]
    verify.add_argument("--no-progress", dest="no-progress", action="store_true", help=text)


def verify(args: argparse.Namespace) -> int:
    """Run the published rows of a benchmark; return 0 if all figures fit, 1 at the first row of
    which one does not.

    The runs are those of ``dabench run``, and their records are kept.

    Args:
        args: what the parser of ``verify`` found.

    Raises:
        DabenchError: no rows of that benchmark; files or a model that cannot be run.
    """
    from dabench.board import verify as board
    from dabench.board.published_rows import read_published
    from dabench.config.settings import read_settings
    from dabench.config.spec import resolve
    from dabench.engine.run import execute

    published = read_published(args.benchmark)
    own = {name: getattr(args, name) for name in (*_TAKEN, "no-progress")}
    given = {**published.run, **{name: value for name, value in own.items() if value is not None}}
    if "source-model" not in given:
        raise ConfigError(
            f"{published.benchmark}: the rows are of {published.model}, which dabench does not "
            "build; give --source-model path.py:function, and --source-checkpoint"
        )
    if args.quick:
        if published.images is None:
            raise ConfigError(
                f"--quick: the stream of {published.benchmark} cannot be shortened; leave it out"
            )
        given["protocol.images"] = str(min(board.QUICK, published.images))
    settings = read_settings(given)
    say(f"{published.benchmark}: {published.model}")
    for row in published.rows:
        (spec,) = resolve({**given, "method": row.method, "seed": 0})
        result = execute(spec, settings)
        found = board.compare(published, row, result.record)
        _show(row, found)
        say(f"record: {result.path}")
        few = _too_few(published, result.record, quick=args.quick)
        if few or not all(line.fits for line in found):
            say(few or _difference(published, row, found))
            return EXIT_DIFFERENT
    much = " as far as a quick look tells" if args.quick else ""
    say(f"your files and model are the published ones{much}")
    return 0


def _show(row: PublishedRow, found: Sequence[Compared]) -> None:
    sampled = any(line.allowed > row.tolerance for line in found)
    widened = " and 4 standard errors of the sample" if sampled else ""
    say(f"{row.method}: {row.source}; may differ by {row.tolerance:g} points{widened}")
    rows = [["", "published", "yours", "gap", "may differ by", ""]]
    for line in found:
        if line.published is None:
            rows.append([line.name, "-", f"{line.ours:.1f}", "-", "-", ""])
            continue
        sign = "" if line.fits else "differs"
        figures = (f"{line.published:.1f}", f"{line.ours:.1f}", f"{round(line.gap, 1) + 0.0:+.1f}")
        rows.append([line.name, *figures, f"{line.allowed:.1f}", sign])
    print_columns(rows)


def _too_few(published: Published, record: Mapping[str, Any], *, quick: bool) -> str:
    """Say that a whole run showed another number of images than the published one, or ""."""
    segments = {published.segment_of(name) for name in published.parts}
    counts = {int(row["n"]) for row in record["scores"] if row["segment"] in segments}
    if quick or published.images is None or counts == {published.images}:
        return ""
    return (
        f"these are not the published files: {', '.join(map(str, sorted(counts)))} images a "
        f"corruption, published are {published.images}"
    )


def _difference(published: Published, row: PublishedRow, found: Sequence[Compared]) -> str:
    from dabench.board.verify import meaning

    first = next(line for line in found if not line.fits)
    more = "more" if first.gap > 0 else "less"
    return (
        f"{row.method}, {first.name}: {first.ours:.1f} {published.metric} (%), "
        f"{abs(first.gap):.1f} {more} than the published {first.published:.1f}, and "
        f"{first.allowed:.1f} may be. This usually means: {meaning(published, row, found)}"
    )
