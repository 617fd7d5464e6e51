"""The source model in this process, behind the same interface: the quickest answerer, no seal."""

from __future__ import annotations

import copy

import numpy as np
import torch

from dabench.contract.cost import Cost
from dabench.contract.floats import to_float
from dabench.errors import OracleError
from dabench.oracle.answer_forms import BATCH_SIZE, AnswerForm, Float32, OracleInfo, Pictures
from dabench.source_models.loading import SourceModel


class InProcess:
    """The source model in this process: the quickest answerer, and no seal at all.

    Args:
        model: trained source model; a copy of its network is moved to ``device``.
        classes: names of its K classes.
        image_size: side of its pictures in pixels.
        form: what it gives away.
        device: where it is evaluated.
    """

    def __init__(
        self,
        model: SourceModel,
        classes: tuple[str, ...],
        image_size: int,
        form: AnswerForm,
        device: str,
    ) -> None:
        self._network = copy.deepcopy(model.network).to(device).eval()
        self._network.cost = Cost()  # copies share one, and this work is nobody's cost
        self._form = form
        self._device = device
        self.info = OracleInfo(
            model.id,
            tuple(classes),
            image_size,
            form.name,
            form.gives_probabilities,
            model.val_accuracy,
            model.seconds,
        )

    def answer(self, images: Pictures) -> Float32:
        """Answer up to ``BATCH_SIZE`` pictures, each as if it had been asked alone."""
        if not 1 <= len(images) <= BATCH_SIZE:
            raise OracleError(f"{len(images)} pictures asked at once; ask 1 to {BATCH_SIZE}")
        padded = np.zeros((BATCH_SIZE, *images.shape[1:]), dtype=np.uint8)
        padded[: len(images)] = images
        # the choice of GPU kernels must not depend on what else the process did before
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True):
            logits = self._network(to_float(padded, self._device))
            p: Float32 = logits.float().softmax(dim=1).cpu().numpy()
        return self._form.apply(p[: len(images)])

    def restart(self) -> None:
        """Nothing to start again."""

    def close(self) -> None:
        """Nothing to close."""
