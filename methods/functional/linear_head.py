"""What methods need that read the rows, or the width, of a network's linear classifier."""

from __future__ import annotations

from torch import nn

from dabench.errors import ConfigError


def linear_head(
    classifier: nn.Module, method: str, why: str, instead: str = "bn-adapt"
) -> nn.Linear:
    """Return a classifier that is a linear layer, weight-normalised or not.

    Args:
        classifier: last layer of a network.
        method: its name, for the message.
        why: what the method takes of the layer, for the message: "its prototypes are the rows".
        instead: a method of the same setting that takes any classifier, for the message.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(classifier, nn.Linear):
        raise ConfigError(
            f"{method}: the source model ends in {type(classifier).__name__}, and {why} of a "
            f"linear layer; choose a model that ends in nn.Linear, or {instead}"
        )
    return classifier
