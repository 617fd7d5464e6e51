"""The source model's answers, corrected for how often it names each class."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import BlackBox, OfflineMethod, Prediction, SourceFree
from dabench.methods.functional.class_use import rebalanced


class PriorCorrection(OfflineMethod):
    """No training: every class gets a factor, with which all are named more nearly alike.

    The factors bring the mean answer of the adapt set towards uniform, round by round (three leave
    a class of a very sure model at half to twice its share); an image is then answered by itself.
    Hard answers are refused: no factor changes which is first. What a method of training gains
    beyond this row it does not owe to classes that the source model names too often. It assumes
    that the classes occur alike.

    Source: the correction of priors of Saerens et al., Neural Computation 2002, with the mean
    answer in place of the old prior; that it is repeated is ours.

    Args:
        rounds: of the correction; 1 = the formula as it is.
    """

    grant: ClassVar[type | tuple[type, ...]] = (SourceFree, BlackBox)
    trains: ClassVar[bool] = False
    needs_probabilities: ClassVar[bool] = True
    keeps_network: ClassVar[bool] = False  # the factors are no part of the source model

    rounds: Annotated[int, Field(ge=1)] = 3

    def begin(self, access: SourceFree | BlackBox) -> None:
        """Keep the source model, or the way to ask it."""
        super().begin(access)
        if not isinstance(access, BlackBox):
            self.net = access.source_model
        self.shift = torch.zeros(access.task.num_classes)

    def calibrate(self) -> None:
        """Find the classes' factors on the adapt set."""
        with torch.no_grad():
            batches = self.access.target.survey()
            found = torch.cat([self._log_answers(b.images.to(self.device)) for b in batches])
        ratio = rebalanced("uniform", found.exp(), self.rounds).log() - found
        # a row's own sum is no part of a class's factor
        self.shift = (ratio - ratio.mean(1, keepdim=True)).mean(0)

    def _log_answers(self, images: Tensor) -> Tensor:
        """Return the logarithm of (B, K) answers, of which none counts below 1e-6."""
        access = self.access
        if isinstance(access, BlackBox):
            p = access.oracle.ask(images).to(images.device)  # it answers on the host
        else:
            p = self.net.eval()(images).softmax(1)
        return p.clamp_min(1e-6).log()

    def predict(self, images: Tensor) -> Prediction:
        """Answer with the corrected probabilities."""
        return Prediction(self._log_answers(images) + self.shift.to(images.device))
