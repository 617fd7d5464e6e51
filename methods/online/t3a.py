"""T3A: a classifier made anew from the surest features of the stream."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dabench.api import Online, OnlineMethod, Prediction, TargetBatch
from dabench.methods.functional.bounds import Share
from dabench.methods.functional.linear_head import linear_head
from dabench.methods.functional.normalisation import adapt_normalisation
from dabench.methods.functional.support_set import SupportSet


class T3A(OnlineMethod):
    """T3A (Iwasawa and Matsuo, NeurIPS 2021), after the authors' code. No gradient.

    Every feature joins the supports of its predicted class, of which the ones with the lowest
    entropy are kept; the first supports are the classifier's own rows. The answer is the feature
    times the mean direction of each class's supports. A batch is among the supports before it is
    answered. A class whose supports all went to others has the logit 0. Confidences come out far
    too high or too low: the logits have the features' scale. BatchNorm keeps the source's
    statistics. Deviation: ``per_class`` 0 keeps all supports; the authors' code means this by -1,
    but then drops the worst of every class at every batch.

    Args:
        per_class: supports that a class keeps; the authors choose among 1, 5, 20, 50, 100 and all
            (0) on a validation stream. All = memory that grows with the stream.
        rho: weight of the batch in BatchNorm statistics; 0 = the source's alone.
    """

    answers: ClassVar[Literal["before", "after"]] = "after"

    per_class: Annotated[int, Field(ge=0)] = 20
    rho: Share = 0.0

    def begin(self, access: Online) -> None:
        """Take the source model, and its classifier's rows as the first supports.

        Raises:
            ConfigError: the classifier is no linear layer.
        """
        super().begin(access)
        self.net = access.source_model.eval()
        head = linear_head(self.net.classifier, "t3a", "its first supports are the rows")
        adapt_normalisation(self.net, self.rho)
        self.supports = SupportSet(head, self.per_class)

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        """Take the batch in, and answer it."""
        features = self.net.features(batch.images)
        self.supports.add(features, self.net.classifier(features))
        return self.supports.answer(features)

    def predict(self, images: Tensor) -> Prediction:
        """Answer by the supports as they are."""
        return Prediction(self.supports.answer(self.net.features(images)))
