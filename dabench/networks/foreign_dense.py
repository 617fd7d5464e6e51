"""A segmentation model of somebody else as a network of dabench."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dabench.errors import ConfigError, DabenchError, did_you_mean, one_line, reason_of
from dabench.networks.dense import DenseNetwork
from dabench.networks.dense_backbones import SegmenterParts
from dabench.networks.foreign import Values, check_normalisation
from dabench.networks.precision import passed

#: names under which dictionaries hold logits: torchvision's, and those of transformers
_KEYS = ("out", "logits")


class _Reached(Exception):
    """Carries feature maps out of a model's ``forward``."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps


class _Tap(nn.Module):
    """Stands where a model had its classifier; what the model does behind it is not run."""

    def forward(self, maps: Tensor) -> Tensor:
        """Leave with what the classifier would have been given."""
        raise _Reached(maps)


class ForeignSegmenter(DenseNetwork):
    """A model (B, 3, H, W) -> (B, K, h, w) whose answers come at the images' own size.

    With ``head``, ``features`` are the maps that reach that convolution, and it is ``classifier``.
    Without, the two are not told apart: ``features`` are the model's logits at its own size, and
    ``classifier`` is ``nn.Identity``.

    Args:
        model: in eval mode; changed in place.
        head: name of its last convolution, or None.
        normalisation: mean and std of [0, 1] images.
        name: of the model, which error messages begin with.
    """

    def __init__(self, model: nn.Module, head: str | None, normalisation: Any, name: str) -> None:
        super().__init__(SegmenterParts(model, nn.Identity(), 1, 1, normalisation), 1, name)
        self.classifier, self.head_name, self.pretrained = nn.Identity(), head, True
        if head is not None:
            self.classifier = model.get_submodule(head)
            if head:
                model.set_submodule(head, _Tap())
            else:
                self.backbone = _Tap()
        # mean and std have to lie where the model does
        self.to(next((p.device for p in self.parameters()), torch.device("cpu"))).eval()

    def features(self, images: Tensor) -> Tensor:
        """Return (B, D, h, w) maps, or without a head (B, K, h, w) logits.

        Raises:
            ConfigError: images of a size that the model does not take, or no maps.
        """
        self.cost.count(len(images), backward=torch.is_grad_enabled())
        # frames lie channels last, and the code of a model of somebody else may use view()
        x = ((images - self.mean) / self.std).contiguous()
        if self.precision is not None:
            out = passed((self.backbone,), x, self.precision, partial(self._maps, x))
        else:
            out = self._maps(x, partial(self.backbone, x))
        self.cost.follow(out)
        return out

    def _maps(self, images: Tensor, run: Callable[[], Any]) -> Tensor:
        """Run the model on images, and return the maps that its answer holds, or that it reached.

        Raises:
            ConfigError: as ``features``.
        """
        try:
            answer = run()
        except _Reached as reached:
            return reached.maps
        except (DabenchError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a model of somebody else raises whatever its authors chose
            height, width = images.shape[-2:]
            raise ConfigError(
                f"{self.name} does not take images of {width} x {height} px, width x height "
                f"({type(error).__name__}: {reason_of(error)}); give another --image-size"
            ) from error
        return _maps_of(answer, self.name)


def wrap_segmenter(
    model: nn.Module,
    num_classes: int,
    example: Tensor,
    *,
    head: str | None = None,
    mean: Values = (0.0, 0.0, 0.0),
    std: Values = (1.0, 1.0, 1.0),
    name: str = "model",
) -> ForeignSegmenter:
    """Return a copy of a segmentation model as a network of dabench.

    Features and classifier are told apart where a convolution to K maps gives, resized to the
    images, what the model gives.

    Args:
        model: (B, 3, H, W) -> (B, K, h, w) logits, or a dictionary that holds them under ``out`` or
            ``logits``; left as it is.
        num_classes: K.
        example: (B, 3, H, W) images in [0, 1], on which the model is tried.
        head: name of its classifier as in ``model.named_modules()``; None = the last convolution
            with K outputs behind which nothing but a resizing happens, if there is one.
        mean: per channel, of [0, 1] images, that the model expects to be taken off.
        std: likewise, to be divided by.
        name: of the model, which error messages begin with.

    Raises:
        ConfigError: another number of outputs, answers that are no logits, images that the model
            does not take, or a ``head`` that is not the last thing that it does.
    """
    check_normalisation(mean, std)
    normalisation = (tuple(mean), tuple(std))

    def wrap(classifier: str | None) -> ForeignSegmenter:
        twin = copy.deepcopy(model).eval()
        return ForeignSegmenter(twin, classifier, normalisation, name)

    whole = wrap(None)
    example = example.to(whole.mean.device)
    with torch.no_grad():
        _check(whole.features(example), len(example), num_classes, name)
        expected = whole(example)
    for classifier in _heads(model, num_classes, head, name):
        network = wrap(classifier)
        if _same(network, example, expected):
            return network
    if head is not None:
        raise ConfigError(
            f"{name} does something after its layer {head} (a softmax, a second head), so that "
            "features and classifier cannot be told apart; name another --source-head, or none"
        )
    return whole


def _heads(model: nn.Module, num_classes: int, head: str | None, name: str) -> list[str]:
    """Return the names of convolutions that may be the classifier, the last one first."""
    convolutions = {str(n): m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    fitting = [n for n, m in convolutions.items() if (m.out_channels, m.groups) == (num_classes, 1)]
    if head is None:
        return fitting[::-1]
    if head not in fitting:
        raise ConfigError(
            f"{name}: it has no convolution '{one_line(head, 100)}' with {num_classes} outputs"
            f"{did_you_mean(head, fitting)}"
        )
    return [head]


def _maps_of(answer: Any, name: str) -> Tensor:
    """Return the (B, C, h, w) logits in what a model answered."""
    if isinstance(answer, Mapping):
        answer = next((answer[key] for key in _KEYS if key in answer), answer)
    if isinstance(answer, Tensor) and answer.ndim == 4 and answer.is_floating_point():
        return answer
    what = f"a {type(answer).__name__}"
    if isinstance(answer, Tensor):
        what = f"{tuple(answer.shape)} {str(answer.dtype).removeprefix('torch.')}"
    elif isinstance(answer, Mapping):
        what = f"a dictionary of {', '.join(map(str, list(answer)[:5])) or 'nothing'}"
    elif isinstance(answer, list | tuple):
        what = f"a {type(answer).__name__} of {len(answer)}"
    raise ConfigError(
        f"{name} answered {one_line(what, 200)}; expected (B, K, h, w) logits, or a dictionary "
        "that holds them under 'out' or 'logits': return them alone from its forward()"
    )


def _check(logits: Tensor, count: int, num_classes: int, name: str) -> None:
    """Raise ``ConfigError`` where (B, C, h, w) are not logits of ``count`` images."""
    batch, outputs = logits.shape[:2]
    if batch != count:
        raise ConfigError(f"{name} answered {count} image(s) by {batch}; expected as many answers")
    if outputs != num_classes:
        raise ConfigError(
            f"{name} has {outputs} outputs a pixel, and the data set has {num_classes} classes; "
            "return from its forward() one for each class of the data set, in their order "
            f"(logits[:, :{num_classes}] cuts off what comes last)"
        )
    if not bool(torch.isfinite(logits).all()):
        raise ConfigError(
            f"{name} gives logits that are not finite; look at its weights, and at mean and std"
        )
    if bool((logits >= 0).all()) and torch.allclose(logits.sum(1), torch.ones(()).to(logits)):
        raise ConfigError(
            f"{name} answers by probabilities; expected logits: leave the softmax out"
        )


@torch.no_grad()
def _same(network: ForeignSegmenter, images: Tensor, expected: Tensor) -> bool:
    """Say whether features and classifier give what the model gave."""
    try:
        return torch.allclose(network(images), expected, rtol=1e-4, atol=1e-5)
    except (ConfigError, RuntimeError, TypeError):
        return False
