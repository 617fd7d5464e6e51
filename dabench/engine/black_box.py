"""Open a source model that only answers: in a process of its own, behind HTTP, or in this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from dabench.config import RunSpec, Settings
from dabench.contract.data import DataRequest
from dabench.contract.protocol import Plan, Remote
from dabench.engine import nets, source
from dabench.engine.oracle import Answerer, AnswerForm, InProcess, OracleClient
from dabench.engine.seeding import seed as named_seed
from dabench.errors import ConfigError


@dataclass(frozen=True)
class Opened:
    """An oracle that is ready.

    Attributes:
        remote: what the protocol hands on.
        answerer: the transport.
        about: what the record says of the source model.
    """

    remote: Remote
    answerer: Answerer
    about: dict[str, Any]

    def close(self) -> None:
        """End the transport."""
        self.answerer.close()


def open_source(
    spec: RunSpec,
    settings: Settings,
    protocol: Any,
    plan: Plan,
    recipe: source.Recipe,
    source_seed: int,
) -> Opened:
    """Open the transport that ``--protocol.oracle`` names.

    Raises:
        ConfigError: HTTP without an address.
        OracleError: the source model cannot be reached, or knows other classes.
    """
    form = AnswerForm(protocol.answers, protocol.top_k, protocol.decimals)
    transports: dict[str, Callable[[], Answerer]] = {
        "sealed": lambda: _sealed(spec, settings, recipe, form, source_seed),
        "http": lambda: _http(settings),
        "in-process": lambda: _in_process(spec, settings, plan, recipe, form, source_seed),
    }
    answerer = transports[protocol.oracle]()
    info = answerer.info
    about = {
        "val_accuracy": info.val_accuracy,
        "train_seconds": info.train_seconds,
        "oracle": protocol.oracle,
        "answers": info.form,
    }

    def client(cost: nets.Cost) -> OracleClient:
        return OracleClient(
            answerer, plan.task, cost, budget=protocol.query_budget, cache_dir=settings.cache_dir
        )

    return Opened(Remote(client, network_maker(spec, plan.task.num_classes)), answerer, about)


def network_maker(spec: RunSpec, num_classes: int) -> Callable[[int], nets.Network]:
    """Return a builder of target networks: backbone and freezing of the run, head by seed."""

    def make(number: int) -> nets.Network:
        with torch.random.fork_rng():
            torch.manual_seed(named_seed(spec.seed, "target-network", str(number)))
            network = nets.build(spec.backbone, spec.weights, num_classes)
        network.freeze_trunk(spec.freeze)
        return network

    return make


def _sealed(
    spec: RunSpec, settings: Settings, recipe: source.Recipe, form: AnswerForm, source_seed: int
) -> Answerer:
    from dabench.engine.oracle_process import Sealed, SealedRequest

    request = SealedRequest(
        dataset=spec.dataset,
        data=DataRequest(
            spec.source, spec.target, spec.image_size, settings.data_root, settings.cache_dir
        ),
        protocol=spec.protocol,
        protocol_options=spec.protocol_options,
        recipe=recipe,
        batch_size=spec.batch_size,
        plan_seed=spec.seed,
        source_seed=source_seed,
        device=spec.device,
        threads=spec.threads,
        cache_dir=settings.cache_dir,
        form=form,
        progress=settings.progress,
    )
    return Sealed(request)


def _http(settings: Settings) -> Answerer:
    from dabench.engine.oracle_http import Http

    if not settings.oracle_url:
        raise ConfigError(
            "--protocol.oracle http needs the address of a served source model: --oracle-url or "
            "DABENCH_ORACLE_URL ('dabench serve-source' serves one)"
        )
    return Http(settings.oracle_url, settings.oracle_token or "")


def _in_process(
    spec: RunSpec,
    settings: Settings,
    plan: Plan,
    recipe: source.Recipe,
    form: AnswerForm,
    source_seed: int,
) -> Answerer:
    model = source.load_or_train(
        recipe, plan, source_seed, settings.cache_dir, spec.device, settings.progress
    )
    return InProcess(model, plan.task.classes, plan.task.image_size, form, spec.device)
