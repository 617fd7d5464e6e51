"""What an oracle lets out (the form of its answers), what it says of itself, and who answers."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from dabench.contract.types import Task
from dabench.errors import ConfigError, OracleError

#: pictures a question; also the batch of every forward pass, because batch size chooses kernels
BATCH_SIZE = 64

#: the largest side of a picture that is believed, in pixels
_MAX_SIZE = 2**14

Float32 = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]
Kind = Literal["soft", "hard", "top-k", "rounded"]


class Unreachable(OracleError):
    """The oracle is dead, slow or not there; asking again may help."""


@dataclass(frozen=True)
class AnswerForm:
    """What an interface lets out of a softmax.

    Attributes:
        kind: all of it, the argmax as one-hot, the k largest, or rounded.
        top_k: classes that keep their probability (``top-k``), 1 or more.
        decimals: digits after the point (``rounded``), 0 to 10.

    Raises:
        ConfigError: an unknown kind, or a number out of range.
    """

    kind: Kind
    top_k: int = 3
    decimals: int = 2

    def __post_init__(self) -> None:
        kinds = get_args(Kind)
        if self.kind not in kinds:
            raise ConfigError(f"answers '{self.kind}': expected one of {', '.join(kinds)}")
        if self.top_k < 1:
            raise ConfigError(f"top_k {self.top_k}: expected 1 or more classes")
        if not 0 <= self.decimals <= 10:
            raise ConfigError(f"decimals {self.decimals}: expected 0 to 10")

    @property
    def name(self) -> str:
        """``soft``, ``hard``, ``top-3``, ``rounded-2``."""
        values = {"top-k": f"top-{self.top_k}", "rounded": f"rounded-{self.decimals}"}
        return values.get(self.kind, self.kind)

    @property
    def gives_probabilities(self) -> bool:
        """False where answers are one-hot."""
        return self.kind != "hard"

    def apply(self, p: Float32) -> Float32:
        """Turn (N, K) float32 distributions into what the interface gives away of them."""
        classes = p.shape[1]
        if self.kind == "hard":
            given: Float32 = np.eye(classes, dtype=np.float32)[p.argmax(axis=1)]
            return given
        if self.kind == "top-k" and self.top_k < classes:
            # stable: of equal probabilities the lower class is kept, on every machine
            rest = np.argsort(-p, axis=1, kind="stable")[:, self.top_k :]
            kept = p.astype(np.float64)
            np.put_along_axis(kept, rest, 0.0, axis=1)
            left = np.maximum(1.0 - kept.sum(axis=1, keepdims=True), 0.0)
            np.put_along_axis(kept, rest, left / rest.shape[1], axis=1)
            return kept.astype(np.float32)
        if self.kind == "rounded":
            rounded = np.round(p.astype(np.float64), self.decimals)
            rounded[rounded.sum(axis=1) == 0] = 1.0
            given = (rounded / rounded.sum(axis=1, keepdims=True)).astype(np.float32)
            return given
        return p


@dataclass(frozen=True)
class OracleInfo:
    """What an interface says of itself.

    Attributes:
        id: of the source model (letters, digits, ``-`` and ``_``: it becomes a file name).
        classes: names of the K classes, in the order of the answers; no two alike.
        image_size: side of the pictures in pixels, 1 to 16384.
        form: name of the :class:`AnswerForm`.
        gives_probabilities: False where answers are one-hot.
        val_accuracy: accuracy on held-out source images, in [0, 1]; None where nobody knows.
        train_seconds: time of source training, not negative; None where nobody knows.
    """

    id: str
    classes: tuple[str, ...]
    image_size: int
    form: str
    gives_probabilities: bool
    val_accuracy: float | None = None
    train_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Any) -> OracleInfo:
        """Read what ``to_dict`` wrote; other keys are ignored.

        Raises:
            OracleError: a field is missing, of another type or range, or not fit to name a file.
        """
        if not isinstance(fields, dict):
            raise OracleError("the oracle describes itself with no JSON object; check its address")
        names, size = fields.get("classes"), fields.get("image_size")
        wrong = {
            "id": not _fits_file_name(fields.get("id")),
            "classes": not (isinstance(names, list | tuple) and names and _are_names(names)),
            "image_size": type(size) is not int or not 1 <= size <= _MAX_SIZE,
            "form": not _fits_file_name(fields.get("form")),
            "gives_probabilities": not isinstance(fields.get("gives_probabilities"), bool),
            "val_accuracy": not _is_number_up_to(1, fields.get("val_accuracy")),
            "train_seconds": not _is_number_up_to(math.inf, fields.get("train_seconds")),
        }
        for name in (name for name, bad in wrong.items() if bad):
            found = reprlib.repr(fields.get(name))  # of bounded length and depth
            raise OracleError(
                f"the oracle describes itself with {name} = {found}, which cannot be used; is it a "
                "'dabench serve-source' of this version?"
            )
        own: dict[str, Any] = {name: fields.get(name) for name in wrong}
        return cls(**own | {"classes": tuple(own["classes"])})


def _fits_file_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9A-Za-z_-]{1,80}", value) is not None


def _are_names(values: Sequence[object]) -> bool:
    return all(isinstance(v, str) and v for v in values) and len(set(values)) == len(values)


def _is_number_up_to(most: float, value: object) -> bool:
    """Whether an optional number is in [0, ``most``] and finite."""
    if value is None:
        return True
    right = isinstance(value, int | float) and not isinstance(value, bool)
    return right and 0 <= float(str(value)) <= most and math.isfinite(float(str(value)))


class Answerer(Protocol):
    """Whoever evaluates the source model."""

    @property
    def info(self) -> OracleInfo:
        """What this interface says of itself."""
        ...

    def answer(self, images: Pictures) -> Float32:
        """Answer (n, S, S, 3) uint8 pictures, n at most ``BATCH_SIZE``, by (n, K) float32.

        Raises:
            Unreachable: dead, slow or not there.
            OracleError: anything else that went wrong.
        """
        ...

    def restart(self) -> None:
        """Connect again, or start again, after ``Unreachable`` (which this may raise too)."""
        ...

    def close(self) -> None:
        """Let go of processes and connections."""
        ...


def are_distributions(answers: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Say which of (n, K) answers are finite, not negative and sum to 1, rounding aside."""
    values = answers.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        fits: npt.NDArray[np.bool_] = (values >= -1e-6).all(1) & (abs(values.sum(1) - 1) <= 1e-3)
    return fits


def check_fits_task(info: OracleInfo, task: Task) -> None:
    """Compare what an oracle says of itself with the task.

    Raises:
        OracleError: other classes, another order of them, or another image size.
    """
    if info.classes != task.classes:
        missing = [name for name in task.classes if name not in info.classes]
        extra = [name for name in info.classes if name not in task.classes]
        if missing or extra:
            said = [f"it lacks {_some(missing)}"] * bool(missing)
            said += [f"it also has {_some(extra)}"] * bool(extra)
            difference = " and ".join(said)
        else:
            pairs = zip(info.classes, task.classes, strict=False)
            place = next((i for i, (a, b) in enumerate(pairs) if a != b), len(task.classes))
            difference = f"the same names, but in another order from position {place} on"
        raise OracleError(
            f"the oracle's classes are not the task's: {difference}; use a source model of the "
            "same data set and protocol"
        )
    if info.image_size != task.image_size:
        raise OracleError(
            f"the oracle takes pictures of {info.image_size} px, this task has {task.image_size} "
            f"px; run with --image-size {info.image_size} or serve another source model"
        )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
