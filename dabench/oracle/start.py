"""What a run's method starts from: the column's source model, an oracle before it, or its probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dabench.config.settings import Settings
from dabench.config.spec import RunSpec
from dabench.contract.network import Network
from dabench.contract.protocol import DensePlan, Plan, StreamPlan
from dabench.errors import ConfigError
from dabench.networks.precision import set_precision
from dabench.oracle.open import open_source
from dabench.source_models.classifier import Recipe
from dabench.source_models.foreign import ForeignModel
from dabench.source_models.loading import load_or_train
from dabench.source_models.recipes import probe_recipe, source_recipe
from dabench.source_models.source import about_input, load_source


@dataclass(frozen=True)
class Start:
    """What a method is handed, and what the record says of it.

    Attributes:
        source: the column's source model; in black-box protocols a ``Remote``; of several sources
            one a domain, by name.
        handed: what the method starts from: ``source``, or the column's linear probe.
        about: of the source model, for the record; of a probe under ``probe``.
        ids: of the same.
        close: ends an oracle.
    """

    source: Any
    handed: Any
    about: dict[str, Any]
    ids: dict[str, str]
    close: Callable[[], None]

    @property
    def reference(self) -> Any:
        """The source model where the method is handed another one, else None."""
        return None if self.handed is self.source else self.source


def open_start(
    spec: RunSpec,
    settings: Settings,
    protocol: Any,
    plan: Plan | StreamPlan | DensePlan,
    *,
    probe: bool,
) -> Start:
    """Load or train the source model, and with ``probe`` its linear probe.

    The source model is made either way: its id says which rows may stand in one column.

    Raises:
        DabenchError: it cannot be made, read or reached.
    """
    recipe = source_recipe(spec, black_box=getattr(protocol, "black_box", False))
    source, about, close = _open(spec, settings, protocol, plan, recipe)
    if not probe:
        return Start(source, source, about, {"source": about["id"]}, close)
    close()
    handed, own, close = _open(spec, settings, protocol, plan, probe_recipe(recipe))
    ids = {"source": about["id"], "probe": own["id"]}
    return Start(source, handed, about | {"probe": own}, ids, close)


def _open(
    spec: RunSpec, settings: Settings, protocol: Any, plan: Any, recipe: Recipe
) -> tuple[Any, dict[str, Any], Callable[[], None]]:
    """Return a source model, or the oracle before it, what to say of it, and its end."""
    seed = spec.training_seed
    foreign = ForeignModel.of_spec(spec)
    named = {"foreign": foreign.named} if foreign else {}
    if getattr(protocol, "black_box", False):
        opened = open_source(spec, settings, protocol, plan, recipe, seed)
        about = {**opened.about, "id": opened.answerer.info.id, **named}
        return opened.remote, about, opened.close
    if plan_more := getattr(plan, "more", ()):
        return _open_several(spec, settings, (plan, *plan_more), recipe)
    model = load_source(
        foreign, recipe, plan, seed, settings.cache_dir, spec.device, settings.progress
    )
    set_precision(model.network, spec.precision)
    about = {"val_accuracy": model.val_accuracy, "train_seconds": model.seconds, "id": model.id}
    about |= {"outputs": model.outputs} if model.outputs else {}
    return model.network, about | named | about_input(model.network, spec), lambda: None


def _open_several(
    spec: RunSpec, settings: Settings, plans: tuple[Plan, ...], recipe: Recipe
) -> tuple[dict[str, Network], dict[str, Any], Callable[[], None]]:
    """Return a source model a domain, and what to say of them.

    Raises:
        ConfigError: one source model is given for all of them.
    """
    if spec.source_model is not None:
        raise ConfigError(
            f"--source-model {spec.source_model}: {spec.protocol} needs a model of each source "
            f"({spec.source}); leave it out and they are trained"
        )
    seed = spec.training_seed
    names = spec.source.split(",")
    models = {
        name: load_or_train(recipe, plan, seed, settings.cache_dir, spec.device, settings.progress)
        for name, plan in zip(names, plans, strict=True)
    }
    about: dict[str, Any] = {"id": "+".join(model.id for model in models.values())}
    about |= {
        name: {"val_accuracy": m.val_accuracy, "train_seconds": m.seconds, "id": m.id}
        for name, m in models.items()
    }
    networks = {name: model.network for name, model in models.items()}
    for network in networks.values():
        set_precision(network, spec.precision)
    return networks, about, lambda: None
