"""REM: who sees less of an image shall be less sure of the same answer."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from dabench.api import ConfigError, Online, TargetBatch
from dabench.methods.functional.bounds import NonNegative, Positive
from dabench.methods.functional.ranked_entropy import ranked_entropy
from dabench.methods.functional.vision_tokens import (
    kept_patches,
    vision_transformer,
    watched_attention,
)
from dabench.methods.online.norm_affine import NormAffine
from dabench.methods.online.sar import below_top


class REM(NormAffine):
    """REM, ranked entropy minimisation (Han et al., ICML 2025), after the authors' code.

    For vision transformers of timm with a class token. A batch passes whole, and again without the
    patches that the class token attends to most, a tenth and two tenths of them. Passes that see
    less learn the answers of those that see more, and are not to be surer than these. Weight and
    bias of LayerNorm learn, but for the top quarter of the blocks and what follows them. The answer
    is that of the whole pass, before the step. Deviation: dropout stays off in the whole pass too.

    Args:
        lr: learning rate.
        passes: of a batch, the whole one included.
        share: of the patches that each further pass lacks more.
        ranking: weight of the entropies' order against the common answer.
        margin: by which entropies shall differ, as a share of log K.
    """

    lr: Positive = 1e-3
    passes: Annotated[int, Field(ge=2)] = 3
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    ranking: NonNegative = 1.0
    margin: NonNegative = 0.0

    def check_options(self) -> None:
        """Refuse passes that would see nothing."""
        if (self.passes - 1) * self.share >= 1:
            raise ConfigError(
                f"--method.passes {self.passes}: the last one would lack "
                f"{(self.passes - 1) * self.share:g} of the patches; give fewer, or a smaller "
                "--method.share"
            )

    def begin(self, access: Online) -> None:
        """Take the source model; train LayerNorm below the top.

        Raises:
            ConfigError: no vision transformer of timm, no class token, or nothing to adapt.
        """
        vision_transformer(access.source_model, "rem")
        super().begin(access)
        self.log_k = math.log(access.task.num_classes)

    def layers(self) -> list[nn.Module]:
        """Return those below the top."""
        return below_top(self.net)

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer, and step on the passes with ever fewer patches."""
        transformer = vision_transformer(self.net, "rem")
        with watched_attention(transformer) as found:
            whole: Tensor = self.net(batch.images)
        (attention,) = found
        answers = [whole]
        for number in range(1, self.passes):
            # rounded: 10 * (1 - 3 * .1) is below 7
            count = math.floor(round(attention.shape[1] * (1 - number * self.share), 6))
            least = attention.topk(max(1, count), dim=1, largest=False).indices
            with kept_patches(transformer, least):
                answers.append(self.net(batch.images))
        self.update(ranked_entropy(answers, self.ranking, self.margin * self.log_k))
        return whole.detach()
