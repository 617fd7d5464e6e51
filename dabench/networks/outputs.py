"""A model of more classes than a data set has: the outputs of the set's classes are kept."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from dabench.contract.network import Network
from dabench.contract.types import Task
from dabench.errors import ConfigError


def cut_down(network: Network, task: Task, named: str) -> str | None:
    """Leave the outputs of a task's classes where a wrapped model has more; say what was done.

    Args:
        network: a wrapped model of somebody else.
        task: its ``model_classes`` name the outputs in their order; empty = nothing is done.
        named: the model, for messages.

    Returns:
        ``200 of 1000``, or None where all outputs are kept.

    Raises:
        ConfigError: neither an output for each class nor one for each of ``model_classes``.
    """
    if not task.model_classes:
        return None
    found, known = network.classifier.out_features, task.model_classes
    if found == task.num_classes:
        return None
    if found != len(known):
        raise ConfigError(
            f"--source-model {named} has {found} outputs; expected {len(known)}, of which those of "
            f"the {task.num_classes} classes are kept, or {task.num_classes}"
        )
    keep_outputs(network, [known.index(name) for name in task.classes])
    return f"{task.num_classes} of {found}"


def keep_outputs(network: Network, rows: Sequence[int]) -> None:
    """Cut the classifier of a wrapped model down to some of its outputs, in the order given.

    Its logits over the others are masked out: softmax and argmax run over those that are kept.
    """
    old = network.classifier
    head = nn.Linear(old.in_features, len(rows), bias=old.bias is not None).to(old.weight.device)
    head.load_state_dict({name: value[list(rows)] for name, value in old.state_dict().items()})
    network.classifier = head.eval()
