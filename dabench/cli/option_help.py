"""The help of a method's and a protocol's options, read from their constructors."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping
from typing import Any


def add_option_help(parser: argparse.ArgumentParser, given: Mapping[str, Any]) -> None:
    """Add the options of the named method and protocol to the parser's help."""
    from dabench import registry
    from dabench.config.spec import chosen_names, protocol_defaults

    if "method" in given:
        method, protocol, dataset = chosen_names(given)
        cls = registry.method(method)
        _add_group(parser, f"hyper-parameters of {method}", "method", cls, {})
        usual = protocol_defaults(protocol, registry.dataset(dataset))
        _add_group(parser, f"options of {protocol}", "protocol", registry.protocol(protocol), usual)
    elif "protocol" in given:
        name = registry.name_of("protocol", given["protocol"])
        _add_group(parser, f"options of {name}", "protocol", registry.protocol(name), {})


def _add_group(
    parser: argparse.ArgumentParser,
    title: str,
    prefix: str,
    cls: type[Any],
    usual: Mapping[str, Any],
) -> None:
    """Add the options of a class; ``usual`` are the defaults that the data set gives."""
    from dabench.config.signature import listed_options

    group = parser.add_argument_group(title, None if listed_options(cls) else "none")
    for option in listed_options(cls):
        needed = option.default is inspect.Parameter.empty
        default = "needed" if needed else f"default {option.default}"
        if option.name in usual:
            default = f"default {usual[option.name]}, of the data set"
        text = f"{option.help} ({default}; {type_text(option.annotation)})".strip()
        group.add_argument(
            f"--{prefix}.{option.name}", metavar="VALUE", help=text.replace("%", "%%")
        )


def type_text(annotation: Any) -> str:
    """Return an annotation as a user reads it: ``float > 0``, ``jsd | ce``, ``int``."""
    import types
    import typing

    origin = typing.get_origin(annotation)
    parts = typing.get_args(annotation)
    if origin is typing.Annotated:
        return " ".join([type_text(parts[0]), *(_bound(extra) for extra in parts[1:])]).strip()
    if origin is typing.Literal:
        return " | ".join(str(part) for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(type_text(part) for part in parts)
    if annotation is type(None):
        return "none"
    return str(getattr(annotation, "__name__", annotation))


def _bound(extra: Any) -> str:
    """Return the bounds of a pydantic ``Field`` (or of one annotated-types object)."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = [
        f"{sign} {getattr(item, name)}"
        for item in getattr(extra, "metadata", [extra])
        for name, sign in signs.items()
        if getattr(item, name, None) is not None
    ]
    return ", ".join(found)
