"""Loops: fit an offline method with Lightning, collect predictions, guard what must not change."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from tqdm import tqdm

from dabench.contract.access import Unlabelled
from dabench.contract.cost import Cost
from dabench.contract.method import OfflineMethod
from dabench.contract.protocol import Run
from dabench.contract.seeding import seed
from dabench.contract.types import Prediction
from dabench.errors import TrainingError, one_line
from dabench.metrics import label_free
from dabench.metrics.predictions import Predictions


@contextlib.contextmanager
def _undisturbed(method: OfflineMethod, cost: Cost) -> Iterator[None]:
    """Predict without touching random numbers, modes or the cost counter."""
    modes = {name: module.training for name, module in method.named_modules()}
    with torch.random.fork_rng(), torch.no_grad(), cost.pause():
        method.eval()
        yield
    for name, module in method.named_modules():
        module.training = modes.get(name, module.training)


def predict_all(
    method: OfflineMethod, part: Unlabelled, device: str, bar: bool, *, judge: bool = False
) -> Predictions:
    """Collect a method's predictions over a part, in position order; ``judge`` without labels."""
    with _undisturbed(method, method.access.cost):
        batches = tqdm(part.survey(), desc="evaluation", disable=not bar or None, leave=False)
        answers = [_checked(method, batch.images.to(device)) for batch in batches]
        found = _gather(answers)
        return replace(found, judged=label_free.scores(answers)) if judge else found


def _checked(method: OfflineMethod, images: Tensor) -> Prediction:
    """Ask for a batch's answer, and refuse one that does not fit.

    Raises:
        TrainingError: another type, shape or number of classes, or values that are not finite.
    """
    answer, name = method.predict(images.clone()), type(method).__name__
    expected = (len(images), method.access.task.num_classes)
    if not isinstance(answer, Prediction) or tuple(answer.logits.shape) != expected:
        found = tuple(answer.logits.shape) if isinstance(answer, Prediction) else answer
        raise TrainingError(
            f"{name}: predict returned {one_line(found, 200)}; expected a Prediction with logits "
            f"of {expected}"
        )
    if not bool(torch.isfinite(answer.logits).all()):
        raise TrainingError(
            f"{name}: predict returned logits that are not finite; lower --method.lr"
        )
    score, unknown = answer.unknown_score, answer.is_unknown
    if score is not None and (score.shape != images.shape[:1] or bool(score.isnan().any())):
        raise TrainingError(f"{name}: unknown_score must be ({len(images)},) numbers")
    if unknown is not None and (unknown.shape != images.shape[:1] or unknown.dtype != torch.bool):
        raise TrainingError(
            f"{name}: is_unknown is {unknown.dtype} of {tuple(unknown.shape)}; expected bool of "
            f"({len(images)},)"
        )
    return answer


def predict_also(method: OfflineMethod, part: Unlabelled, device: str) -> dict[str, Predictions]:
    """Collect the further answers of a method (``OfflineMethod.also``) by name."""
    with _undisturbed(method, method.access.cost):
        answers = [method.also(batch.images.to(device)) for batch in part.survey()]
    return {name: _gather([answer[name] for answer in answers]) for name in answers[0]}


def _gather(answers: list[Prediction]) -> Predictions:
    found: list[tuple[Any, Any, Any, Any]] = []
    for answer in answers:
        top = answer.logits.softmax(1).max(1)
        found.append((top.indices, top.values, answer.unknown_score, answer.is_unknown))
    known, confidence, score, unknown = (
        None if column[0] is None else torch.cat(column).cpu().numpy()
        for column in zip(*found, strict=True)
    )
    return Predictions(
        np.asarray(known, dtype=np.int64),
        np.asarray(confidence, dtype=np.float64),
        None if score is None else score.astype(np.float64),
        unknown,
    )


class _Curves(Callback):
    """Record predictions (never truth) on the adapt set every few epochs."""

    def __init__(self, part: Unlabelled, every: int, device: str) -> None:
        self.part, self.every, self.device = part, every, device
        self.taken: dict[int, Predictions] = {}
        self.seconds = 0.0

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every == 0 and epoch < int(trainer.max_epochs or 0):
            start = time.perf_counter()
            with _undisturbed(pl_module, pl_module.access.cost):
                pl_module.calibrate()
            self.taken[epoch] = predict_all(
                pl_module, self.part, self.device, bar=False, judge=True
            )
            self.seconds += time.perf_counter() - start


class _Progress(Callback):
    """One line: step, epoch, steps a second."""

    def __init__(self, title: str) -> None:
        self.title = title

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        steps = int(trainer.estimated_stepping_batches)
        # None = on a terminal alone
        self.bar = tqdm(total=steps, desc=self.title, leave=False, disable=None)

    def on_train_batch_end(self, *args: Any) -> None:
        self.bar.update()

    def on_train_end(self, *args: Any) -> None:
        self.bar.close()

    def on_exception(self, *args: Any) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


def build_trainer(epochs: int, device: str, callbacks: list[Callback]) -> lightning.Trainer:
    """Return a Trainer without logger, checkpoints and bars of its own.

    The defaults cost about a millisecond a step; figures reach TensorBoard through the recorder.
    """
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="gpu" if device.startswith("cuda") else "cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        deterministic="warn",
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Undo what Lightning makes of Ctrl-C: ``sys.exit(1)`` and a SIGINT that is ignored."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from stop
        raise


def fit(method: OfflineMethod, run: Run) -> tuple[dict[int, Predictions], float]:
    """Train a method for its budget; return predictions per curve epoch and seconds spent."""
    part = method.access.target
    method.to(run.device)
    if not method.trains:
        return {}, 0.0
    curves = _Curves(part, max(1, run.budget.epochs // 10), run.device)
    callbacks: list[Callback] = [curves]
    if run.progress:
        callbacks.append(_Progress(f"{type(method).__name__} adaptation"))
    batches = part.loader(run.budget.batch_size, shuffle=True, seed=seed(run.seed, "batches"))
    method.train()  # Lightning keeps the modes it finds, and source models arrive in eval mode
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")
        warnings.filterwarnings("ignore", ".*module\\(s\\) in eval mode.*")
        with _interruptible():
            build_trainer(run.budget.epochs, run.device, callbacks).fit(method, batches)
    method.to(run.device)
    return curves.taken, time.perf_counter() - start - curves.seconds
