"""The contract of a file in ``methods/``."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, dataclass_transform

import lightning
import torch
from torch import Tensor, nn

from dabench.contract.access import Online, SourceFree, TargetBatch
from dabench.contract.decay import DecayingSGD
from dabench.contract.options import HasOptions
from dabench.contract.types import Init, Kind, Prediction, Task
from dabench.errors import DivergenceError, TrainingError


@dataclass_transform(kw_only_default=True)
class OfflineMethod(HasOptions, lightning.LightningModule):
    """A method that iterates over the unlabelled target set for a number of epochs.

    Hyper-parameters are annotated fields with defaults (``contract/options.py``); their meaning is
    read from the ``Args`` section of the class docstring. A subclass sets ``version`` and raises it
    whenever its results may change.
    """

    version: ClassVar[str] = "1"
    #: the grant (or several) that ``begin`` understands; checked before any work
    grant: ClassVar[type | tuple[type, ...]] = SourceFree
    #: extras beyond the grant, by name (shown in the record and the table)
    extras: ClassVar[frozenset[str]] = frozenset()
    #: True when the paper's own code and text were not available
    reconstruction: ClassVar[bool] = False
    #: the initialisation used when the user names none (``--init`` overrides); ``auto``: bn-target
    #: for a network that starts from nothing, source for a pretrained one
    default_init: ClassVar[Init | Literal["auto"]] = "source"
    #: False for methods without a training stage
    trains: ClassVar[bool] = True
    #: True where one-hot answers of a black box are of no use
    needs_probabilities: ClassVar[bool] = False
    #: False where the answers are not those of a network that could be kept
    keeps_network: ClassVar[bool] = True

    access: Any

    def begin(self, access: Any) -> None:
        """Receive the grant and build the networks; called exactly once, before training."""
        self.access = access

    @abstractmethod
    def predict(self, images: Tensor) -> Prediction:
        """Answer (B, 3, H, W) images in [0, 1] without changing any state."""

    def also(self, images: Tensor) -> Mapping[str, Prediction]:
        """Return further answers to report beside ``predict``, by name (one branch of two, say).

        Args:
            images: (B, 3, H, W) in [0, 1].
        """
        return {}

    def adapted_network(self) -> Any:
        """Return the network whose logits are the answer; None where there is not one.

        It is one of those that were handed out, or an ``Ensemble`` of them.
        """
        return getattr(self, "net", None) if self.keeps_network else None

    def calibrate(self) -> None:
        """Freeze set-level rules (a 2-means cut, say) on the adapt set; called before scoring."""

    def training_step(self, batch: TargetBatch, batch_idx: int) -> Tensor:
        """Return the loss of one step on (B, 3, H, W) images, of shape ().

        Raises:
            TrainingError: the method has no training step.
        """
        raise TrainingError(f"{type(self).__name__} has no training step")

    @property
    def progress(self) -> float:
        """Share of the training steps already done, in [0, 1]."""
        total = max(1, int(self.trainer.estimated_stepping_batches))
        return min(1.0, self.trainer.global_step / total)

    def decaying_sgd(self, groups: list[dict[str, Any]], **settings: Any) -> DecayingSGD:
        """Return SGD whose rate decays over the steps of this run, for ``configure_optimizers``.

        Args:
            groups: parameter groups with ``params`` and ``lr``, the rate at the beginning.
            settings: ``factor``, ``momentum`` and ``weight_decay`` of :class:`DecayingSGD`.
        """
        steps = int(self.trainer.estimated_stepping_batches)
        return DecayingSGD(groups, total_steps=steps, **settings)

    def note(self, name: str, value: float = 1.0) -> None:
        """Keep a figure in the record, as curve ``noted/name``: what a rule fell back to, say."""
        self.access.recorder.put(f"noted/{name}", self.current_epoch, float(value))

    def record_losses(self, total: Tensor, parts: Mapping[str, Tensor], every: int = 10) -> Tensor:
        """Check the loss, record it every few steps, and return it.

        Args:
            total: the loss, of shape ().
            parts: its terms by name, each of shape ().
            every: steps between two points of the record.

        Raises:
            DivergenceError: the loss is not finite; names the step and every part.
        """
        step = self.trainer.global_step
        value = float(total.detach())
        if not math.isfinite(value):
            shown = ", ".join(f"{name}={float(part.detach()):g}" for name, part in parts.items())
            raise DivergenceError(
                f"loss is {value} at step {step} ({shown}); lower --method.lr or look at the inputs"
            )
        if step % every == 0:
            self.access.recorder.put("loss/total", step, value)
            for name, part in parts.items():
                self.access.recorder.put(f"loss/{name}", step, float(part.detach()))
        return total


@dataclass_transform(kw_only_default=True)
class OnlineMethod(HasOptions, lightning.LightningModule):
    """A method that is pushed one batch at a time and must answer at once.

    Everything that a later answer depends on lies in ``state_dict()``: weights, buffers, and
    (through ``get_extra_state``) optimisers. That is what a resumed run starts from.
    """

    version: ClassVar[str] = "1"
    grant: ClassVar[type | tuple[type, ...]] = Online
    extras: ClassVar[frozenset[str]] = frozenset()
    reconstruction: ClassVar[bool] = False
    default_init: ClassVar[Init | Literal["auto"]] = "source"
    #: whether ``step`` answers from before or after its own update
    answers: ClassVar[Literal["before", "after"]] = "before"
    #: False where no answer depends on what came earlier: before and after an update are one
    trains: ClassVar[bool] = True
    #: the kinds of task that it serves
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification"})
    #: hyper-parameters that decide the method's parts trained on source data
    source_options: ClassVar[frozenset[str]] = frozenset()

    access: Any

    def begin(self, access: Any) -> None:
        """Receive the grant and build whatever the stream will need; called exactly once."""
        self.access = access

    def source_parts(self, network: Any, task: Task) -> nn.Module:
        """Build, untrained, what the method needs to have trained on labelled source images.

        For methods with the extra ``source-parts``. Before deployment, and on an instance that
        never sees a stream, :meth:`train_source_parts` trains it; ``begin`` then finds it in
        ``access.extras["source-parts"]``. The record and the table show the extra.

        Args:
            network: the trained source model, in eval mode.
            task: as in the grant.
        """
        raise TrainingError(f"{type(self).__name__} declares no source parts")

    def train_source_parts(
        self, parts: nn.Module, network: Any, batches: Iterator[tuple[Tensor, Tensor]]
    ) -> None:
        """Train ``parts`` in place on augmented source batches; the network must not change.

        Args:
            parts: what :meth:`source_parts` returned, on the device.
            network: as above.
            batches: endless (images, labels): (B, 3, H, W) in [0, 1] with (B,) classes, or
                (B, H, W) with ``types.IGNORE`` in segmentation. The method says when to stop.
        """
        raise TrainingError(f"{type(self).__name__} declares no source parts")

    @abstractmethod
    def step(self, batch: TargetBatch) -> Tensor:
        """Adapt on one batch and return its logits; gradients are switched on.

        Args:
            batch: (B, 3, H, W) images in [0, 1], and when they came.

        Returns:
            (B, K) logits of the K known classes, in segmentation (B, K, H, W).
        """

    @abstractmethod
    def predict(self, images: Tensor) -> Prediction:
        """Answer (B, 3, H, W) images in [0, 1] as ``step`` does, without changing any state."""

    @property
    def updates_skipped(self) -> int:
        """Updates left out so far: what the modules inside count as ``skipped``."""
        return sum(int(getattr(module, "skipped", 0)) for module in self.modules())


def frozen_copy(module: torch.nn.Module) -> Any:
    """Return a deep copy in eval mode whose parameters take no gradient (a teacher)."""
    twin = copy.deepcopy(module)
    twin.requires_grad_(False)
    return twin.eval()
