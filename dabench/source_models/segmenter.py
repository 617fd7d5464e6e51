"""How a segmentation network is trained on labelled source frames; ``loading`` caches it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from dabench import views
from dabench.contract.data import Frames
from dabench.contract.floats import to_float
from dabench.contract.seeding import seed
from dabench.contract.types import IGNORE, Frozen, Task
from dabench.errors import DataError, TrainingError
from dabench.metrics import segmentation
from dabench.networks.dense import DenseNetwork, build_segmenter, check_size
from dabench.views.warps import Warp

#: frames that are scored at once
SCORING_BATCH_SIZE = 8


@dataclass(frozen=True)
class DenseRecipe:
    """How a segmentation model is trained.

    Pixel-wise cross-entropy and a rate that falls as (1 - done)^power ("poly"; Chen et al.,
    DeepLab, 2018). AdamW in place of the literature's SGD, because it takes a network that starts
    from nothing further in few epochs; the backbone learns at a tenth of the rate, whether it
    starts from trained weights or from nothing.
    """

    backbone: str
    weights: str
    epochs: int
    freeze: Frozen = 0
    batch_size: int = 8
    lr: float = 2e-3
    pretrained_lr: float = 5e-4
    weight_decay: float = 1e-2
    power: float = 0.9
    scale: tuple[float, float] = (0.75, 1.75)
    jitter: float = 0.25


def train(
    recipe: DenseRecipe,
    task: Task,
    frames: Frames,
    base_seed: int,
    device: str,
    progress: bool,
) -> DenseNetwork:
    """Train a network on labelled frames; the caller has seeded torch.

    Raises:
        ConfigError: a name that is unknown, or images smaller than the network's stride.
        DataError: a label outside the classes.
        TrainingError: the loss is not finite.
    """
    net = build_segmenter(recipe.backbone, recipe.weights, task.num_classes)
    check_size(net.name, net.stride, task.shape)
    net.to(device).freeze_trunk(recipe.freeze)
    fit(net, recipe, task, frames, seed(base_seed, "source training", "batches"), progress)
    return net


def fit(
    net: DenseNetwork,
    recipe: DenseRecipe,
    task: Task,
    frames: Frames,
    batches_seed: int,
    progress: bool,
) -> None:
    """Run the recipe's epochs; raises ``DataError`` and ``TrainingError`` as :func:`train`."""
    steps = recipe.epochs * steps_per_epoch(len(frames.masks), recipe.batch_size)
    trained = recipe.weights != "none"
    groups = net.parameter_groups(recipe.pretrained_lr if trained else recipe.lr)
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: (1.0 - min(step, steps - 1) / max(1, steps)) ** recipe.power
    )
    batches = augmented_batches(
        frames, task, recipe.batch_size, batches_seed, net.mean.device, recipe.scale, recipe.jitter
    )
    net.train()
    bar = tqdm(total=steps, desc="source training", disable=not progress or None, leave=False)
    for step, (images, masks) in zip(range(steps), batches, strict=False):
        loss = pixel_loss(net(images), masks)
        if not torch.isfinite(loss):
            raise TrainingError(f"source training: loss is {loss.item()} at step {step}")
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        bar.update()
    bar.close()
    net.eval()


def pixel_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean cross-entropy over labelled pixels; 0 where no pixel has a label.

    Args:
        logits: (B, K, H, W).
        masks: (B, H, W) classes, ``IGNORE`` = no label.
    """
    total = F.cross_entropy(logits, masks.long(), ignore_index=IGNORE, reduction="sum")
    return total / (masks != IGNORE).sum().clamp(min=1)


def steps_per_epoch(frames: int, batch_size: int) -> int:
    """Return the number of batches an epoch; the frames left over come in another epoch."""
    return max(1, frames // batch_size)


def augmented_batches(
    frames: Frames,
    task: Task,
    batch_size: int,
    batches_seed: int,
    device: torch.device | str,
    scale: tuple[float, float] = DenseRecipe.scale,
    jitter: float = DenseRecipe.jitter,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return endless (images, masks): (B, 3, H, W) in [0, 1] and (B, H, W) uint8.

    Scale, crop and mirror move both; what comes from out of the frame is ``IGNORE``. Brightness,
    contrast and saturation change the images alone. The order depends on ``batches_seed``, the
    views on torch's default generator.

    Raises:
        DataError: a label outside the classes, or a mask of another size than its image.
    """
    for rows in shuffled_batches(len(frames.masks), batch_size, batches_seed):
        images, masks = load_batch(frames, rows, task)
        images, masks = images.to(device), masks.to(device)
        warp = Warp.draw(
            len(images), flip=task.flip, scale=scale, degrees=0.0, shift=0.25, device=device
        )
        images = views.colour(
            warp.apply(images), brightness=jitter, contrast=jitter, saturation=jitter
        )
        yield images, warp.apply_masks(masks)


def shuffled_batches(count: int, batch_size: int, batches_seed: int) -> Iterator[np.ndarray]:
    """Return endless batches of rows of whole epochs; a last, smaller batch is left out."""
    generator = torch.Generator().manual_seed(batches_seed)
    size = min(batch_size, count)
    while True:
        order = torch.randperm(count, generator=generator).numpy()
        for first in range(0, count - size + 1, size):
            yield order[first : first + size]


def load_batch(frames: Frames, rows: np.ndarray, task: Task) -> tuple[Tensor, Tensor]:
    """Return (B, 3, H, W) images in [0, 1] and (B, H, W) uint8 masks.

    Raises:
        DataError: a label outside the classes, or a mask of another size than its image.
    """
    images, masks = to_float(frames.images[rows]), np.array(frames.masks[rows])
    if images.shape[-2:] != masks.shape[-2:]:
        raise DataError(
            f"source frame {rows[0]}: image of {images.shape[-1]} x {images.shape[-2]} px, mask of "
            f"{masks.shape[-1]} x {masks.shape[-2]}; the data set must bring both to one size"
        )
    wrong = masks[(masks >= task.num_classes) & (masks != IGNORE)]
    if len(wrong):
        raise DataError(
            f"source masks hold the label {wrong[0]}; expected 0 to {task.num_classes - 1} for the "
            f"{task.num_classes} classes, or {IGNORE} for pixels without one"
        )
    return images, torch.from_numpy(masks)


@torch.no_grad()
def mean_iou(net: DenseNetwork, frames: Frames, task: Task) -> float:
    """Return the mean IoU in eval mode, over classes that are present or predicted."""
    net.eval()
    counts = torch.zeros(task.num_classes, task.num_classes, dtype=torch.int64)
    parts = max(1, -(-len(frames.masks) // SCORING_BATCH_SIZE))
    for rows in np.array_split(np.arange(len(frames.masks)), parts):
        images, masks = load_batch(frames, rows, task)
        found = net(images.to(net.mean.device)).argmax(1).cpu()
        counts += segmentation.pixel_confusion(found, masks, task.num_classes)
    if not counts.any():
        raise DataError("no pixel of the held-out source frames has a class: nothing to score")
    return float(segmentation.mean_iou(counts))
