"""``dabench.adapt``: a model adapted to a pile of unlabelled images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dabench import registry
from dabench.config.hardware import resolve_device
from dabench.config.signature import validate_options
from dabench.config.spec import usual_init
from dabench.contract.access import BlackBox, Budget, Recorder, SourceFree, Unlabelled
from dabench.contract.cost import Cost
from dabench.contract.floats import to_float
from dabench.contract.method import OfflineMethod, OnlineMethod
from dabench.contract.protocol import Plan, Run
from dabench.contract.seeding import seed as seed_of
from dabench.contract.seeding import seeded
from dabench.contract.types import Init, Task
from dabench.deploy import black_box
from dabench.deploy.adapted import (
    Adapted,
    check_answers_pictures,
    class_names,
    method_class,
    pictures_of,
    summary,
    whole_numbers,
    wrapped,
)
from dabench.deploy.fitting import fitted, plan_of
from dabench.deploy.live import BEYOND_A_MODEL
from dabench.deploy.stream import Work, along
from dabench.errors import AccessError, ConfigError, shown
from dabench.metrics.predictions import Predictions
from dabench.networks.foreign import Values
from dabench.oracle.answer_forms import Answerer


def adapt(
    model: nn.Module | Answerer,
    images: np.ndarray | Tensor,
    method: str | type[Any] = "shot",
    *,
    classes: Sequence[str] | None = None,
    open_set: bool = False,
    epochs: int | None = None,
    batch_size: int = 64,
    init: Init | None = None,
    head: str | None = None,
    mean: Values = (0.0, 0.0, 0.0),
    std: Values = (1.0, 1.0, 1.0),
    flip: bool = True,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
    backbone: str | None = None,
    weights: str | None = None,
    cache_dir: Path | None = None,
    work: Work | None = None,
    **options: Any,
) -> Adapted:
    """Adapt a model to unlabelled images: ``adapted = dabench.adapt(model, images, "shot")``.

    A black-box method asks the model for its answers, and trains a network of its own.

    Args:
        model: any module from images to (B, K) logits that ends in a linear layer; it stays as it
            is, a copy adapts. For black-box methods also a model elsewhere:
            ``dabench.oracle.http.Http(url, token)``.
        images: (N, S, S, 3) uint8, or an (N, 3, S, S) tensor in [0, 1], which is rounded to 8 bits.
        method: name of a source-free or black-box method or one for streams (the images' order is
            the stream's), ``file.py:Class``, or a class.
        classes: names of the K classes; None = their numbers, or what a model elsewhere says.
        open_set: whether there may be images of none of the classes.
        epochs: passes over the images; None = 10. A stream has one, and takes no number.
        batch_size: images a batch.
        init: ``source`` or ``bn-target``; None = the method's own. A stream begins from the model.
        head: name of the classifier; None = the last linear layer.
        mean: per channel, that the model expects to be taken off [0, 1] images.
        std: likewise, to be divided by.
        flip: whether a mirrored image keeps its class.
        seed: of everything that is drawn.
        device: where it happens: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        progress: show a bar.
        backbone: network that a black-box method trains, by name.
        weights: that it starts from: ``none``, ``pretrained`` or a path.
        cache_dir: where answers of a model elsewhere are kept; None = nowhere.
        work: where a stream's state is kept, to go on from; None = nowhere.
        options: the method's hyper-parameters.

    Raises:
        DabenchError: a model, images, a method or an option that do not fit; a training that fails.
    """
    cls, classes, device = method_class(method), class_names(classes), resolve_device(str(device))
    passes = 10 if epochs is None else epochs
    passes, batch_size, seed = whole_numbers(epochs=passes, batch_size=batch_size, seed=seed)
    if epochs is not None and not issubclass(cls, OfflineMethod):
        name = registry.called(cls)
        raise ConfigError(f"epochs={epochs}: {name} answers a stream, once; leave it out")
    check_batch(cls, batch_size)
    own = black_box.TargetNetwork(backbone, weights)
    check_asked(cls, model, options, own, open_set=open_set, init=init)
    pictures = pictures_of(images)
    wrapping: dict[str, Any] = {"head": head, "mean": mean, "std": std}
    usual: dict[str, Any] = {"classes": classes, "batch_size": batch_size, "seed": seed}
    start = init or usual_init(cls, "pretrained")
    run = Run(start, Budget(passes, batch_size), seed, device, Recorder(), progress)  # type: ignore[arg-type]
    if only_answers(cls, model):
        teacher = black_box.teacher(model, pictures, classes, device, wrapping)
        return black_box.adapt(
            teacher, pictures, cls, options, own, run, flip=flip, cache_dir=cache_dir
        )
    assert isinstance(model, nn.Module)
    if not issubclass(cls, OfflineMethod):
        return along(model, pictures, cls, usual | {"flip": flip} | wrapping, options, device, work)
    target = Unlabelled(pictures, np.arange(len(pictures)))
    network, names = wrapped(model, classes, to_float(pictures[:2]), wrapping)
    plan = plan_of(Task("classification", names, pictures.shape[1], open_set, flip), target, run)
    protocol = registry.protocol("sf-osda" if open_set else "sf-uda")()
    before = _answers(network, target, device)
    with seeded(seed_of(seed, "adaptation")):
        built = cls(**validate_options(cls, options, "method"))
    return fitted(built, plan, run, before, Cost(), _grants(protocol, plan, network, run))


def check_batch(cls: type[Any], batch_size: int) -> None:
    """Refuse batches of one image where networks are trained: BatchNorm needs two.

    Raises:
        ConfigError: says so.
    """
    if batch_size < 2 and issubclass(cls, OfflineMethod):
        raise ConfigError(
            f"batch_size {batch_size}: {registry.called(cls)} trains by batches, and BatchNorm "
            "needs two images or more"
        )


def check_asked(
    cls: type[Any],
    model: Any,
    options: Mapping[str, Any],
    own: black_box.TargetNetwork,
    *,
    open_set: bool,
    init: str | None,
    classes: Sequence[str] | None = None,
    side: int | None = None,
) -> None:
    """Refuse what no picture is needed to refuse; arguments as those of :func:`adapt`.

    With ``side``, what the images will have in pixels, a network of a black-box method is tried.

    Raises:
        DabenchError: a method that needs labels, frames or images of the source, an option that it
            lacks, or open sets, a start, classes or a network that do not go with it.
    """
    if init not in (None, "source", "bn-target"):
        raise ConfigError(f"init {shown(init)}: expected source or bn-target")
    name = registry.called(cls)
    built = cls(**validate_options(cls, options, "method"))
    check_answers_pictures(cls)
    if only_answers(cls, model):
        if open_set:
            raise ConfigError(f"{name} asks a black box, and knows no unknown classes")
        if init == "bn-target":
            raise ConfigError("a black box has no BatchNorm to re-estimate: leave bn-target out")
        trains = getattr(cls, "trains", False)
        if not trains and (own.backbone or own.weights):
            raise ConfigError(f"backbone, weights: {name} trains no network; leave them out")
        if trains and own.backbone is None:
            raise ConfigError(
                f"{name} trains a network of its own, and only asks the model: give --backbone "
                "(small-cnn, or a name of torchvision or timm)"
            )
        if side is not None:
            black_box.check_fits(model, cls, classes, side, own)
        return
    for option, value in (("backbone", own.backbone), ("weights", own.weights)):
        if value is not None:
            raise ConfigError(f"{option}: {name} adapts the model itself; leave it out")
    stream = not issubclass(cls, OfflineMethod)
    if stream and (missing := sorted(built.extras & BEYOND_A_MODEL)):
        raise AccessError(
            f"{name} needs {', '.join(missing)}, which a model alone has not: in Python only, "
            f"dabench.online(..., extras={{'{missing[0]}': ...}}); or choose another method"
        )
    if stream and init is not None:
        raise ConfigError(f"init: {name} answers a stream from the model as it is; leave it out")
    if open_set and stream:
        raise ConfigError(f"{name} answers streams, and knows no unknown classes")
    if open_set:
        check_open(cls)


def only_answers(cls: type[Any], model: Any) -> bool:
    """Return whether a method asks a model, and does not take it.

    Raises:
        ConfigError: it needs the model itself, and that is elsewhere.
    """
    elsewhere = not isinstance(model, nn.Module)
    if issubclass(BlackBox, cls.grant):
        takes = issubclass(SourceFree, cls.grant) or issubclass(cls, OnlineMethod)
        return elsewhere or not takes
    if elsewhere:
        named = (n for n, e in registry.METHODS.items() if e.protocols[0] == "bb-uda")
        raise ConfigError(
            f"{registry.called(cls)} needs the model itself, and this one only answers; choose one "
            f"of {', '.join(named)}"
        )
    return False


def check_open(cls: type[Any]) -> None:
    """Refuse a source-free method of dabench's own that is for closed sets alone."""
    entries = registry.METHODS.items()
    place = f"{cls.__module__}:{cls.__name__}"
    serving = {name: e.target for name, e in entries if "sf-osda" in e.protocols}
    if place in {e.target for _, e in entries} - set(serving.values()):
        named = (n for n in serving if n not in ("linear-probe", "target-supervised"))
        raise ConfigError(
            f"{registry.called(cls)} knows no unknown classes; choose one of {', '.join(named)}, "
            "or leave open sets out"
        )


def _grants(protocol: Any, plan: Plan, source: Any, run: Run) -> Callable[[Cost], Any]:
    return lambda cost: protocol.make_grant(plan, source, run, run.recorder, cost)


@torch.no_grad()
def _answers(network: Any, target: Unlabelled, device: str) -> Predictions:
    network.to(device).eval()
    return summary(torch.cat([network(b.images.to(device)).cpu() for b in target.survey()]))
