"""A pile of images learned from a model that only answers: in this process, or behind HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from dabench import registry
from dabench.config.signature import validate_options
from dabench.contract.access import Unlabelled
from dabench.contract.cost import Cost
from dabench.contract.floats import to_float
from dabench.contract.network import Network
from dabench.contract.protocol import Remote, Run
from dabench.contract.seeding import seed as seed_of
from dabench.contract.seeding import seeded
from dabench.contract.types import Task
from dabench.deploy.adapted import Adapted, summary, wrapped
from dabench.deploy.fitting import fitted, plan_of
from dabench.errors import AccessError, ConfigError, OracleError
from dabench.networks.backbones import SMALL
from dabench.oracle.answer_forms import Answerer, AnswerForm, check_fits_task
from dabench.oracle.client import OracleClient
from dabench.oracle.in_process import InProcess
from dabench.oracle.open import network_maker
from dabench.source_models.loading import SourceModel, state_hash


@dataclass(frozen=True)
class TargetNetwork:
    """The network that a method trains.

    Attributes:
        backbone: its name; None where nobody said.
        weights: ``none``, ``pretrained`` or a path; None = pretrained where there are such.
    """

    backbone: str | None
    weights: str | None

    @property
    def start(self) -> str:
        """The weights, filled in."""
        return self.weights or ("none" if self.backbone in SMALL else "pretrained")


def teacher(
    model: nn.Module | Answerer,
    pictures: np.ndarray,
    classes: Sequence[str] | None,
    device: str,
    wrapping: dict[str, Any],
) -> Answerer:
    """Return who is asked.

    Args:
        model: who is elsewhere, and stays as it is; or a module.
        pictures: (N, S, S, 3) uint8, on which a module is tried.
        classes: names of the K classes; None = what an answerer says, or numbers.
        device: where a module answers.
        wrapping: head, mean and std of a module.

    Raises:
        ConfigError: a module that does not fit.
        OracleError: other classes than an answerer's.
    """
    if not isinstance(model, nn.Module):
        _check_classes(model, classes)
        return model
    network, names = wrapped(model, classes, to_float(pictures[:2]), wrapping)
    source = SourceModel(network, state_hash(network), None, 0.0)
    return InProcess(source, names, pictures.shape[1], AnswerForm("soft"), device)


def _check_classes(answerer: Answerer, classes: Sequence[str] | None) -> None:
    known = answerer.info.classes
    if classes is not None and tuple(classes) != known:
        raise OracleError(
            f"the oracle answers over {len(known)} classes, first '{known[0]}', and {len(classes)} "
            f"are given, first '{classes[0]}'; leave the classes out, or give the oracle's in its "
            "order"
        )


def _check_probabilities(answerer: Answerer, cls: type[Any]) -> None:
    if cls.needs_probabilities and not answerer.info.gives_probabilities:
        raise AccessError(
            f"{registry.called(cls)} needs probabilities, and the oracle gives "
            f"{answerer.info.form} "
            "answers; choose a method such as pseudo-label or cabb, or serve the model with soft "
            "ones"
        )


def check_fits(
    model: nn.Module | Answerer,
    cls: type[Any],
    classes: Sequence[str] | None,
    side: int,
    network: TargetNetwork,
) -> None:
    """Refuse what no picture is needed to refuse; arguments as those of :func:`adapt`.

    Raises:
        DabenchError: answers, classes or a size of images that are not an answerer's, or a network
            that does not fit.
    """
    if not isinstance(model, nn.Module):
        _check_probabilities(model, cls)
        _check_classes(model, classes)
        check_fits_task(model.info, Task("classification", model.info.classes, side))
    if network.backbone is not None:
        network_maker(network.backbone, network.start, 2, side, 0)(0)


def adapt(
    answerer: Answerer,
    pictures: np.ndarray,
    cls: type[Any],
    options: dict[str, Any],
    network: TargetNetwork,
    run: Run,
    *,
    flip: bool,
    cache_dir: Path | None,
) -> Adapted:
    """Ask about every picture once, and train a network by what is answered.

    Args:
        answerer: who is asked.
        pictures: (N, S, S, 3) uint8.
        cls: of the method.
        options: its hyper-parameters.
        network: that it trains.
        run: the circumstances.
        flip: whether a mirrored image keeps its class.
        cache_dir: where answers are kept; None = nowhere.

    Raises:
        ConfigError: no backbone, or one that does not fit.
        AccessError: answers that are of no use to the method.
        OracleError: no answer, or one that is no distribution.
    """
    info, side = answerer.info, pictures.shape[1]
    _check_probabilities(answerer, cls)
    with seeded(seed_of(run.seed, "adaptation")):
        built = cls(**validate_options(cls, options, "method"))
    maker: Callable[[int], Network] = _no_network
    if cls.trains:
        assert network.backbone is not None  # ``check_asked`` says so to a user
        k = len(info.classes)
        maker = network_maker(network.backbone, network.start, k, side, run.seed)
        maker(0)  # what does not fit is said before anything is asked
    target, cost = Unlabelled(pictures, np.arange(len(pictures))), Cost()
    plan = plan_of(Task("classification", info.classes, side, False, flip), target, run)
    protocol = registry.protocol("bb-uda")()
    # a module in memory is known by its weights alone, and others may share them
    kept = None if isinstance(answerer, InProcess) else cache_dir
    client = OracleClient(answerer, plan.task, cost, None, kept, place="adapt")
    with contextlib.closing(client):
        before = summary(client.ask_all(target).clamp_min(1e-10).log())
        remote, own = Remote(lambda cost: client, maker), replace(run, init="source")

        def grants(cost: Cost) -> Any:
            return protocol.make_grant(plan, remote, own, run.recorder, cost)

        found = fitted(built, plan, own, before, cost, grants)
    asked = {"oracle_queries": float(cost.queries)}
    about = {"oracle": info.id, "answers": info.form, "backbone": network.backbone}
    return replace(found, cost=found.cost | asked, about=about)


def _no_network(number: int) -> Any:
    raise ConfigError("a method that does not train has no network of its own")
