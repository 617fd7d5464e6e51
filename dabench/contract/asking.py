"""How an offline method is asked: it answers every image by itself, and learns nothing from it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

from torch import Tensor

from dabench.contract.answers import checked
from dabench.contract.method import OfflineMethod
from dabench.contract.types import Prediction
from dabench.errors import TrainingError

#: images that are asked for by themselves; in open sets, where an answer is a decision too
_ALONE, _ALONE_OPEN = 4, 8


@contextlib.contextmanager
def asking(method: OfflineMethod) -> Iterator[Callable[[Tensor], Prediction]]:
    """Give what asks an offline method about (B, 3, S, S) images in [0, 1], batch by batch.

    A few images of the first batch are asked for by themselves too, and again at the end: what test
    images share is not to be used, and nothing is to be learned from them.

    Raises:
        TrainingError: an answer that does not fit, that depends on the rest of the batch, or on
            what was asked since.
    """
    name = type(method).__name__
    few: list[Tensor] = []
    single: list[Prediction] = []
    decides: set[bool] = set()

    def ask(images: Tensor) -> Prediction:
        found = checked(method, method.predict(images.clone()), images)
        decides.add(found.is_unknown is not None)
        if len(decides) > 1:
            raise TrainingError(f"{name}: predict gives is_unknown for some batches alone")
        if not few and len(images) > 1:
            most = _ALONE_OPEN if method.access.task.open_set else _ALONE
            few.extend(images[i : i + 1] for i in range(min(most, len(images))))
            single.extend(checked(method, method.predict(one.clone()), one) for one in few)
            # of several: a rule with a threshold may fall to the other side once, by rounding
            others = sum(_differ(found, i, one, 0.05) for i, one in enumerate(single))
            flipped = sum(_flipped(found, i, one) for i, one in enumerate(single))
            if others > len(few) / 2 or flipped > 1:
                raise TrainingError(
                    f"{name}: predict answers an image alone otherwise than beside others; every "
                    "image is to be answered by itself: take statistics and thresholds from the "
                    "adapt set, in calibrate"
                )
        return found

    yield ask
    for before, image in zip(single, few, strict=True):
        now = checked(method, method.predict(image.clone()), image)
        if _differ(before, 0, now, 1e-3) or _flipped(before, 0, now):
            raise TrainingError(
                f"{name}: predict answers an image otherwise after it was asked about others; it "
                "must not learn from what it is asked, nor answer by chance"
            )


def _differ(found: Prediction, row: int, alone: Prediction, most: float) -> bool:
    """Return whether an image's answers differ by more than ``most`` in a probability or score.

    Precisions below float32 round answers otherwise in batches of another size.
    """
    one, other = (answer.logits.float().softmax(1) for answer in (found, alone))
    if float((one[row] - other[0]).abs().max()) > most:
        return True
    if found.unknown_score is None or alone.unknown_score is None:
        return found.unknown_score is not alone.unknown_score
    scores = found.unknown_score.float()
    here, there = float(scores[row]), float(alone.unknown_score[0])
    if math.isinf(here) or math.isinf(there):
        return here != there
    finite = scores[scores.isfinite()]
    spread = max(float(finite.max() - finite.min()), abs(here), 1e-6)
    return abs(here - there) > most * spread


def _flipped(found: Prediction, row: int, alone: Prediction) -> bool:
    """Return whether an image is called unknown in one of two answers only."""
    if found.is_unknown is None or alone.is_unknown is None:
        return found.is_unknown is not alone.is_unknown
    return bool(found.is_unknown[row] != alone.is_unknown[0])
