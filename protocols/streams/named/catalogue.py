"""The named streams and their options: ``NAME`` or ``NAME:option=value,...`` (no torch)."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType

from dabench.errors import ConfigError, did_you_mean, shown
from dabench.protocols.streams.named import builders
from dabench.protocols.streams.named.arrivals import Arranged, Pool
from dabench.protocols.streams.named.markov import LETTERS
from dabench.protocols.streams.named.walk import ccc

_NUMBER = r"inf|[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"  # no 1_0, ٣ or 010
ONLINE, CONTINUAL = "online-tta", "continual-tta"
Value = int | float | str


@dataclass(frozen=True)
class Knob:
    """An option of a stream.

    Attributes:
        default: decides the type, too; without an end, a number may have none.
        low: the least number.
        choices: of a word.
    """

    default: Value
    low: float = 0
    choices: tuple[str, ...] = ()

    def read(self, text: str, where: str) -> Value:
        """Return a value from what the user wrote.

        Raises:
            ConfigError: no number, below the least one, or none of the words.
        """
        if self.choices:
            if text not in self.choices:
                raise ConfigError(f"{where}: expected {' or '.join(self.choices)}")
            return text
        whole = isinstance(self.default, int)
        most = math.inf if self.default == math.inf else sys.float_info.max
        read = int if whole and text.isdecimal() else float
        value = read(text) if re.fullmatch(_NUMBER, text) else math.nan
        fits = isinstance(value, int) if whole else float(f"{value:g}") == value  # as in a record
        if not (fits and self.low <= value <= most):
            kind = "a whole number" if whole else "a number of at most six digits,"
            raise ConfigError(f"{where}: expected {kind} from {self.low:g}")
        return value


@dataclass(frozen=True)
class StreamEntry:
    """A named stream.

    Attributes:
        summary: one line.
        build: makes it; None = the protocol's own segments.
        knobs: its options.
        protocols: those that know it.
        batch: images a batch, where nothing else makes sense.
    """

    summary: str
    build: builders.Builder | None = None
    knobs: Mapping[str, Knob] = field(default_factory=dict)
    protocols: tuple[str, ...] = (CONTINUAL,)
    batch: int | None = None


_EVERYWHERE = (ONLINE, CONTINUAL)
_IMAGES = Knob(0)
_DIRICHLET = {"concentration": Knob(0.1), "slots": Knob(0)}
_SLOTS = {"concentration": Knob(0.1, low=1e-6), "slots": Knob(0)}
_RATIO = {"ratio": Knob(500_000.0, low=1), "images": _IMAGES}
_MAYBE_DIRICHLET = {"concentration": Knob(math.inf), "images": _IMAGES}
_ZIPF = {"zipf": Knob(2.0, low=1.01)}


def _lame(*, grouped: bool, zipf: bool) -> StreamEntry:
    text = "domain after domain" if grouped else "all domains shuffled"
    text += ", classes imbalanced by Zipf draws" if zipf else ", classes as they are"
    return StreamEntry(
        f"LAME: {text}",
        builders.lame(grouped=grouped, zipf=zipf),
        {"images": _IMAGES, **(_ZIPF if zipf else {})},
    )


def _unitta(setting: str) -> StreamEntry:
    moves = {"i": "i.i.d.", "n": "non-i.i.d.", "1": "one after the other"}
    shares = {"1": "balanced", "u": "imbalanced"}
    a, b, c, d = [*setting]
    return StreamEntry(
        f"UniTTA: classes {moves[a]}, {shares[b]}; domains {moves[c]}, {shares[d]}",
        builders.unitta(setting),
        {"samples": Knob(0)},
    )


STREAMS: Mapping[str, StreamEntry] = MappingProxyType(
    {
        "reset-per-shift": StreamEntry(
            "every shift once, shuffled; a fresh method for each (the default of online-tta)",
            protocols=(ONLINE,),
        ),
        "continual": StreamEntry(
            "every shift once, shuffled, without a reset (the default of continual-tta)"
        ),
        "correlated": StreamEntry(
            "every shift once, in chunks of few classes (Dirichlet, after NOTE)",
            builders.correlated,
            _DIRICHLET,
            _EVERYWHERE,
        ),
        "single": StreamEntry(
            "one image at a time, adapted on a window of the last ones",
            builders.single,
            {"window": Knob(16, low=1)},
            _EVERYWHERE,
            batch=1,
        ),
        "label-shift": StreamEntry(
            "every shift once, and in each class after class dominates (SAR)",
            builders.shifting_labels,
            _RATIO,
            _EVERYWHERE,
        ),
        "gradual": StreamEntry(
            "every shift from severity 1 to its own and back",
            builders.gradual,
            {"form": Knob("peak", choices=("peak", "cotta")), **_MAYBE_DIRICHLET},
        ),
        "mixed": StreamEntry(
            "all shifts in every batch, scored by shift", builders.mixed_domains, _MAYBE_DIRICHLET
        ),
        "ptta": StreamEntry(
            "every shift once, classes in Dirichlet slots (RoTTA)", builders.ptta, _SLOTS
        ),
        "recurring": StreamEntry(
            "the stream ptta again and again (PeTTA), scored by visit",
            builders.recurring,
            {"visits": Knob(20, low=2), "images": _IMAGES, **_SLOTS},
        ),
        "wild": StreamEntry(
            "one image at a time, all shifts mixed, while class after class dominates (SAR)",
            builders.wild,
            _RATIO,
            batch=1,
        ),
        "lame-iid": _lame(grouped=False, zipf=False),
        "lame-iid-zipf": _lame(grouped=False, zipf=True),
        "lame-grouped": _lame(grouped=True, zipf=False),
        "lame-grouped-zipf": _lame(grouped=True, zipf=True),
        "ccc": StreamEntry(
            "two kinds at once: one fades while the next grows (after CCC)",
            ccc,
            {"walks": Knob(0), "level": Knob(5.0, low=1), "images": _IMAGES},
        ),
        **{f"unitta-{''.join(s)}": _unitta("".join(s)) for s in product(*LETTERS)},
    }
)


@dataclass(frozen=True)
class NamedStream:
    """A stream of the catalogue with its options.

    Attributes:
        name: in the catalogue.
        options: all of them.
    """

    name: str
    options: Mapping[str, Value]

    @property
    def entry(self) -> StreamEntry:
        """What the catalogue says of it."""
        return STREAMS[self.name]

    @property
    def text(self) -> str:
        """How a record writes it: options only where they are not the default."""
        given = [
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in sorted(self.options.items())
            if value != self.entry.knobs[name].default
        ]
        return self.name + (f":{','.join(given)}" if given else "")

    @property
    def window(self) -> int:
        """Images that a method adapts on where they come one at a time; 1 = a batch as it is."""
        return int(self.options.get("window", 1))

    def arrange(self, pool: Pool) -> Arranged:
        """Return the order of arrival.

        Raises:
            ConfigError: options that ask for more than there is.
        """
        if self.entry.build is None:
            raise ConfigError(f"stream '{self.name}' is the protocol's own order")
        return self.entry.build(pool, self.options)


def parse_stream(text: str, protocol: str) -> NamedStream:
    """Read ``NAME`` or ``NAME:option=value,…``.

    Args:
        text: what the user gave.
        protocol: the one that is to show it.

    Raises:
        ConfigError: no such stream or option, a value that does not fit, another protocol's stream.
    """
    name, colon, rest = text.strip().partition(":")
    if name not in STREAMS:
        near = did_you_mean(name, STREAMS)
        near = near if near.startswith("; did") else "; see 'dabench list streams'"
        raise ConfigError(f"--protocol.stream {shown(name)}: there is no such stream{near}")
    entry = STREAMS[name]
    if protocol not in entry.protocols:
        raise ConfigError(
            f"--protocol.stream {name} belongs to {' and '.join(entry.protocols)}, not to "
            f"{protocol}; add --protocol {entry.protocols[0]}, or see 'dabench list streams'"
        )
    options: dict[str, Value] = {key: knob.default for key, knob in entry.knobs.items()}
    words = [part.strip() for part in rest.split(",")] if colon else []
    keys = [word.partition("=")[0] for word in words]
    for word in words:
        key, equals, value = word.partition("=")
        if key not in entry.knobs:
            hint = did_you_mean(key, entry.knobs) if entry.knobs else "; it has no options"
            what = f"no option {shown(key)}" if key else "an option is missing"
            raise ConfigError(f"--protocol.stream {name}: {what}{hint}")
        if not equals:
            raise ConfigError(f"--protocol.stream {name}: write {key}={entry.knobs[key].default}")
        if keys.count(key) > 1:
            raise ConfigError(f"--protocol.stream {name}: {key} stands there twice")
        options[key] = entry.knobs[key].read(value, f"--protocol.stream {name}: {word}")
    return NamedStream(name, options)
