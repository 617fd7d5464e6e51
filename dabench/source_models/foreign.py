"""A source model that somebody else trained: built by a function or by name, loaded from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dabench.config.own_model import three_numbers
from dabench.config.spec import IN_MEMORY, RunSpec
from dabench.contract.network import Network
from dabench.contract.types import Kind
from dabench.errors import CacheError, ConfigError, DabenchError, one_line, reason_of
from dabench.networks import published
from dabench.networks.backbones import near_network
from dabench.networks.foreign import wrap_classifier
from dabench.networks.foreign_dense import wrap_segmenter
from dabench.networks.library import (
    is_timm_model,
    make,
    of_file,
    segmenter_of_library,
    torchvision_model,
    torchvision_normalisation,
    torchvision_weights,
    whole_network,
)
from dabench.networks.weight_files import file_digest, load_checkpoint, read_state
from dabench.registry import Plugin
from dabench.registry.plugin_import import module_as_planned

_OPTION = "--source-checkpoint"
#: of images, on which a model is tried that does not take those that there are
_SIDES = (32, 64, 96, 224, 299, 384)


@dataclass(frozen=True)
class ForeignModel:
    """A model of somebody else, as the command line names it.

    Attributes:
        named: ``path.py:function``, ``package.module:function``, or a name of a library.
        checkpoint: a file with its state dict; None = as the function returns it.
        head: name of its classifier; None = the last layer that fits.
        mean: three numbers with commas between; None = those in the checkpoint (``mu``,
            ``normalize.mean``), else the usual ones.
        std: likewise.
        plugin: where the function is; None for a name of a library.
        module: the model itself, where a program handed it over.
    """

    named: str
    checkpoint: str | None = None
    head: str | None = None
    mean: str | None = None
    std: str | None = None
    plugin: Plugin | None = None
    module: nn.Module | None = None

    @classmethod
    def of_spec(cls, spec: RunSpec) -> ForeignModel | None:
        """Return the one that a run names, if it names one."""
        if spec.source_model is None:
            return None
        return cls(
            *(spec.source_model, spec.source_checkpoint, spec.source_head),
            *(spec.source_mean, spec.source_std),
            next((plugin for plugin in spec.plugins if plugin.kind == "model"), None),
            spec.module,
        )

    def build(
        self, classes: int | None, kind: Kind = "classification"
    ) -> tuple[nn.Module, tuple[Any, Any], str]:
        """Return the model with its weights, mean and std, and what stands for its code.

        Args:
            classes: K; None = as many as the model has.
            kind: whose names of libraries are known.

        Raises:
            ConfigError: no such function or name, or numbers that are none.
            CacheError: a checkpoint that cannot be read or does not fit.
        """
        model, usual, code = _build(self, classes, kind)
        if self.checkpoint is not None:
            path, beside = Path(self.checkpoint), partial(published.is_beside, self.named)
            others = load_checkpoint(model, path, _OPTION, beside)
            usual = published.normalisation_in(others, f"{_OPTION} {path}") or usual
        mean = usual[0] if self.mean is None else three_numbers("--source-mean", self.mean)
        std = usual[1] if self.std is None else three_numbers("--source-std", self.std)
        return model, (mean, std), f"{code} {mean} {std} {self.head}"

    def wrap(self, classes: int | None, shape: tuple[int, int]) -> tuple[Network, str]:
        """Return the model with trunk and classifier told apart, and what stands for its code.

        Args:
            classes: K; None = as many as the model has.
            shape: height and width of the images. It is tried on noise: a model's own code sees no
                picture before a method does.

        Raises:
            ConfigError: a model without a fitting classifier, or one that does not take the images.
            CacheError: as :meth:`build`.
        """
        model, (mean, std), code = self.build(classes)

        def tried(height: int, width: int) -> Network:
            example = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
            return wrap_classifier(
                model, classes, head=self.head, mean=mean, std=std, example=example
            )

        try:
            network = tried(*shape)
        except DabenchError as error:
            raise ConfigError(f"--source-model {self.named}: {error}") from error
        except Exception as error:
            reason = f"{type(error).__name__}: {reason_of(error)}"
            fits = next((side for side in _SIDES if _works(tried, side)), None)
            if fits is None:
                what = f"failed on two images of noise ({reason}); mend its code"
            else:
                what = f"does not take images of {shape[0]} px ({reason}); it takes those of {fits}"
                what += f": --image-size {fits}"
            raise ConfigError(f"--source-model {self.named} {what}") from error
        return network, code

    def wrap_dense(self, classes: int, shape: tuple[int, int]) -> tuple[Network, str]:
        """Return a model of segmentation as a network, and what stands for its code.

        Args:
            classes: K.
            shape: as in :meth:`wrap`.

        Raises:
            ConfigError: answers that are no logits of so many classes, or a model that does not
                take the images.
            CacheError: as :meth:`build`.
        """
        model, (mean, std), code = self.build(classes, "segmentation")
        example = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0))
        name = f"--source-model {self.named}"
        network = wrap_segmenter(
            model, classes, example, head=self.head, mean=mean, std=std, name=name
        )
        return network, code


def _works(trial: Callable[[int, int], object], side: int) -> bool:
    try:
        trial(side, side)
    except Exception:  # noqa: BLE001 - a model's code raises what it likes
        return False
    return True


def _build(
    given: ForeignModel, classes: int | None, kind: Kind
) -> tuple[nn.Module, tuple[Any, Any], str]:
    """Return the model, its usual mean and std, and what stands for its code."""
    named, option = given.named, f"--source-model {given.named}"
    if given.module is not None:
        layers = [(name, type(m).__qualname__) for name, m in given.module.named_modules()]
        return given.module, published.PLAIN, str(layers)
    if named.endswith(IN_MEMORY):
        raise ConfigError(
            f"{option}: this model was handed to dabench.run(source_model=...) in Python, and "
            "whoever called it has it; call it again with the same model"
        )
    if given.plugin is not None:
        target, sha256 = given.plugin.target, given.plugin.sha256
        module = module_as_planned(target, sha256, option)
        function = getattr(module, target.rpartition(":")[2], None)
        return _call(function, option), published.PLAIN, sha256
    # of a library: with the classifier that it was trained with
    loaded = given.checkpoint is not None
    if kind == "segmentation":
        return (
            segmenter_of_library(named, classes, loaded, option, _OPTION),
            published.IMAGENET,
            named,
        )
    sized: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    instead = f"{_OPTION} FILE"
    if named in published.CIFAR_MODELS:
        if not loaded:
            raise ConfigError(f"{option}: its weights are not fetched by name; give {instead}")
        own = published.CIFAR_MODELS[named]
        outputs = classes or published.outputs_in(read_state(Path(str(given.checkpoint)), _OPTION))
        return own.build(outputs), own.normalisation, named
    if torchvision_model(named) is not None:
        how = sized | of_file(named) if loaded else {"weights": torchvision_weights(named)}
        built = make(lambda: whole_network(named, **how), named, not loaded, instead)
        return built, torchvision_normalisation(named), named
    if not is_timm_model(named):
        raise ConfigError(
            f"{option}: expected path.py:function, package.module:function, "
            f"{', '.join(published.CIFAR_MODELS)}, or the name of a classification model of "
            f"torchvision or timm{near_network(named)}"
        )
    import timm

    more = sized if loaded else {}
    built = make(
        lambda: timm.create_model(named, pretrained=not loaded, **more), named, not loaded, instead
    )
    card = built.pretrained_cfg
    return built, (tuple(card["mean"]), tuple(card["std"])), named


def _call(build: Any, option: str) -> nn.Module:
    if not isinstance(build, Callable):  # type: ignore[arg-type]
        raise ConfigError(f"{option}: there is no such function in it")
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build()
    except Exception as error:
        raise ConfigError(
            f"{option}: the function failed ({type(error).__name__}: {reason_of(error)}); it is "
            "called without arguments, and has to return the model"
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"{option}: the function returned {one_line(type(model).__name__)}; expected an "
            "nn.Module"
        )
    return model


def checkpoint_digest(path: str) -> str:
    """Return the SHA-256 of a checkpoint file.

    Raises:
        CacheError: it cannot be read.
    """
    try:
        return file_digest(Path(path))
    except OSError as error:
        raise CacheError(f"{_OPTION} {one_line(path, 300)}: {error.strerror}") from None
