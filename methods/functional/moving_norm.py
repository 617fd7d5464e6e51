"""BatchNorm statistics that follow a stream as running averages, without a gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dabench.errors import ConfigError
from dabench.methods.functional.normalisation import (
    BlendedNorm,
    blended_statistics,
    exchange_batch_norms,
)


class MovingNorm(BlendedNorm):
    """A BatchNorm layer that answers by its running statistics, and moves them when it is told to.

    While ``momentum`` is a number m, a pass normalises by the batch and sets running <-
    (1 - m) running + m batch, the variance unbiased: BatchNorm in train mode. Where there is one
    value per channel no variance can be estimated, and the layer answers as otherwise.
    """

    momentum: float | None = None

    def _normalise(self, x: Tensor) -> Tensor:
        if self.momentum is None or x.numel() == x.shape[1]:
            return super()._normalise(x)
        kept = (self.running_mean, self.running_var)
        return F.batch_norm(x, *kept, self.weight, self.bias, True, self.momentum, self.eps)


def use_moving_statistics(net: nn.Module, method: str) -> None:
    """Let every BatchNorm layer inside ``net`` be a :class:`MovingNorm`.

    Args:
        net: changed in place; names in its ``state_dict`` stay.
        method: its name, for the message.

    Raises:
        ConfigError: there are none.
    """
    if not exchange_batch_norms(net, lambda layer: MovingNorm(layer, 0.0)):
        raise ConfigError(
            f"{method}: the source model has no BatchNorm layer, so there are no statistics to "
            "move; choose a model with such layers, or tent, which adapts LayerNorm too"
        )


@contextlib.contextmanager
def moving_statistics(net: nn.Module, momentum: float) -> Iterator[None]:
    """Let passes inside the block normalise by the batch and move the running statistics.

    Args:
        net: with :class:`MovingNorm` layers; without one nothing is different inside.
        momentum: weight of what passes, in [0, 1].

    Source: BatchNorm (Ioffe and Szegedy, 2015) in train mode; torch's unbiased variance.
    """
    layers = [m for m in net.modules() if isinstance(m, MovingNorm)]
    for layer in layers:
        layer.momentum = momentum
    try:
        yield
    finally:
        for layer in layers:
            layer.momentum = None


@torch.no_grad()
def move_statistics(net: nn.Module, images: Tensor, momentum: float) -> None:
    """Pass images once, so that the layers of :func:`use_moving_statistics` follow them.

    Args:
        net: changed in place: running means and variances alone.
        images: (B, 3, H, W).
        momentum: weight of these images, in [0, 1].
    """
    with moving_statistics(net, momentum):
        net(images)


class RobustNorm(BlendedNorm):
    """A BatchNorm layer that answers by its running statistics, also where it learns.

    Inside :func:`robust_statistics` a pass sets running <- (1 - rho) running + rho batch, the
    variance biased, and normalises by what comes out; the gradient passes the batch's share. Where
    there is one value per channel no variance can be estimated, and nothing moves.
    """

    moving: bool = False

    def weight_of_batch(self, x: Tensor) -> float:
        """Return rho where the statistics move, else 0."""
        return self.rho if self.moving else 0.0

    def _normalise(self, x: Tensor) -> Tensor:
        out = super()._normalise(x)
        if self.moving and x.numel() > x.shape[1]:
            with torch.no_grad():
                kept = (self.running_mean, self.running_var)
                mean, var, _ = blended_statistics(x, *kept, self.rho)
            # new tensors: the graph may hold the old ones
            self.running_mean, self.running_var = mean, var
        return out


@contextlib.contextmanager
def robust_statistics(*nets: nn.Module) -> Iterator[None]:
    """Let the :class:`RobustNorm` layers of networks follow what passes inside.

    Source: RoTTA (Yuan et al., CVPR 2023), authors' code.
    """
    layers = [m for net in nets for m in net.modules() if isinstance(m, RobustNorm)]
    for layer in layers:
        layer.moving = True
    try:
        yield
    finally:
        for layer in layers:
            layer.moving = False


def cropped_and_turned(images: Tensor, flip: bool) -> Tensor:
    """Return views of square images: shifted, mirrored, turned; drawn for every image by itself.

    Shifts are by whole pixels, up to an eighth of the side either way; black comes in from beyond
    the frame. Turns are by a multiple of 90 degrees.

    Args:
        images: (B, C, S, S).
        flip: mirror every other image, on average.

    Source: DUA (Mirza et al., CVPR 2022), authors' code: 4 pixels of 32.
    """
    side = images.shape[-1]
    most = side // 8
    padded = F.pad(images, (most, most, most, most))
    places = torch.randint(0, 2 * most + 1, (len(images), 2)).tolist()
    turns = torch.randint(0, 4, (len(images),)).tolist()
    mirrored = ((torch.rand(len(images)) < 0.5) & flip).tolist()
    out = []
    for image, (top, left), turn, mirror in zip(padded, places, turns, mirrored, strict=True):
        view = image[:, top : top + side, left : left + side]
        out.append(torch.rot90(view.flip(-1) if mirror else view, turn, (-2, -1)))
    return torch.stack(out)
