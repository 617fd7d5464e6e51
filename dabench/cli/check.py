"""``dabench check``: what a method promises, tried on embedded data."""

from __future__ import annotations

import argparse
from pathlib import Path

from dabench import registry
from dabench.cli.dotted import method_options
from dabench.cli.output import EXIT_USER, say
from dabench.errors import ConfigError


def check(args: argparse.Namespace, rest: list[str]) -> int:
    """Print one line per promise; return 0, or 2 where one is broken.

    Args:
        args: what the parser of ``check`` found.
        rest: arguments that it does not know (``--method.NAME VALUE``).

    Raises:
        ConfigError: no such method, or a protocol that it does not serve.
    """
    given = method_options(rest, "check")
    name = registry.name_of("method", args.method)
    served = registry.METHODS[name].protocols
    wanted = _names(args.protocols) if args.protocols else _usual(served)
    for protocol in wanted:
        registry.name_of("protocol", protocol)
        registry.check_serves(name, protocol)
        registry.check_method_kind(name, protocol)

    import torch

    from dabench.config.options import merge
    from dabench.config.settings import read_settings
    from dabench.config.signature import validate_options
    from dabench.testing import Workbench, check_method

    threads = merge({"threads": args.threads})["threads"]
    torch.set_num_threads(threads)
    cls = registry.method(name)
    options = validate_options(cls, given, "method")
    cache = read_settings({"cache-dir": vars(args)["cache-dir"]}).cache_dir
    broken = 0
    for verdict in check_method(lambda: cls(**options), wanted, Workbench(Path(cache))):
        broken += not verdict.kept
        mark = "ok    " if verdict.kept else "BROKEN"
        why = "" if verdict.kept else f": {verdict.why}"
        say(f"{mark}  {verdict.protocol}  {verdict.promise} ({verdict.seconds:.1f} s){why}")
    say(f"{name}: {f'{broken} broken' if broken else 'all promises kept'}")
    return EXIT_USER if broken else 0


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ConfigError(f"--protocols '{text}': expected names with commas between")
    return names


def _usual(served: tuple[str, ...]) -> tuple[str, ...]:
    """Return the protocols to try: a method cannot tell one stream of classification from another.

    (Others can be asked for by name.)
    """
    streams = [p for p in served if p in registry.ONLINE]
    return tuple(p for p in served if p not in streams[1:])
