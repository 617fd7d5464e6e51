"""RDumb: ETA that starts from the source model again and again."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from dabench.api import Online, TargetBatch
from dabench.methods.online.eta import ETA


class RDumb(ETA):
    """RDumb (Press et al., NeurIPS 2023): every so many batches all goes back to the start.

    Weights, optimiser and average prediction are reset before the batch is answered, whatever the
    stream does: the control for every method that shall not collapse on long streams. Else ``eta``.

    Args:
        reset_every: batches from one start to the next.
    """

    seen: Tensor

    reset_every: Annotated[int, Field(ge=1)] = 1000

    def begin(self, access: Online) -> None:
        """Take the source model."""
        super().begin(access)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def step(self, batch: TargetBatch) -> Tensor:
        """Start anew if it is time, and do as ETA does."""
        if self.seen > 0 and self.seen % self.reset_every == 0:
            with torch.no_grad():
                nn.utils.vector_to_parameters(self.start.clone(), self.trained)
            self.update.reset_optimiser()
            self.mean_p.zero_()
            resets = float(self.seen // self.reset_every)
            self.access.recorder.put("rdumb/resets", self.update.steps, resets)
        self.seen += 1
        return super().step(batch)
