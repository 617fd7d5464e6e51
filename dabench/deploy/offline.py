"""``dabench.adapt``: a model adapted to a pile of unlabelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dabench import registry
from dabench.config.signature import validate_options
from dabench.config.spec import usual_init
from dabench.contract.access import Budget, Recorder, SourceFree, Unlabelled, to_float
from dabench.contract.cost import Cost
from dabench.contract.method import OfflineMethod
from dabench.contract.protocol import Plan, Run
from dabench.contract.seeding import seed as seed_of
from dabench.contract.seeding import seeded
from dabench.contract.stream import Stream
from dabench.contract.types import Init, Prediction, Task
from dabench.deploy.live import method_class, online
from dabench.engine.fit import fit, predict_all
from dabench.errors import ConfigError, DataError
from dabench.metrics import label_free
from dabench.metrics.predictions import Predictions, gather
from dabench.networks.foreign import Values, wrap_classifier


class AdaptedModel(nn.Module):
    """What an adapted method answers: (B, 3, H, W) images in [0, 1] -> (B, K) logits."""

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.method = method
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Answer images; nothing is learned."""
        logits: Tensor = self.method.predict(images).logits
        return logits


@dataclass(frozen=True)
class Adapted:
    """The outcome of an adaptation; nothing in it was measured against labels.

    Attributes:
        model: the adapted model.
        classes: names of the K classes.
        before: what the model said of the images before.
        after: what it says now; on a stream, what it said when each image came.
        cost: what the adaptation took, in images forwarded and backwarded, and seconds.
        network: the network behind the answers, where there is one; a stream has none.
    """

    model: nn.Module
    classes: tuple[str, ...]
    before: Predictions
    after: Predictions
    cost: dict[str, float]
    network: Any = None

    @property
    def labels(self) -> list[str]:
        """The class of every image by name; ``unknown`` where it is none of them."""
        names = [*self.classes, "unknown"]
        return [names[i] for i in self.after.decided(len(self.classes))]


def adapt(
    model: nn.Module,
    images: np.ndarray | Tensor,
    method: str | type[Any] = "shot",
    *,
    classes: Sequence[str] | None = None,
    open_set: bool = False,
    epochs: int = 10,
    batch_size: int = 64,
    init: Init | None = None,
    head: str | None = None,
    mean: Values = (0.0, 0.0, 0.0),
    std: Values = (1.0, 1.0, 1.0),
    flip: bool = True,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
    **options: Any,
) -> Adapted:
    """Adapt a model to unlabelled images: ``adapted = dabench.adapt(model, images, "shot")``.

    Args:
        model: any module from images to (B, K) logits that ends in a linear layer; it stays as it
            is, a copy adapts.
        images: (N, H, W, 3) uint8, or an (N, 3, H, W) tensor in [0, 1], which is rounded to 8 bits.
        method: name of a source-free method or one for streams (the images' order is the
            stream's), ``file.py:Class``, or a class.
        classes: names of the K classes; None = their numbers.
        open_set: whether there may be images of none of the classes.
        epochs: passes over the images; a stream has one.
        batch_size: images a batch.
        init: ``source`` or ``bn-target``; None = the method's own.
        head: name of the classifier; None = the last linear layer.
        mean: per channel, that the model expects to be taken off [0, 1] images.
        std: likewise, to be divided by.
        flip: whether a mirrored image keeps its class.
        seed: of everything that is drawn.
        device: where it happens.
        progress: show a bar.
        options: the method's hyper-parameters.

    Raises:
        DabenchError: a model, images, a method or an option that do not fit; a training that fails.
    """
    cls = method_class(method)
    pictures = _pictures(images)
    wrapping: dict[str, Any] = {"head": head, "mean": mean, "std": std}
    if not issubclass(cls, OfflineMethod):
        if open_set:
            raise ConfigError(f"{cls.__name__} answers streams, and knows no unknown classes")
        usual: dict[str, Any] = {"classes": classes, "batch_size": batch_size, "seed": seed}
        return _along(model, pictures, cls, usual | {"flip": flip} | wrapping, options)
    if not issubclass(SourceFree, cls.grant):
        raise ConfigError(
            f"{cls.__name__} asks a black box; dabench.adapt hands out the model itself: choose a "
            "source-free method such as shot or usd"
        )
    target = Unlabelled(pictures, np.arange(len(pictures)))
    k = None if classes is None else len(classes)
    network = wrap_classifier(model, k, example=to_float(pictures[:2]), **wrapping)
    names = tuple(classes or map(str, range(network.classifier.out_features)))
    task = Task("classification", names, pictures.shape[1], open_set, flip)
    plan = Plan(task, None, None, {"adapt": target}, {}, Stream((), batch_size, seed))  # type: ignore[arg-type]
    start = init or usual_init(cls, "pretrained")
    run = Run(start, Budget(epochs, batch_size), seed, device, Recorder(), progress)  # type: ignore[arg-type]
    protocol = registry.protocol("sf-osda" if open_set else "sf-uda")()
    cost = Cost()
    built = cls(**validate_options(cls, options, "method"))
    before = _answers(network, target, device)
    grant = protocol.make_grant(plan, network, run, run.recorder, cost)
    with seeded(seed_of(seed, "adaptation")):  # as a protocol does it, and no earlier
        built.begin(grant)
        _, seconds = fit(built, target, cost, run)
        built.calibrate()
        after = predict_all(built, target, device, cost, judge=True)
    spent = {"images_forward": float(cost.forward), "images_backward": float(cost.backward)}
    spent |= {"adapt_seconds": seconds}
    return Adapted(AdaptedModel(built), names, before, after, spent, built.adapted_network())


def _along(
    model: nn.Module,
    pictures: np.ndarray,
    cls: type[Any],
    usual: dict[str, Any],
    options: dict[str, Any],
) -> Adapted:
    """Push the images through a method for streams, in their order."""
    live = online(model, cls, **usual, **options)
    parts = np.array_split(pictures, -(-len(pictures) // usual["batch_size"]))
    logits = torch.cat([live(to_float(part)) for part in parts])
    wrapping = {name: usual[name] for name in ("head", "mean", "std")}
    source = wrap_classifier(model, logits.shape[1], **wrapping)
    target = Unlabelled(pictures, np.arange(len(pictures)))
    names = tuple(usual["classes"] or map(str, range(logits.shape[1])))
    cost = {
        "images_forward": float(live.cost.forward),
        "images_backward": float(live.cost.backward),
    }
    before = _answers(source, target, "cpu")
    return Adapted(AdaptedModel(live.method), names, before, _summary(logits), cost)


@torch.no_grad()
def _answers(network: Any, target: Unlabelled, device: str) -> Predictions:
    network.to(device).eval()
    return _summary(torch.cat([network(b.images.to(device)).cpu() for b in target.survey()]))


def _summary(logits: Tensor) -> Predictions:
    answers = [Prediction(logits.float().cpu())]
    return replace(gather(answers), judged=label_free.scores(answers))


def _pictures(images: np.ndarray | Tensor) -> np.ndarray:
    """Return (N, H, W, 3) uint8.

    Raises:
        DataError: another shape or type, or fewer than two images.
    """
    if isinstance(images, Tensor):
        if images.is_floating_point():
            images = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        images = images.permute(0, 2, 3, 1).cpu().numpy() if images.ndim == 4 else images.numpy()
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or len(images) < 2:
        raise DataError(
            f"images are {tuple(images.shape)} of {images.dtype}; expected two or more, as "
            "(N, H, W, 3) uint8 or an (N, 3, H, W) tensor in [0, 1]"
        )
    return images
