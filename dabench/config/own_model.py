"""A source model of the user's own among the options of a run."""

from __future__ import annotations

from typing import Any

from dabench import registry
from dabench.errors import ConfigError

#: what has no meaning beside a source model that dabench does not train; where that only answers,
#: the method's own network has the rest
_OF_TRAINING = ("source-epochs", "source-seed", "source-backbone", "source-weights", "devices")
_OF_NETWORK = ("backbone", "weights")


def own_model(
    given: dict[str, Any], protocol: str
) -> tuple[dict[str, Any], tuple[registry.Plugin, ...]]:
    """Return the options with what a source model of the user's own decides, and where it is.

    Args:
        given: options by name.
        protocol: its name.

    Raises:
        ConfigError: parts of a model that is not given, or options that mean nothing beside one.
    """
    parts = ("source-checkpoint", "source-head", "source-mean", "source-std")
    if "source-model" not in given:
        if first := next((name for name in parts if name in given), None):
            raise ConfigError(f"--{first} belongs to --source-model, which is not given")
        return given, ()
    if getattr(registry.protocol(protocol), "several_sources", False):
        raise ConfigError(
            f"--source-model: {protocol} needs a model of each of its sources, and this is one; "
            "leave it out, or use --protocol sf-uda"
        )
    answers = getattr(registry.protocol(protocol), "black_box", False)
    senseless = _OF_TRAINING if answers else (*_OF_NETWORK, *_OF_TRAINING)
    if first := next((name for name in senseless if name in given), None):
        raise ConfigError(
            f"--{first}: --source-model is there already, and nothing is trained; drop one of them"
        )
    if given.get("protocol.oracle") == "http":
        raise ConfigError(
            "--source-model: with --protocol.oracle http the source model is elsewhere; give it to "
            "'dabench serve-source', and leave it out here"
        )
    reference = given["source-model"]
    models = (registry.located("model", reference),) if ":" in reference else ()
    name = models[0].name if models else reference
    own = {"source-model": name, "source-epochs": 0}
    own |= {} if answers else {"backbone": name, "weights": "trained"}
    return {**given, **own}, models
