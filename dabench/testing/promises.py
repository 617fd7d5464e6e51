"""What every method promises; each check raises ``BrokenPromise`` with the reason."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dabench.config.signature import signature_options
from dabench.contract.protocol import Resume
from dabench.errors import AccessError, ConfigError, one_line
from dabench.testing.case import (
    STREAM_ANSWERS,
    BrokenPromise,
    Case,
    Killed,
    answers_of,
    demand,
    modes_of,
    watched,
)


class SourceImages:
    """A grant that no protocol gives."""


#: what a resumed run counts as an undisturbed one does
_COUNTED = ("images_forward", "images_backward")


def labels_do_not_matter(case: Case) -> None:
    """Other labels of the target change no answer."""
    plan, rng = case.bench.plan, np.random.default_rng(0)
    if hasattr(plan, "frames"):  # the answers are kept as confusion matrices: rows change places
        names = np.arange(256, dtype=np.uint8)
        names[:3] = np.roll(names[:3], 1)
        frames = dataclasses.replace(plan.frames, masks=names[plan.frames.masks])
        other = case.bench.run(case.build, plan=dataclasses.replace(plan, frames=frames))
        one, two = case.first[1].arrays["stream.before"], other.arrays["stream.before"]
        demand(np.array_equal(one, two[:, names[:3]]), "its answers follow the target's labels")
        return
    truth = plan.truth
    moved = (
        {part: rng.permutation(values) for part, values in truth.items()}
        if isinstance(truth, dict)
        else rng.permutation(truth)
    )
    blinded = case.bench.run(case.build, plan=dataclasses.replace(plan, truth=moved))
    same = answers_of(blinded) == answers_of(case.first[1])
    demand(same, "its answers follow the target's labels: it reads what it is not granted")


def the_future_does_not_matter(case: Case) -> None:
    """What comes later on a stream changes no earlier answer."""
    plan = case.bench.plan
    *past, (under, rows) = plan.stream.segments
    stream = dataclasses.replace(plan.stream, segments=(*past, (under, rows[::-1].copy())))
    other = case.bench.run(case.build, plan=dataclasses.replace(plan, stream=stream))
    n = sum(len(part) for _, part in past)
    for key in STREAM_ANSWERS:
        one, two = case.first[1].arrays.get(key), other.arrays.get(key)
        if one is not None and two is not None:
            demand(np.array_equal(one[:n], two[:n]), "its answers follow batches that come later")


def same_seed_same_bytes(case: Case) -> None:
    """The same seed gives the same answers, whatever was drawn before."""
    torch.manual_seed(12345)
    np.random.seed(999)  # noqa: NPY002
    again = case.bench.run(case.build)
    demand(
        answers_of(again) == answers_of(case.first[1]) and again.scores == case.first[1].scores,
        "a second run with the same seed answers otherwise: seed what it draws from the grant's "
        "seed, or draw from torch alone",
    )


def predict_changes_nothing(case: Case) -> None:
    """To be asked leaves weights, modes and random numbers as they were."""
    method, _ = case.first
    if not case.bench.online:  # on a stream it is asked as it stands
        method.eval()
    state = {key: value.clone() for key, value in _tensors(method).items()}
    modes = modes_of(method)
    drawn = torch.random.get_rng_state()
    # asked bare: what asks for a whole set puts modes and random numbers back by itself
    with torch.no_grad():
        first, second = (method.predict(case.images.clone()).logits.clone() for _ in range(2))
    demand(torch.equal(first, second), "predict answers otherwise when it is asked again")
    demand(torch.equal(drawn, torch.random.get_rng_state()), "predict moved random numbers")
    demand(
        modes == modes_of(method) and not case.told["switched"],
        "predict switched modules between training and evaluation",
    )
    now = _tensors(method)
    moved = [key for key, value in state.items() if not torch.equal(value, now[key])]
    demand(not moved, f"predict changed {', '.join(moved[:3])}")


def _tensors(method: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a method's state; extra state is no tensor."""
    return {k: v for k, v in method.state_dict().items() if isinstance(v, torch.Tensor)}


def outputs_are_finite(case: Case) -> None:
    """Answers have their form, and every number in them is one."""
    method, outcome = case.first
    task, images = case.bench.plan.task, case.images
    method.eval()
    with torch.no_grad():
        answer = method.predict(images)
    wanted = (len(images), task.num_classes)
    found = tuple(answer.logits.shape[:2])
    demand(found == wanted, f"predict gave logits of {found}; expected {wanted}")
    demand(bool(torch.isfinite(answer.logits).all()), "predict gave logits that are not finite")
    for key in ("unknown_score", "is_unknown"):
        value = getattr(answer, key)
        if task.open_set:
            demand(value is not None, f"in an open set predict has to give {key}")
        else:
            demand(value is None, f"predict gave {key} where no class is unknown")
    for name, values in outcome.arrays.items():
        numbers = values.dtype.kind != "f" or bool(np.isfinite(values).all())
        demand(numbers, f"{name} is not finite everywhere")


def one_image_is_enough(case: Case) -> None:
    """A single image can be answered, and on a stream be learned from."""
    method, _ = case.first
    method.eval()
    with torch.no_grad():
        logits = method.predict(case.images[:1]).logits
    demand(bool(torch.isfinite(logits).all()), "a single image got logits that are not finite")
    if case.bench.online and case.bench.batch_size > 1:
        plan = case.bench.plan
        few = tuple((under, rows[:4]) for under, rows in plan.stream.segments)
        stream = dataclasses.replace(plan.stream, segments=few, batch_size=1)
        outcome = case.bench.run(case.build, plan=dataclasses.replace(plan, stream=stream))
        finite = bool(np.isfinite(outcome.arrays["stream.confidence"]).all())
        demand(finite, "with one image a batch its answers are not finite")


def the_kept_network_answers(case: Case) -> None:
    """What ``--save-model`` keeps gives the method's answers."""
    method, _ = case.first
    network = None if case.bench.online else method.eval().adapted_network()
    if network is None:
        return
    with torch.no_grad():
        own, kept = method.predict(case.images).logits, network.eval()(case.images)
    if own.shape == kept.shape:  # a network with an output for unknown images has its own rule
        demand(
            torch.allclose(own.softmax(1), kept.softmax(1), atol=1e-4),
            "the network that is kept with --save-model answers otherwise than predict: return "
            "None from adapted_network, or a network that has what predict adds",
        )


def a_killed_run_goes_on(case: Case) -> None:
    """A stream that was killed goes on bit for bit: all that matters is in ``state_dict``."""
    steps = case.told["step"]
    left = steps - max(1, steps // 8)

    def die(what: str) -> None:
        nonlocal left
        left -= what == "step"
        if left < 0:
            raise Killed

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        with contextlib.suppress(Killed):
            case.bench.run(watched(case.build, die), resume=Resume(path, "a", 1, False))
        demand(left < 0, f"a second run stepped less often than the first one, {steps} times")
        torch.manual_seed(999)
        resumed = case.bench.run(case.build, resume=Resume(path, "a", 3, True))
    whole = case.first[1]
    counted = all(resumed.cost[key] == whole.cost[key] for key in _COUNTED)
    demand(
        answers_of(resumed) == answers_of(whole) and resumed.scores == whole.scores and counted,
        "a resumed stream answers otherwise: keep optimisers, counters and buffers in the state "
        "(register_buffer, or get_extra_state and set_extra_state)",
    )


def a_wrong_grant_is_refused(case: Case) -> None:
    """What a protocol does not grant is refused by name before any work."""
    cls = type(case.build())
    begun: list[Any] = []
    own = {"grant": SourceImages, "begin": lambda self, access: begun.append(access)}
    greedy = type(cls.__name__, (cls,), {**own, "__module__": cls.__module__})
    try:
        case.bench.run(greedy)
    except AccessError as error:
        demand(cls.__name__ in str(error), "the refusal does not name the method")
    except Exception as error:
        raise BrokenPromise(
            f"it began work although it asks for source images: {one_line(error, 200)}"
        ) from error
    else:
        raise BrokenPromise("it ran although it asks for source images")
    demand(not begun, "it began work before it was refused")


def other_norms_work_or_are_refused(case: Case) -> None:
    """A network without BatchNorm works, or is refused in a sentence."""
    try:
        outcome = case.bench.run(case.build, start=case.bench.unnormalised)
    except (ConfigError, AccessError):
        return
    except Exception as error:
        raise BrokenPromise(
            f"a network with LayerNorm ends in {type(error).__name__}: {one_line(error, 200)}; "
            "make it work, or raise dabench.api.ConfigError in begin"
        ) from error
    for name, values in outcome.arrays.items():
        numbers = values.dtype.kind != "f" or bool(np.isfinite(values).all())
        demand(numbers, f"on a network with LayerNorm {name} is not finite")


def options_are_documented(case: Case) -> None:
    """Every hyper-parameter has a line in the docstring."""
    bare = [o.name for o in signature_options(type(case.build())) if not o.help]
    demand(not bare, f"the Args section of the docstring lacks {', '.join(bare)}")


Promise = Callable[[Case], None]
#: title -> check, and whether it is for streams alone
PROMISES: dict[str, tuple[Promise, bool]] = {
    "hyper-parameters are documented": (options_are_documented, False),
    "a wrong grant is refused": (a_wrong_grant_is_refused, False),
    "outputs are finite and have their form": (outputs_are_finite, False),
    "a batch of one image works": (one_image_is_enough, False),
    "predict changes nothing": (predict_changes_nothing, False),
    "the kept network gives its answers": (the_kept_network_answers, False),
    "same seed, same bytes": (same_seed_same_bytes, False),
    "labels do not matter": (labels_do_not_matter, False),
    "the future does not matter": (the_future_does_not_matter, True),
    "a killed run goes on bit for bit": (a_killed_run_goes_on, True),
    "LayerNorm works or is refused": (other_norms_work_or_are_refused, False),
}
