"""Training a classifier on labelled images: source models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from dabench import views
from dabench.contract.access import Unlabelled, survey_size
from dabench.contract.data import Labelled
from dabench.contract.decay import DecayingSGD
from dabench.contract.floats import to_float
from dabench.contract.network import Network
from dabench.contract.seeding import seed
from dabench.contract.types import Frozen, IntArray
from dabench.errors import DataError, TrainingError

NO_IMAGES = (
    "this data set has no images of its source, which is known by its models alone: name one with "
    "--source-model resnet50, or with a file of yours"
)


@dataclass(frozen=True)
class Recipe:
    """How a source model is trained.

    SHOT's recipe (object/image_source.py): cross-entropy with label smoothing .1, bottleneck and
    weight-normalised classifier, SGD with Nesterov momentum, backbone at a tenth of the rate.
    ``plain`` is the black-box variant: a linear head. A backbone that starts from nothing learns
    at the full rate (``backbone_factor`` 1), which the literature, always pretrained, never needs.
    """

    backbone: str
    weights: str
    epochs: int
    freeze: Frozen = 0
    plain: bool = False
    label_smoothing: float = 0.1
    lr: float = 1e-2
    batch_size: int = 64
    #: that train it together, each a part of every batch
    devices: int = 1

    @property
    def backbone_factor(self) -> float:
        """Learning-rate factor of the backbone."""
        return 1.0 if self.weights == "none" else 0.1


def training_rows(data: Labelled, val: Labelled | None) -> IntArray:
    """Return the rows that training sees: all where there is a validation set, else 90 %."""
    return np.arange(len(data.labels)) if val is not None else hold_out(data)[0]


def hold_out(data: Labelled, share: float = 0.1) -> tuple[IntArray, IntArray]:
    """Split rows per class: (train, val), each in increasing order.

    A class with a single image keeps it for training.

    Raises:
        DataError: no class has two images, so that nothing is left for validation, or fewer than
            two images are left for training; or there are no source images at all.
    """
    if not len(data.labels):
        raise DataError(NO_IMAGES)
    rng = np.random.default_rng(seed(0, "source", "hold-out"))
    val = [
        rng.permutation(rows)[: min(max(1, round(share * len(rows))), len(rows) - 1)]
        for rows in (np.flatnonzero(data.labels == c) for c in np.unique(data.labels))
    ]
    held = np.sort(np.concatenate(val))
    if not len(held) or len(data.labels) - len(held) < 2:
        raise DataError(
            f"the source has {len(data.labels)} image(s) of {len(val)} class(es): too few to train "
            "on and to hold one out of a class that has two; add source images"
        )
    return np.setdiff1d(np.arange(len(data.labels)), held), held


def fit_supervised(
    net: Network,
    data: Labelled,
    rows: IntArray,
    recipe: Recipe,
    flip: bool,
    base_seed: int,
    progress: bool,
    title: str,
) -> None:
    """Train a network on labelled images.

    Raises:
        TrainingError: the loss is not finite.
    """
    device = net.mean.device
    batches = (
        Unlabelled(data.images, rows)
        .on(device)
        .loader(recipe.batch_size, shuffle=True, seed=seed(base_seed, title, "batches"))
    )
    groups = net.parameter_groups(recipe.lr, recipe.backbone_factor)
    optimiser = DecayingSGD(groups, total_steps=recipe.epochs * len(batches))
    labels = torch.from_numpy(data.labels[rows])
    net.train()
    steps = recipe.epochs * len(batches)
    bar = tqdm(total=steps, desc=title, disable=not progress or None, leave=False)
    for epoch in range(recipe.epochs):
        for batch in batches:
            logits = net(views.weak(batch.images.to(device), flip=flip))
            truth = labels[batch.index].to(device)
            learn(logits, truth, optimiser, recipe.label_smoothing, f"{title}, epoch {epoch}")
            bar.update()
    bar.close()
    net.eval()


def learn(
    logits: Tensor,
    labels: Tensor,
    optimiser: DecayingSGD,
    label_smoothing: float,
    where: str,
    share: float = 1.0,
) -> None:
    """Make one step of supervised training.

    Args:
        logits: (B, K).
        labels: (B,) classes.
        optimiser: of all that learns.
        label_smoothing: of the cross-entropy.
        where: for the message.
        share: factor of the loss.

    Raises:
        TrainingError: the loss is not finite.
    """
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    if not torch.isfinite(loss):
        raise TrainingError(f"{where}: the loss is {loss.item()}")
    optimiser.zero_grad()
    torch.autograd.backward(loss * share if share != 1.0 else loss)
    optimiser.step()


def supervised_accuracy(net: Network, data: Labelled, rows: IntArray) -> float:
    """Return the accuracy of ``net`` in eval mode on ``rows`` of labelled images."""
    net.eval()
    hits = 0
    with torch.no_grad():
        size = survey_size(data.images[rows[:1]].shape[1])
        for chunk in np.array_split(rows, max(1, len(rows) // size)):
            logits = net(to_float(data.images[chunk], net.mean.device))
            hits += int((logits.argmax(1).cpu().numpy() == data.labels[chunk]).sum())
    return hits / max(1, len(rows))
