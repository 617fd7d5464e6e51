"""A source model of the user's own among the options of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dabench import registry
from dabench.config.options import is_number
from dabench.errors import ConfigError, one_line

#: what has no meaning beside a source model that dabench does not train; where that only answers,
#: the method's own network has the rest
_OF_TRAINING = ("source-epochs", "source-seed", "source-backbone", "source-weights", "devices")
_OF_NETWORK = ("backbone", "weights")
_NUMBERS = ("source-mean", "source-std")


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
    answers = getattr(registry.protocol(protocol), "black_box", False)
    for name in ("source-backbone", "source-weights"):
        if name in given and not answers:
            raise ConfigError(
                f"--{name}: under {protocol} the source model is the network that adapts; give "
                f"--{name.removeprefix('source-')}, or a protocol whose source model only answers "
                "(bb-uda, bb-osda)"
            )
    if given.get("protocol.oracle") == "http" and (
        first := next((name for name in _OF_TRAINING if name in given), None)
    ):
        raise ConfigError(
            f"--{first}: with --protocol.oracle http the source model was trained elsewhere; give "
            "it to 'dabench serve-source', and leave it out here"
        )
    parts = ("source-checkpoint", "source-head", *_NUMBERS)
    if "source-model" not in given:
        if first := next((name for name in parts if name in given), None):
            raise ConfigError(f"--{first} belongs to --source-model, which is not given")
        return given, ()
    if getattr(registry.protocol(protocol), "several_sources", False):
        raise ConfigError(
            f"--source-model: {protocol} needs a model of each of its sources, and this is one; "
            "leave it out, or use --protocol sf-uda"
        )
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
    found = located_model(reference)
    models = () if found is None else (found,)
    name = models[0].name if models else reference
    own: dict[str, Any] = {"source-model": name, "source-epochs": 0}
    for option in _NUMBERS:
        if option in given:  # 0.5 and .50 are one run
            numbers = three_numbers(f"--{option}", given[option])
            own[option] = ",".join(repr(number).removesuffix(".0") for number in numbers)
    own |= {} if answers else {"backbone": name, "weights": "trained"}
    return {**given, **own}, models


def located_model(reference: str) -> registry.Plugin | None:
    """Return where the function is that builds a source model; None = a library's name.

    Raises:
        ConfigError: it cannot be imported, there is none, or a file of weights is named.
    """
    if reference.endswith((".pt", ".pth", ".safetensors")):
        raise ConfigError(
            f"--source-model {one_line(reference, 300)}: that is a file of weights: give it as "
            "--source-checkpoint, and what builds the model as --source-model"
        )
    own = ":" in reference or reference.endswith(".py")
    return registry.located("model", reference) if own else None


def check_one_name(
    plugins: Iterable[registry.Plugin], seen: dict[str, registry.Plugin], place: str
) -> None:
    """Refuse another source model of a name that one has: their runs would be one run.

    Args:
        plugins: of a run.
        seen: name -> source model of the runs before it; this one's is added.
        place: of the run, for the message.

    Raises:
        ConfigError: names both.
    """
    for model in (plugin for plugin in plugins if plugin.kind == "model"):
        before = seen.setdefault(model.name, model)
        if before.target != model.target and before.sha256 != model.sha256:
            raise ConfigError(
                f"{place}: --source-model {model.target}: {before.target} was named before, and "
                f"tables would call both {model.name}; rename one of the files"
            )


def three_numbers(option: str, text: str) -> tuple[float, ...]:
    """Return the mean or std of three channels, as a user wrote them.

    Raises:
        ConfigError: they are no three numbers, as options are given.
    """
    parts = [part.strip(" ") for part in text.split(",")]
    if len(parts) != 3 or not all(map(is_number, parts)):
        raise ConfigError(
            f"{option} {one_line(text, 60)}: expected three numbers with commas between, of [0, 1] "
            "images: 0.485,0.456,0.406"
        )
    return tuple(map(float, parts))
