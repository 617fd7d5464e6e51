"""Switches of a command that have to reach one of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dabench import registry
from dabench.config.spec import RunSpec
from dabench.errors import ConfigError, one_line


def check_switches(given: Mapping[str, Any], specs: Sequence[RunSpec]) -> None:
    """Refuse switches of the command line that would reach none of its runs.

    An address from the environment may be idle.

    Args:
        given: options of the command by name.
        specs: its runs.

    Raises:
        ConfigError: ``--oracle-url`` where no run asks one, ``--resume`` where none can go on.
    """
    url = given.get("oracle-url")
    if url and not any(spec.protocol_options.get("oracle") == "http" for spec in specs):
        raise ConfigError(
            f"--oracle-url {one_line(str(url), 200)}: no run here asks one; add --protocol.oracle "
            "http, or drop it"
        )
    if given.get("resume") and not any(
        getattr(registry.protocol(spec.protocol), "online", False) for spec in specs
    ):
        raise ConfigError(
            f"--resume: only streams go on in the middle, and {specs[0].protocol} is none; drop it"
        )
