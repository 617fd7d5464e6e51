"""What of a run's options can be refused before any data are read (no torch of its own)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dabench import registry
from dabench.config.signature import signature_options
from dabench.errors import ConfigError


def check_documented(plugin: registry.Plugin) -> None:
    """Refuse an option of which nobody says what it means (dabench's own are tested for it)."""
    load = {"method": registry.method, "protocol": registry.protocol}.get(plugin.kind)
    for option in signature_options(load(plugin.name)) if load else ():
        if not option.help:
            raise ConfigError(
                f"{plugin.name}: option '{option.name}' is not explained; add a line '"
                f"{option.name}: ...' to the Args section of the class docstring"
            )


def check_domains(protocol: str, dataset: str, data: type[Any]) -> None:
    """Refuse a data set of one domain where the shift is between two."""
    domains: tuple[str, ...] = getattr(data, "domains", ())
    online = getattr(registry.protocol(protocol), "online", False)
    if len(domains) == 1 and not online:
        raise ConfigError(
            f"{protocol} adapts from one domain to another, and {dataset} has one alone, "
            f"'{domains[0]}'; use it with a stream protocol, whose shift is weather: --protocol "
            f"{' | '.join(registry.ONLINE)}; or choose another --dataset"
        )


def check_setting(protocol: str, fields: Mapping[str, Any]) -> None:
    """Build a protocol once: a sweep has to say before its first run what the last cannot be.

    Args:
        protocol: its name.
        fields: of a run's spec by name.

    Raises:
        ConfigError: a value that the protocol refuses, or a start, a batch size or domains that it
            cannot use (``check_setting`` of a protocol that has one).
    """
    posed = registry.protocol(protocol)(**fields["protocol_options"])
    if check := getattr(posed, "check_setting", None):
        check(**{name: fields[name] for name in ("init", "batch_size", "source", "target")})
