"""What a run's method starts from: the column's source model, an oracle before it, or its probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dabench.config.settings import Settings
from dabench.config.spec import RunSpec
from dabench.contract.protocol import DensePlan, Plan, StreamPlan
from dabench.oracle.open import open_source
from dabench.source_models.classifier import Recipe
from dabench.source_models.foreign import ForeignModel
from dabench.source_models.recipes import probe_recipe, source_recipe
from dabench.source_models.source import about_input, load_source


@dataclass(frozen=True)
class Start:
    """What a method is handed, and what the record says of it.

    Attributes:
        source: the column's source model; in black-box protocols a ``Remote``.
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
    recipe = source_recipe(spec, black_box=protocol.black_box)
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
    seed = spec.seed if spec.source_seed is None else spec.source_seed
    foreign = ForeignModel.of_spec(spec)
    named = {"foreign": foreign.named} if foreign else {}
    if protocol.black_box:
        opened = open_source(spec, settings, protocol, plan, recipe, seed)
        about = {**opened.about, "id": opened.answerer.info.id, **named}
        return opened.remote, about, opened.close
    model = load_source(
        foreign, recipe, plan, seed, settings.cache_dir, spec.device, settings.progress
    )
    about = {"val_accuracy": model.val_accuracy, "train_seconds": model.seconds, "id": model.id}
    about |= {"outputs": model.outputs} if model.outputs else {}
    return model.network, about | named | about_input(model.network, spec), lambda: None
