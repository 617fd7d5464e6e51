"""A spec -> the ``dabench run`` command that makes the same run."""

from __future__ import annotations

import shlex
from typing import Any

from dabench import registry
from dabench.config.options import as_argument
from dabench.config.signature import usual_options, validate_options
from dabench.config.spec import (
    OPTIONAL_FIELDS,
    RunSpec,
    changed_options,
    protocol_defaults,
    resolve,
)
from dabench.errors import ConfigError

_FIELDS = (
    *("source", "target", "init", "backbone", "weights", "image_size", "epochs", "batch_size"),
    *("source_epochs", "freeze", *OPTIONAL_FIELDS),
)


def run_command(spec: RunSpec) -> str:
    """Return the command for a shell; what the defaults give anyway is left out.

    Folders (``--data-root``, ``--results``) are no part of a spec, and not of the command.
    """
    # a file is named by its path here, and tables call it by its name alone
    places = {plugin.name: plugin.target for plugin in spec.plugins}
    chosen = {"method": spec.method, "protocol": spec.protocol, "dataset": spec.dataset}
    names = {kind: places.get(name, name) for kind, name in chosen.items()}
    given: dict[str, Any] = {**names, "seed": spec.seed}
    if spec.source_model is not None:
        given["source-model"] = places.get(spec.source_model, spec.source_model)
    given |= _differing(spec, {**given, "device": "cpu"})
    given |= {"device": spec.device, "threads": spec.threads}
    if spec.tuned is not None and spec.tuned.whole:  # the options below are the file's: no note
        given["tuned"] = spec.tuned.path
    given |= {f"method.{name}": value for name, value in changed_options(spec).items()}
    given |= {f"protocol.{name}": value for name, value in changed_protocol_options(spec).items()}
    arguments = ["dabench", "run"]
    for name, value in given.items():
        arguments += [f"--{name}", as_argument(value)]
    return shlex.join(arguments)


def changed_protocol_options(spec: RunSpec) -> dict[str, Any]:
    """Return the protocol's options that differ from what protocol and data set fill in."""
    found = registry.protocol(spec.protocol)
    usual = usual_options(found, "protocol")
    if own := protocol_defaults(spec.protocol, registry.dataset(spec.dataset)):
        usual = validate_options(found, own, "protocol")
    return {k: v for k, v in sorted(spec.protocol_options.items()) if v != usual.get(k)}


def _differing(spec: RunSpec, least: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that ``least`` would not fill in as they are."""
    try:
        usual = resolve(least)[0]
    except ConfigError:  # a data set or a method that has no defaults for everything
        usual = None
    return {
        name.replace("_", "-"): getattr(spec, name)
        for name in _FIELDS
        if getattr(spec, name) != (getattr(usual, name) if usual else None)
    }
