"""Keyword-only constructor arguments as options: names, meanings, checked values.

A method or a protocol declares its options once, in its constructor; the command line, the YAML
file and ``--help`` read them from there. (pydantic is imported only when a value is checked.)
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from dabench.config.options import is_number
from dabench.errors import ConfigError, did_you_mean, shown
from dabench.registry.lookup import called

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Function = TypeVar("Function", bound=Callable[..., Any])


def _once(function: Function) -> Function:
    """Return ``functools.cache`` of a function, of its own type (mypy: a class has no hash)."""
    return functools.cache(function)  # type: ignore[return-value]


@dataclass(frozen=True)
class Option:
    """A keyword-only constructor argument (``default`` is ``inspect.Parameter.empty`` if none)."""

    name: str
    annotation: Any
    default: Any
    help: str


@_once
def signature_options(cls: type[Any]) -> tuple[Option, ...]:
    """Return the keyword-only constructor arguments of a method or a protocol."""
    init = cls.__init__
    hints = typing.get_type_hints(init, include_extras=True)
    helps = _argument_helps(cls)
    return tuple(
        Option(name, hints.get(name, Any), parameter.default, helps.get(name, ""))
        for name, parameter in inspect.signature(init).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    )


def listed_options(cls: type[Any]) -> tuple[Option, ...]:
    """Return what help lists: the options, and the ``shorthands`` that stand for one of them."""
    short: Mapping[str, str] = getattr(cls, "shorthands", {})
    given = (Option(name, str, None, text) for name, text in short.items())
    return (*signature_options(cls), *given)


def _argument_helps(cls: type[Any]) -> dict[str, str]:
    """Read the ``Args:`` sections of the class docstrings, base classes first."""
    helps: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, found, section = inspect.cleandoc(base.__doc__ or "").partition("Args:\n")
        name = ""
        for line in section.splitlines() if found else ():
            if line and not line.startswith(" "):
                break
            match = re.match(r" {4}(\w+)(?: \(.*?\))?: *(.*)", line)
            if match:
                name, helps[match[1]] = match[1], match[2].strip()
            elif name and line.strip():
                helps[name] = f"{helps[name]} {line.strip()}".strip()
    return helps


def validate_options(cls: type[Any], given: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return all options of ``cls``, the given values converted and the defaults filled in.

    ``later_options`` of the class are left out where they have their default.

    Args:
        cls: class of a method or a protocol.
        given: option name -> value (strings from the command line, anything from YAML).
        prefix: "method" or "protocol", for messages.

    Raises:
        ConfigError: unknown name, wrong type or range.
    """
    options = {option.name: option for option in signature_options(cls)}
    # a class may take other words, its ``shorthands``, for what it keeps as one option
    given = getattr(cls, "written_options", dict)(given)
    for name in given:
        if name not in options:
            hint = did_you_mean(name, options) if options else "; it has no options"
            raise ConfigError(f"--{prefix}.{name}: {called(cls)} has no such option{hint}")
    values: dict[str, Any] = {}
    for name, option in options.items():
        value = given.get(name, option.default)
        if value is inspect.Parameter.empty:
            raise ConfigError(f"--{prefix}.{name} is needed by {called(cls)}: {option.help}")
        values[name] = _convert(cls, option, value, f"--{prefix}.{name}")
    later: frozenset[str] = getattr(cls, "later_options", frozenset())
    usual = usual_options(cls, prefix) if later else {}
    return {name: v for name, v in values.items() if name not in later or v != usual[name]}


@_once
def usual_options(cls: type[Any], prefix: str) -> Mapping[str, Any]:
    """Return the checked defaults of the options that have one."""
    return {
        option.name: _convert(cls, option, option.default, f"--{prefix}.{option.name}")
        for option in signature_options(cls)
        if option.default is not inspect.Parameter.empty
    }


@_once
def _adapter(cls: type[Any], name: str) -> TypeAdapter[Any]:
    """Return what checks an option's value (made once: that takes far longer than a check)."""
    from pydantic import ConfigDict, TypeAdapter

    (annotation,) = (o.annotation for o in signature_options(cls) if o.name == name)
    return TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))


def _convert(cls: type[Any], option: Option, value: Any, flag: str) -> Any:
    from pydantic import ValidationError

    annotation = option.annotation
    optional = type(None) in typing.get_args(annotation)
    if optional and isinstance(value, str) and value.lower() in ("none", "null"):
        return None
    try:
        found = _adapter(cls, option.name).validate_python(value)
    except ValidationError as error:
        expected = error.errors()[0]["msg"].removeprefix("Input should be ")
        raise ConfigError(f"{flag} {shown(value)}: expected {expected}") from None
    if isinstance(found, int | float) and not isinstance(found, bool):
        # pydantic takes true, '1_0' and ' 010' for numbers
        if isinstance(value, bool) or (isinstance(value, str) and not is_number(value)):
            raise ConfigError(f"{flag} {shown(value)}: expected a number")
        return found + 0  # -0.0 would be another run than 0.0
    return found
