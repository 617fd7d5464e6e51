"""What a method may answer: another type, shape or value is refused by the method's name."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dabench.contract.method import OfflineMethod, OnlineMethod
from dabench.contract.types import Prediction
from dabench.errors import DivergenceError, TrainingError, one_line


def check_logits(
    method: OnlineMethod,
    what: str,
    logits: Any,
    images: Tensor,
    *,
    num_classes: int | None = None,
    dense: bool,
    step: int,
) -> None:
    """Refuse logits that do not fit their images, or are no numbers.

    Raises:
        TrainingError: names the method, ``what`` it was asked for, and the step;
            ``DivergenceError`` where they are not finite.
    """
    name, size = type(method).__name__, tuple(images.shape[2:]) if dense else ()
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise TrainingError(
            f"{name}: {what} returned {_described(logits)}; expected a tensor of real logits"
        )
    shape = tuple(logits.shape)
    fits = len(shape) >= 2 and (shape[0], *shape[2:]) == (len(images), *size)
    if not fits or num_classes not in (None, shape[1]):
        expected = "(B, K, H, W) logits at the images' size" if dense else "(B, K) logits"
        raise TrainingError(
            f"{name}: {what} returned {tuple(logits.shape)} for {len(images)} images; "
            f"expected {expected} of the batch alone, K = {num_classes or 'any'}"
        )
    if not bool(torch.isfinite(logits.float()).all()):  # what is kept of them
        raise DivergenceError(f"{name}: logits are not finite at step {step}; {_advice(method)}")


@contextlib.contextmanager
def left_alone(method: nn.Module) -> Iterator[None]:
    """Refuse weights and buffers that change while a method is asked for answers.

    Raises:
        TrainingError: names the first that did.
    """
    before = {name: value.clone() for name, value in _weights(method).items()}
    yield
    after = _weights(method)
    for name in {**before, **after}:
        if name not in before or name not in after or not _same(before[name], after[name]):
            raise TrainingError(
                f"{type(method).__name__}: {name} changed while predict was asked for answers; it "
                "must leave weights and buffers as they are: adapt in training_step or step"
            )


def copy_to_ask(method: OnlineMethod) -> OnlineMethod:
    """Return a copy, so that what a method learns while it is asked goes with it, wherever it lies.

    Where its state cannot be copied, the method itself.
    """
    handed = getattr(getattr(method, "access", None), "extras", {})
    large = {id(one): one for one in handed.values() if isinstance(one, Tensor)}
    with contextlib.suppress(RuntimeError, TypeError):
        return copy.deepcopy(method, large)
    return method


def _weights(method: nn.Module) -> dict[str, Tensor]:
    own = itertools.chain(method.named_parameters(), method.named_buffers())
    return {name: value.detach() for name, value in own if not is_lazy(value)}


def _same(a: Tensor, b: Tensor) -> bool:
    if (a.shape, a.dtype, a.device, a.layout) != (b.shape, b.dtype, b.device, b.layout):
        return False
    a, b = (part.to_dense() if part.layout != torch.strided else part for part in (a, b))
    return bool(((a == b) | ((a != a) & (b != b))).all())  # a NaN stays one


#: answers of a stream's method of which one is watched
WATCHED = 16


def predicted(method: OnlineMethod, images: Tensor, number: int = 0) -> Tensor:
    """Return the logits of ``predict``, which are still to be checked.

    Args:
        method: who is asked.
        images: about what.
        number: how often it was asked before: at every 16th time it must leave itself alone.

    Raises:
        TrainingError: it returned no prediction, or learned.
    """
    with contextlib.nullcontext() if number % WATCHED else left_alone(method):
        answer = method.predict(images)
    if not isinstance(answer, Prediction):
        raise TrainingError(
            f"{type(method).__name__}: predict returned {_described(answer)}; expected a Prediction"
        )
    return answer.logits


def checked(
    method: OfflineMethod, answer: Any, images: Tensor, what: str = "predict"
) -> Prediction:
    """Return a copy of an offline method's answer to a batch, and refuse one that does not fit.

    A method may write its next answer where this one stands.

    Raises:
        TrainingError: another type, shape or number of classes, or values that are not finite.
    """
    name, n = type(method).__name__, len(images)
    expected = (n, method.access.task.num_classes)
    logits = answer.logits if isinstance(answer, Prediction) else None
    fits = isinstance(logits, Tensor) and logits.is_floating_point()
    if logits is None or not fits or tuple(logits.shape) != expected:
        raise TrainingError(
            f"{name}: {what} returned {_described(answer if logits is None else logits)}; expected "
            f"a Prediction with real logits of {expected}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise DivergenceError(
            f"{name}: {what} returned logits that are not finite; {_advice(method)}"
        )
    score, unknown = answer.unknown_score, answer.is_unknown
    task = method.access.task
    if task.open_set and score is None:
        raise TrainingError(
            f"{name}: {what} gave no unknown_score; in an open set every image is to have one"
        )
    if unknown is not None and not task.open_set:
        raise TrainingError(f"{name}: {what} gave is_unknown, and this task has no unknown classes")
    if score is not None and not _are_numbers(score, n):
        raise TrainingError(
            f"{name}: unknown_score of {what} is {_described(score)}; expected ({n},) numbers"
        )
    if unknown is not None and not (_is_column(unknown, n) and unknown.dtype == torch.bool):
        raise TrainingError(
            f"{name}: is_unknown of {what} is {_described(unknown)}; expected bool of ({n},)"
        )
    kept = (None if part is None else part.clone() for part in (score, unknown))
    return Prediction(logits.clone(), *kept)


def checked_also(method: OfflineMethod, answers: Any, images: Tensor) -> dict[str, Prediction]:
    """Return an offline method's further answers to a batch by name, each of them checked.

    Raises:
        TrainingError: no mapping of names, or an answer that does not fit.
    """
    if not isinstance(answers, Mapping) or not all(type(name) is str for name in answers):
        raise TrainingError(
            f"{type(method).__name__}: also returned {_described(answers)}; expected predictions "
            "by name"
        )
    return {
        name: checked(method, answer, images, f"also ('{name}')")
        for name, answer in answers.items()
    }


def _is_column(found: Any, n: int) -> bool:
    return isinstance(found, Tensor) and tuple(found.shape) == (n,)


def _are_numbers(found: Any, n: int) -> bool:
    return _is_column(found, n) and not found.is_complex() and not bool(found.isnan().any())


def _described(found: Any) -> str:
    """Return type and shape of an answer, or what it is."""
    if not isinstance(found, Tensor):
        return f"{type(found).__name__} ({one_line(found, 100)})"
    kind = str(found.dtype).removeprefix("torch.")
    gaps = " with NaN" if bool(found.isnan().any()) else ""
    return f"{tuple(found.shape)} of {kind}{gaps}"


def _advice(method: OfflineMethod | OnlineMethod) -> str:
    """Return what helps against numbers that are not finite."""
    if not hasattr(method, "lr"):
        return "it has no learning rate to lower: look at the source model and the images"
    usual = (
        ""
        if not hasattr(method, "grad_norm")
        else (" or normalise the gradients (--method.grad_norm unit-global)")
    )
    return f"lower --method.lr{usual}"
