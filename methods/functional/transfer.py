"""TransAdapt's transfer module, a reconstruction: an image's own matrix from logits to logits.

That learnable queries attend to tokens of the feature map, and that a linear prediction from the
attended queries gives a matrix between two sets of logits, is said in a patent that matches the
paper; the equations here are ours. docs/reconstructions.md says where each choice comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dabench.errors import ConfigError

#: most rows and columns of the map that tokens are taken from
TOKENS = (32, 64)


class TransferModule(nn.Module):
    """Class queries over feature tokens; a linear map of what they find, plus the identity.

    With A in R^(K x d) the queries after the layers, T = A W_o + I; W_o starts at zero, so that an
    untrained module changes nothing.

    Args:
        channels: D of the feature map.
        num_classes: K.
        width: d.
        heads: of the attention; they divide d.
        layers: of attention and feed-forward network.
    """

    def __init__(
        self, channels: int, num_classes: int, width: int = 64, heads: int = 4, layers: int = 1
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(num_classes, width) * width**-0.5)
        self.tokens_norm = nn.LayerNorm(channels)
        self.layers = nn.ModuleList(_Layer(channels, width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, num_classes, bias=False)
        nn.init.zeros_(self.predict.weight)
        self.register_buffer("identity", torch.eye(num_classes), persistent=False)

    identity: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, K, K) transfer matrices of (B, D, h, w) feature maps."""
        tokens = self.tokens_norm(tokenise(features))
        queries = self.queries.expand(len(features), -1, -1)
        for layer in self.layers:
            queries = layer(queries, tokens)
        matrix: Tensor = self.predict(self.norm(queries)) + self.identity
        return matrix


class _Layer(nn.Module):
    """Cross-attention and a two-layer network, each added to what came in."""

    def __init__(self, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.before_attention, self.before_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(
            width, heads, kdim=channels, vdim=channels, batch_first=True
        )
        self.network = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        normed = self.before_attention(queries)
        queries = queries + self.attention(normed, tokens, tokens, need_weights=False)[0]
        out: Tensor = queries + self.network(self.before_network(queries))
        return out


def tokenise(features: Tensor) -> Tensor:
    """Return (B, N, D) tokens of a (B, D, h, w) map, averaged to at most 32 x 64 places."""
    height, width = features.shape[-2:]
    if height > TOKENS[0] or width > TOKENS[1]:
        size = (min(height, TOKENS[0]), min(width, TOKENS[1]))
        features = F.adaptive_avg_pool2d(features, size)
    return features.flatten(2).transpose(1, 2)


def transfer_logits(matrix: Tensor, logits: Tensor) -> Tensor:
    """Return T Y at every pixel: (B, K, K) T, (B, K, h, w) Y. T = I gives Y bit for bit."""
    return (matrix @ logits.flatten(2)).view(logits.shape)


class SourceParts(nn.Module):
    """What source training leaves for the stream.

    Args:
        module: the transfer module.
        head: the classifier that is trained without labels; None = the source's own.
        layers: BatchNorm layers of the network, whose usual distances are kept
            (``shift_norm.usual_distances``).
    """

    usual: Tensor

    def __init__(
        self, module: TransferModule, head: nn.Module | None = None, layers: int = 0
    ) -> None:
        super().__init__()
        self.module, self.head = module, head
        self.register_buffer("usual", torch.zeros(layers))


def classifier_width(network: Any) -> int:
    """Return D of the (B, D, h, w) maps that a network's classifier takes.

    Raises:
        ConfigError: the network does not end in a convolution of feature maps.
    """
    if not isinstance(network.classifier, nn.Conv2d):
        raise ConfigError(
            "transadapt: its module reads the feature map in front of the source model's last "
            "convolution, and this model does not end in one (or does more behind it than resize); "
            "use tent, bn-adapt, max-squares, cotta or tta-aug, or --method.module false "
            "--method.unsup_output same --method.by_shift false, which needs no feature map"
        )
    return network.classifier.in_channels


def feature_batches(
    network: Any, batches: Iterator[tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Exchange the images of (images, labels) for their feature maps, without gradient."""
    for images, labels in batches:
        with torch.no_grad():
            features = network.features(images)
        yield features, labels


def fit_head(
    head: nn.Module,
    features: Iterator[Tensor],
    objective: Callable[[Tensor], Tensor],
    *,
    steps: int,
    lr: float,
) -> float:
    """Fine-tune a copy of the classifier without labels, by SGD with momentum .9.

    Args:
        head: (B, D, h, w) -> (B, K, h, w); changed in place.
        features: feature maps of source images, one batch a step, without gradient.
        objective: (B, K, h, w) probabilities -> (B, h, w) losses.
        steps: how many.
        lr: learning rate.

    Returns:
        The last loss (nan if there was no step).
    """
    optimiser = torch.optim.SGD(head.parameters(), lr=lr, momentum=0.9)
    last = float("nan")
    for _ in range(steps):
        loss = objective(head(next(features)).softmax(1)).mean()
        last = _advance(optimiser, loss)
    return last


def fit_transfer(
    module: TransferModule,
    head: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    steps: int,
    lr: float,
    ignore: int,
) -> float:
    """Train the module to turn the head's frozen logits into the labels: CE(T sg[Y_u], y).

    AdamW, its rate falling to 0 along a cosine. Logits are brought to the labels' size before the
    loss.

    Args:
        module: changed in place.
        head: (B, D, h, w) -> (B, K, h, w); stays.
        batches: (B, D, h, w) feature maps without gradient, and (B, H, W) labels.
        steps: how many.
        lr: learning rate at the start.
        ignore: label of the pixels that do not count; a batch of them alone is left out.

    Returns:
        The last loss (nan if there was no step).
    """
    optimiser = torch.optim.AdamW(module.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    last = float("nan")
    for _ in range(steps):
        features, labels = next(batches)
        if bool((labels == ignore).all()):
            continue
        with torch.no_grad():
            unsupervised = head(features)
        logits = transfer_logits(module(features), unsupervised)
        size = (labels.shape[-2], labels.shape[-1])
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        last = _advance(optimiser, F.cross_entropy(logits, labels.long(), ignore_index=ignore))
        schedule.step()
    return last


def _advance(optimiser: torch.optim.Optimizer, loss: Tensor) -> float:
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimiser.step()
    return float(loss.detach())
