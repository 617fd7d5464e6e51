"""``dabench data``: what a data set is, whether its folder is complete and its cache undamaged."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from dabench import registry
from dabench.cli.output import EXIT_USER, say, say_lines
from dabench.config.settings import read_settings
from dabench.errors import ConfigError


def data(args: argparse.Namespace) -> int:
    """Print a data set's card, or what is wrong with it; return 0, or 2 where something is.

    Args:
        args: what the parser of ``data`` found.

    Raises:
        ConfigError: no such set, or ``--verify`` with ``info``.
    """
    cls = registry.dataset(registry.name_of("data set", args.name))
    if args.action == "info":
        if args.verify:
            raise ConfigError("--verify checks the cache: use 'dabench data check'")
        facts = "\n".join(getattr(cls, "facts", list)())
        say_lines("\n\n".join(filter(None, [inspect.getdoc(cls), facts])) or "no card")
        return 0
    settings = read_settings({"data-root": args.data_root, "cache-dir": args.cache_dir})
    if not hasattr(cls, "check"):
        raise ConfigError(f"{args.name} is a plug-in without a check of its own; run it")
    problems: list[Any] = cls().check(settings.data_root)
    for line in problems:
        say(line)
    wrong = any(not str(line).startswith("optional") for line in problems)
    if wrong:
        say(f"{args.name}: not usable as it is (see above)", error=True)
    else:
        say(f"{args.name}: {'usable (see above)' if problems else 'complete'}")
    if args.verify:
        from dabench.datasets.caching.cache_folder import verify_all

        count, damaged = verify_all(settings.cache_dir, args.name)
        for line in damaged:
            say(line)
        if damaged:
            text = f"{args.name}: {len(damaged)} of {count} cache folders were damaged"
            say(text, error=True)
        else:
            say(f"{args.name}: {count} cache folders are as they were written")
        wrong = wrong or bool(damaged)
    return EXIT_USER if wrong else 0
