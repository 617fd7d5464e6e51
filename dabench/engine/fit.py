"""Loops: fit an offline method with Lightning, collect predictions, guard what must not change."""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader
from tqdm import tqdm

from dabench.contract.access import TargetBatch, Unlabelled
from dabench.contract.answers import checked_also, left_alone
from dabench.contract.asking import asking
from dabench.contract.confined import Confined
from dabench.contract.cost import Cost
from dabench.contract.method import OfflineMethod
from dabench.contract.protocol import Run
from dabench.contract.seeding import generators_kept, seed
from dabench.contract.types import Prediction
from dabench.engine.stream import synchronised_clock
from dabench.errors import TrainingError
from dabench.metrics import label_free
from dabench.metrics.predictions import Predictions, gather


@contextlib.contextmanager
def _undisturbed(method: OfflineMethod, cost: Cost) -> Iterator[None]:
    """Predict without touching random numbers, modes or the cost counter."""
    modes = {name: module.training for name, module in method.named_modules()}
    with generators_kept(), torch.no_grad(), cost.pause(learning=False):
        method.eval()
        yield
    for name, module in method.named_modules():
        module.training = modes.get(name, module.training)


def predict_all(
    method: OfflineMethod,
    part: Unlabelled,
    device: str,
    cost: Cost,
    *,
    bar: bool = False,
    judge: bool = False,
    keep: bool = False,
) -> Predictions:
    """Collect predictions over a part in order, uncharged; ``judge``: score them without labels."""
    with _undisturbed(method, cost), asking(method) as ask, left_alone(method):
        batches = tqdm(part.survey(), desc="evaluation", disable=not bar or None, leave=False)
        answers = [ask(batch.images.to(device)) for batch in batches]
        found = gather(answers, keep=keep)
        return replace(found, judged=label_free.scores(answers)) if judge else found


def predict_also(
    method: OfflineMethod, part: Unlabelled, device: str, cost: Cost
) -> dict[str, Predictions]:
    """Collect the further answers of a method (``OfflineMethod.also``) by name.

    Raises:
        TrainingError: an answer that does not fit, or other names than for the batch before.
    """
    answers: list[dict[str, Prediction]] = []
    with _undisturbed(method, cost), left_alone(method):
        for batch in part.survey():
            images = batch.images.to(device)
            answers.append(checked_also(method, method.also(images.clone()), images))
            if answers[-1].keys() != answers[0].keys():
                raise TrainingError(
                    f"{type(method).__name__}: also answered {sorted(answers[-1])} after "
                    f"{sorted(answers[0])}; expected the same names for every batch"
                )
    return {name: gather([answer[name] for answer in answers]) for name in answers[0]}


class _Curves(Callback):
    """Say that an epoch is over; what is then taken stays out of the method's reach."""

    def __init__(self, take: Callable[[], None]) -> None:
        self._take = Confined(take)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._take()


class _Budgeted(DataLoader[TargetBatch]):
    """The batches of as many epochs as the protocol allows; draws as a ``DataLoader`` would.

    Args:
        batches: the loader itself; its sampler cannot be reached from here.
        allowed: epochs.
        tally: epochs that have begun, and batches that were handed out.
        name: of the method, for the error where no epoch is left.
    """

    def __init__(
        self, batches: DataLoader[TargetBatch], allowed: int, tally: Counter[str], name: str
    ) -> None:
        super().__init__(batches.dataset, batch_size=None)

        def begin() -> Iterator[TargetBatch]:
            return hand_out(iter(batches))  # drawn at once, not with the first batch

        def hand_out(found: Iterator[TargetBatch]) -> Iterator[TargetBatch]:
            tally["epochs"] += 1
            if tally["epochs"] > allowed:
                raise TrainingError(
                    f"{name} goes on after the {allowed} epochs of its budget; a method trains as "
                    "long as the trainer was told, and leaves the trainer as it is"
                )
            for batch in found:
                tally["batches"] += 1
                yield batch

        self._begin, self._steps = Confined(begin), len(batches)

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Any:
        return self._begin()


class _Progress(Callback):
    """One line: step, epoch, steps a second."""

    def __init__(self, title: str) -> None:
        self.title = title

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        steps = int(trainer.estimated_stepping_batches)  # the bar: on a terminal alone
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
    for chatty in ("utilities.rank_zero", "trainer.connectors.signal_connector"):
        logging.getLogger(f"lightning.pytorch.{chatty}").setLevel(logging.WARNING)
    where = torch.device(device)
    return lightning.Trainer(
        max_epochs=epochs,
        default_root_dir=".",
        accelerator=where.type,
        devices=1 if where.index is None else [where.index],
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
    """Undo what Lightning makes of an interruption: ``sys.exit(1)``, and Ctrl-C that is ignored."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise stop.__context__ from None
        raise


def fit(
    method: OfflineMethod, target: Unlabelled, cost: Cost, run: Run, *, keep: bool = False
) -> tuple[dict[int, Predictions], float]:
    """Train a method for its budget; return predictions per curve epoch and seconds spent.

    Args:
        method: after ``begin``.
        target: what it adapts on, as it was granted.
        cost: paused while curves are made.
        run: budget, seed and device.
        keep: whether the predictions come with all probabilities.

    Raises:
        TrainingError: it was made to train for longer than the budget allows, or stopped before.
    """
    device = method.to(run.device).device
    if not method.trains:
        return {}, 0.0
    allowed, every = run.budget.epochs, max(1, run.budget.epochs // 10)
    taken: dict[int, Predictions] = {}
    name, tally, outside = type(method).__name__, Counter[str](), 0.0

    def take_curves() -> None:
        nonlocal outside
        if (begun := tally["epochs"]) % every == 0 and begun < allowed:
            start = synchronised_clock(device)
            with _undisturbed(method, cost):
                method.calibrate()
            taken[begun] = predict_all(method, target, run.device, cost, judge=True, keep=keep)
            outside += synchronised_clock(device) - start

    bars = [_Progress(f"{name} adaptation")] if run.progress else []
    loader = target.loader(run.budget.batch_size, shuffle=True, seed=seed(run.seed, "batches"))
    method.train()  # Lightning keeps the modes it finds, and source models arrive in eval mode
    start = synchronised_clock(device)
    with warnings.catch_warnings(), _interruptible():
        warnings.filterwarnings("ignore", r".*(not have many workers|LeafSpec|s\) in eval mode)")
        trainer = build_trainer(allowed, run.device, [_Curves(take_curves), *bars])
        trainer.fit(method, _Budgeted(loader, allowed, tally, name))
    if (handed := tally["batches"]) < (due := allowed * len(loader)):
        raise TrainingError(
            f"{name} stopped after {handed} of {due} batches: train for all of them"
        )
    method.to(device)
    return taken, synchronised_clock(device) - start - outside


def adapt(
    method: OfflineMethod, access: Any, target: Unlabelled, cost: Cost, run: Run, **keep: bool
) -> tuple[dict[int, Predictions], float]:
    """As :func:`fit`, with the ``begin`` before it and ``calibrate`` after it, timed as well."""
    now = partial(synchronised_clock, torch.device(run.device))
    start = now()
    method.begin(access)
    begin = now() - start
    taken, seconds = fit(method, target, cost, run, **keep)
    start = now()
    method.calibrate()
    return taken, begin + seconds + now() - start
