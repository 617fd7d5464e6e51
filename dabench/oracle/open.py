"""Open a source model that only answers: in a process of its own, behind HTTP, or in this one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from dabench.config.settings import Settings
from dabench.config.spec import RunSpec
from dabench.contract.cost import Cost
from dabench.contract.data import DataRequest
from dabench.contract.network import Network
from dabench.contract.protocol import Plan, Remote
from dabench.contract.seeding import seed
from dabench.contract.types import Frozen
from dabench.errors import ConfigError, OracleError
from dabench.networks.network import build_classifier
from dabench.networks.precision import set_precision
from dabench.oracle.answer_forms import Answerer, AnswerForm
from dabench.oracle.client import OracleClient
from dabench.oracle.in_process import InProcess
from dabench.source_models.classifier import Recipe
from dabench.source_models.foreign import ForeignModel
from dabench.source_models.source import load_source


@dataclass(frozen=True)
class OpenedOracle:
    """An oracle that is ready.

    Attributes:
        remote: what the protocol hands on.
        answerer: the transport.
        about: what the record says of the source model.
    """

    remote: Remote
    answerer: Answerer
    about: dict[str, Any]
    clients: list[OracleClient]

    def close(self) -> None:
        """Close the files of answers, and end the transport."""
        for client in self.clients:
            client.close()
        self.answerer.close()


def open_source(
    spec: RunSpec,
    settings: Settings,
    protocol: Any,
    plan: Plan,
    recipe: Recipe,
    source_seed: int,
) -> OpenedOracle:
    """Open the transport that ``--protocol.oracle`` names.

    Raises:
        ConfigError: HTTP without an address.
        OracleError: the source model cannot be reached, or gives answers of another form.
    """
    form = AnswerForm(protocol.answers, protocol.top_k, protocol.decimals)
    transports: dict[str, Callable[[], Answerer]] = {
        "sealed": lambda: _sealed(spec, settings, recipe, form, source_seed),
        "http": lambda: _http(settings),
        "in-process": lambda: _in_process(spec, settings, plan, recipe, form, source_seed),
    }
    answerer = transports[protocol.oracle]()
    info = answerer.info
    if info.form != form.name:
        answerer.close()
        raise OracleError(
            f"the oracle gives {info.form} answers and this run asks for {form.name}: give "
            "--protocol.answers (top_k, decimals) the same here and to 'dabench serve-source'"
        )
    place = f"{spec.device}-{spec.threads}".replace(":", "")
    if protocol.oracle == "http":
        place = f"http-{hashlib.sha256(str(settings.oracle_url).encode()).hexdigest()[:8]}"
    clients: list[OracleClient] = []
    about = {
        "val_accuracy": info.val_accuracy,
        "train_seconds": info.train_seconds,
        "oracle": protocol.oracle,
        "answers": info.form,
    }

    # what a method is handed may hold neither truth nor settings: plain values alone
    task, budget, cache = plan.task, protocol.query_budget, settings.cache_dir

    def client(cost: Cost) -> OracleClient:
        clients.append(
            OracleClient(
                answerer,
                task,
                cost,
                budget=budget,
                cache_dir=cache,
                place=place,
            )
        )
        return clients[-1]

    maker = network_maker(
        *(spec.backbone, spec.weights, plan.task.num_classes, spec.image_size),
        *(spec.seed, spec.freeze, spec.precision),
    )
    remote = Remote(client, maker)
    return OpenedOracle(remote, answerer, about, clients)


def network_maker(
    backbone: str,
    weights: str,
    num_classes: int,
    side: int,
    base: int,
    freeze: Frozen = 0,
    precision: str | None = None,
) -> Callable[[int], Network]:
    """Return a builder of target networks, whose heads are drawn by their number.

    Args:
        backbone: its name.
        weights: that it starts from.
        num_classes: K.
        side: of the images in pixels.
        base: seed of the run.
        freeze: lower stages that stay as they are.
        precision: of the networks' passes; None = 32.
    """

    def make(number: int) -> Network:
        with torch.random.fork_rng():
            torch.manual_seed(seed(base, "target-network", str(number)))
            network = build_classifier(backbone, weights, num_classes, side=side)
        network.freeze_trunk(freeze)
        set_precision(network, precision)
        return network

    return make


def _sealed(
    spec: RunSpec, settings: Settings, recipe: Recipe, form: AnswerForm, source_seed: int
) -> Answerer:
    from dabench.oracle.sealed import Sealed
    from dabench.oracle.sealed_child import SealedRequest

    if spec.module is not None:
        raise ConfigError(
            f"source_model {spec.source_model}: a model of this process cannot be sealed in "
            "another one; give protocol_options={'oracle': 'in-process'}, or name it "
            "'file.py:function'"
        )
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
        form=form,
        progress=settings.progress,
        plugins=tuple(p for p in spec.plugins if p.kind not in ("method", "model")),
        foreign=ForeignModel.of_spec(spec),
    )
    return Sealed(request)


def _http(settings: Settings) -> Answerer:
    from dabench.oracle.http import Http

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
    recipe: Recipe,
    form: AnswerForm,
    source_seed: int,
) -> Answerer:
    foreign, cache = ForeignModel.of_spec(spec), settings.cache_dir
    model = load_source(foreign, recipe, plan, source_seed, cache, spec.device, settings.progress)
    return InProcess(model, plan.task.classes, plan.task.image_size, form, spec.device)
