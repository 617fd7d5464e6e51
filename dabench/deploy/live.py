"""``dabench.online``: a model that adapts while it answers, as a module for a deployment loop."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dabench import registry
from dabench.config.signature import validate_options
from dabench.contract.access import Online, Recorder, TargetBatch
from dabench.contract.answers import check_logits
from dabench.contract.cost import Cost, GrantedCost
from dabench.contract.method import OnlineMethod
from dabench.contract.seeding import seed as seed_of
from dabench.contract.seeding import seeded
from dabench.contract.types import Task
from dabench.deploy.adapted import (
    check_answers_pictures,
    check_images,
    class_names,
    method_class,
    whole_numbers,
    wrapped,
)
from dabench.deploy.own_random import OwnRandom
from dabench.errors import AccessError, ConfigError
from dabench.networks.foreign import Values


class LiveModel(nn.Module):
    """Answers batches and learns from each, once, without labels.

    It begins with its first batch, which tells the images' size. ``state_dict`` holds all that
    later answers depend on: loaded into a fresh one, the loop goes on bit for bit. Random numbers
    are its own: nothing else that draws moves its answers, nor does it move others.
    """

    def __init__(
        self,
        model: nn.Module,
        method: type[OnlineMethod],
        options: Mapping[str, Any],
        *,
        classes: Sequence[str] | None,
        image_size: int | None,
        batch_size: int,
        seed: int,
        flip: bool,
        extras: Mapping[str, Any],
        wrapping: Mapping[str, Any],
    ) -> None:
        super().__init__()
        #: in a tuple, so that it is no part of the state
        self._given = (model,)
        self._method_class, self._options = method, dict(options)
        self._classes = None if classes is None else tuple(map(str, classes))
        self._batch_size, self._seed, self._extras = batch_size, seed, dict(extras)
        self._wrapping, self._flip = dict(wrapping), flip
        self._images = 0
        self._side: int | None = None
        self._draws_from = seed_of(seed, "adaptation", "0")
        self._random = OwnRandom(self._draws_from)
        self.method: Any = None
        self.cost = Cost()
        if image_size is not None:
            self._begin(image_size, None)

    def reset(self) -> None:
        """Forget all that was learned; the next batch begins from the model as it was given."""
        self.method, self._images, self._side, self.cost = None, 0, None, Cost()
        self._random = OwnRandom(self._draws_from)

    def forward(self, images: Tensor) -> Tensor:
        """Answer (B, 3, S, S) images in [0, 1] by (B, K) logits, and learn from them.

        Raises:
            DabenchError: images or a model that do not fit; names what.
        """
        images = self._ready(images)
        device = self._network_device()
        index = torch.arange(self._images, self._images + len(images))
        batch = TargetBatch(images.clone(), index).to(device)
        with self._random.drawing(device), torch.enable_grad():
            logits: Tensor = self.method.step(batch)
        check_logits(
            self.method, "step", logits, images, num_classes=self._k, dense=False, step=self._images
        )
        self._images += len(images)
        return logits.detach()

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Answer (B, 3, S, S) images in [0, 1] by (B, K) logits without learning from them."""
        images = self._ready(images)
        with torch.random.fork_rng():
            own = images.to(self._network_device()).clone()  # the caller's stay as they are
            logits: Tensor = self.method.predict(own).logits
        return logits

    def train(self, mode: bool = True) -> LiveModel:
        """Change no mode of the method's networks: dropout stays off while they learn."""
        self.training = mode
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> LiveModel:
        """Move or convert what is there.

        Raises:
            ConfigError: nothing is there yet, so that nothing would be moved.
        """
        if self.method is None:
            raise ConfigError(
                "it has not begun, so that there is nothing to move or convert: do it to the model "
                "that you give, or give dabench.online(..., image_size=SIDE)"
            )
        moved: LiveModel = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved

    def _ready(self, images: Tensor) -> Tensor:
        """Refuse images that do not fit; begin with the first ones; return them as 32-bit floats.

        Images of 16 bits stay as they are: so may the model.
        """
        check_images(images)
        images = images.float() if images.dtype == torch.float64 else images
        side, (height, width) = self._side or images.shape[2], images.shape[2:]
        if (height, width) != (side, side):
            raise ConfigError(
                f"images are {height} x {width} pixels; expected {side} x {side}, as the first: "
                "square ones, all of one size"
            )
        if self.method is None:
            self._begin(side, images)
        return images

    def _begin(self, image_size: int, example: Tensor | None) -> None:
        self._side, shown = image_size, None if example is None else example[:2]
        network, names = wrapped(self._given[0], self._classes, shown, self._wrapping)
        self._k = int(network.classifier.weight.shape[0])
        network.cost = GrantedCost(self.cost)
        task = Task("classification", names, image_size, flip=self._flip)
        with seeded(self._draws_from):  # for a method that draws where it is built
            method = self._method_class(**self._options)
        if unknown := sorted(self._extras.keys() - method.extras):
            takes = ", ".join(sorted(method.extras)) or "none"
            called = registry.called(self._method_class)
            raise ConfigError(f"extras {', '.join(unknown)}: {called} takes {takes}")
        missing = sorted(method.extras & BEYOND_A_MODEL - self._extras.keys())
        if missing:
            name = registry.called(self._method_class)
            raise AccessError(
                f"{name} needs {', '.join(missing)}, which a model alone has not; "
                f"give extras={{'{missing[0]}': ...}}, or choose another method"
            )
        extras = {name: copy.deepcopy(value) for name, value in self._extras.items()}
        with seeded(self._draws_from):
            method.begin(Online(task, network, self._batch_size, self._seed, Recorder(), extras))
            self._random.begin()
        self.method = method

    def _network_device(self) -> torch.device:
        return next((p.device for p in self.method.parameters()), torch.device("cpu"))

    def get_extra_state(self) -> dict[str, Any]:
        """Return the count of images and the state of the random numbers."""
        return {"images": self._images, **self._random.state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._images = int(state["images"])
        self._random.load(state)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load what :meth:`state_dict` gave.

        Raises:
            ConfigError: it has not begun, so that there is nothing to load into.
        """
        if self.method is None:
            raise ConfigError("it has not begun: give dabench.online(..., image_size=SIDE) first")
        return super().load_state_dict(state_dict, *args, **kwargs)


#: extras that need more than a model
BEYOND_A_MODEL = frozenset({"fisher-images", "source-statistics", "source-parts"})


def online(
    model: nn.Module,
    method: str | type[OnlineMethod] = "tent",
    *,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    head: str | None = None,
    mean: Values = (0.0, 0.0, 0.0),
    std: Values = (1.0, 1.0, 1.0),
    batch_size: int = 64,
    seed: int = 0,
    flip: bool = True,
    extras: Mapping[str, Any] | None = None,
    **options: Any,
) -> LiveModel:
    """Return a model that adapts while it answers: ``live = dabench.online(model, "tent")``.

    Args:
        model: any module from images to (B, K) logits that ends in a linear layer; it stays as it
            is, a copy adapts.
        method: name of a method for streams, ``file.py:Class``, or a class.
        classes: names of the K classes; None = their numbers.
        image_size: of the images in pixels, for who loads a state before the first batch.
        head: name of the classifier; None = the last linear layer.
        mean: per channel, that the model expects to be taken off [0, 1] images.
        std: likewise, to be divided by.
        batch_size: images a batch, as far as they are known; methods with schedules look at it.
        seed: of what the method draws.
        flip: whether a mirrored image keeps its class.
        extras: what the method wants beyond a model, by name (``fisher-images``).
        options: the method's hyper-parameters.

    Raises:
        DabenchError: no such method, one that is not for streams, an option that does not fit.
    """
    cls = method_class(method)
    if not issubclass(cls, OnlineMethod):
        known = registry.METHODS.items()
        served = (n for n, e in known if "online-tta" in e.protocols and not e.frozen_trunk)
        fits = (n for n in served if not hasattr(registry.method(n), "reveal"))
        raise ConfigError(
            f"{registry.called(cls)} is no method for streams; dabench.adapt takes it, or choose "
            f"one of {', '.join(fits)}"
        )
    check_answers_pictures(cls)
    batch_size, seed = whole_numbers(batch_size=batch_size, seed=seed)
    return LiveModel(
        model,
        cls,
        validate_options(cls, options, "method"),
        classes=class_names(classes),
        image_size=image_size,
        batch_size=batch_size,
        seed=seed,
        flip=flip,
        extras=extras or {},
        wrapping={"head": head, "mean": mean, "std": std},
    )
