"""``dabench list streams`` and ``dabench stream preview``: named streams, as list or picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dabench.cli.dotted import PREVIEWED, dotted_options
from dabench.cli.output import print_columns, say
from dabench.config.options import OPTIONS
from dabench.errors import ConfigError
from dabench.store.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

    from dabench.contract.stream import Stream

DEFAULT_PROTOCOL = "continual-tta"
#: of more names an axis shows numbers
_MOST_NAMES = 30


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``dabench stream``."""
    parser.add_argument("action", choices=("preview",))
    parser.add_argument("--out", default="stream.png", metavar="FILE", help="a PNG")
    for name in PREVIEWED:
        text = "YAML file with options" if name == "config" else OPTIONS[name][2]
        text += f"; default {DEFAULT_PROTOCOL}" if name == "protocol" else ""
        parser.add_argument(
            f"--{name}", dest=name, metavar=name.upper().replace("-", "_"), help=text
        )
    parser.epilog = "The stream and its options are those of 'run': --protocol.stream NAME."


def list_streams() -> int:
    """Print the named streams, their protocols and their options."""
    from dabench.protocols.streams.named.catalogue import STREAMS

    rows = [["stream", "protocols", "options", ""]]
    for name, entry in STREAMS.items():
        options = ",".join(f"{key}={knob.default}" for key, knob in entry.knobs.items())
        rows.append([name, ",".join(entry.protocols), options or "-", entry.summary])
    print_columns(rows)
    return 0


def stream(args: argparse.Namespace, rest: list[str]) -> int:
    """Draw the domain and the class of every arrival over time.

    Args:
        args: what the parser of ``stream`` found.
        rest: ``--protocol.NAME VALUE``.

    Raises:
        DabenchError: an option that does not fit, missing data, no place for the picture.
    """
    out = Path(args.out)
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: the picture is a PNG; end the name in .png")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it first")
    dotted = dotted_options(rest, "stream")
    if method := next((name for name in dotted if name.startswith("method.")), None):
        raise ConfigError(f"--{method}: a stream is the same for all methods; drop it")
    from dabench.config.settings import read_settings
    from dabench.config.spec import resolve
    from dabench.engine.setup.parts import load_plan

    given = {name: vars(args)[name] for name in PREVIEWED} | dotted
    if given["protocol"] is None and given["config"] is None:
        given["protocol"] = DEFAULT_PROTOCOL
    spec = resolve({**given, "method": "source"})[0]
    _, data, protocol, plan = load_plan(spec, read_settings(given))
    if not getattr(protocol, "online", False) or data.kind != "classification":
        raise ConfigError(f"--protocol {spec.protocol} shows no stream of classified images")
    title = str(spec.protocol_options.get("stream", getattr(protocol, "usual_stream", "")))
    picture = _draw(plan.stream, plan.truth, data.classes, f"{spec.protocol} {title}")
    write_atomically(out, lambda file: picture.savefig(file, dpi=120, format="png"))
    arrivals = sum(len(rows) for _, rows in plan.stream.segments)
    parts = len(plan.stream.segments)
    say(f"{arrivals} arrivals in {parts} segments, digest {plan.stream.digest[:8]}: {out}")
    return 0


def _draw(found: Stream, truth: np.ndarray, classes: tuple[str, ...], title: str) -> Any:
    """Return a figure of two panels: the domain, and the class, of every arrival."""
    import numpy as np
    from matplotlib.figure import Figure

    segments = [segment for segment, _ in found.segments]
    sizes = [len(rows) for _, rows in found.segments]
    if found.domains:
        names, shown = [d.name for d in found.domains], np.concatenate(found.shown)
    else:
        own = [segment.name.partition("@")[0] for segment in segments]
        names = list(dict.fromkeys(own))
        shown = np.repeat([names.index(name) for name in own], sizes)
    labels = truth[np.concatenate([rows for _, rows in found.segments])]
    figure = Figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for axis, values, texts, name in (
        (panels[0], shown, names, "domain"),
        (panels[1], labels, list(classes), "class"),
    ):
        axis.plot(values, "|", markersize=5, markeredgewidth=0.6, color="#1f5fa8")
        for end in np.cumsum(sizes)[:-1]:
            axis.axvline(end - 0.5, color="#9aa3ad", linewidth=0.5)
        if len(texts) <= _MOST_NAMES:
            axis.set_yticks(range(len(texts)), texts, fontsize=7, parse_math=False)
        axis.set_ylabel(name)
        axis.set_ylim(-0.7, len(texts) - 0.3)
        axis.invert_yaxis()
    panels[0].set_title(title, fontsize=10, parse_math=False)
    panels[1].set_xlabel("arrival")
    return figure
