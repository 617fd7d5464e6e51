"""The adapted model of a benchmark run, in ``runs/<run_id>/model`` (``--save-model``)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import nn

from dabench import registry
from dabench.config.spec import RunSpec
from dabench.errors import ConfigError
from dabench.source_models.foreign import ForeignModel
from dabench.source_models.loading import AnyPlan
from dabench.source_models.model_files import CARD, replaced, save_model

_FOLDER = "model"


def check_keeps(spec: RunSpec, method: type[Any]) -> None:
    """Refuse ``--save-model`` where a run leaves no model; called before data are loaded.

    Raises:
        ConfigError: a stream, or a method that leaves no network behind.
    """
    protocol = registry.protocol(spec.protocol)
    if getattr(protocol, "online", False):
        raise ConfigError(
            f"--save-model: under {spec.protocol} a method goes on changing, and its answers hang "
            "on the batch that they stand in: no model of images is left; leave it out, or use "
            "dabench.online, whose state can be saved"
        )
    if getattr(protocol, "black_box", False) and not method.trains:
        raise ConfigError(
            f"--save-model: under {spec.protocol} {spec.method} only asks the source model and has "
            "no network of its own; leave it out, or choose a method that learns"
        )
    if not method.keeps_network:
        raise ConfigError(
            f"--save-model: {spec.method} answers by more than a network, and leaves none; leave "
            "it out, or choose a method that learns"
        )


def kept_model(board: Path) -> Path | None:
    """Return the folder of a run's model, if it was kept.

    Args:
        board: ``runs/<run_id>`` of the results.
    """
    folder = board / _FOLDER
    return folder if (folder / CARD).is_file() else None


def keeping(
    board: Path, spec: RunSpec, plan: AnyPlan, network: nn.Module | None, *, wanted: bool
) -> AbstractContextManager[None]:
    """Put a run's model in its place when its record, written inside, is.

    What lies beside a record is always of that record: where none is wanted, an earlier one goes.

    Args:
        board: ``runs/<run_id>`` of the results.
        spec: of the run.
        plan: of the run.
        network: behind the final answers, where there is one.
        wanted: whether it is to be kept.

    Raises:
        ConfigError: at the end, with the record in its place: there is no network, or one that
            cannot be built again from a name.
    """
    about = {"method": spec.method, "image_size": plan.task.image_size, "run": board.name}
    own = not getattr(registry.protocol(spec.protocol), "black_box", False)
    foreign = ForeignModel.of_spec(spec) if own else None

    def fill(folder: Path) -> None:
        if network is None:
            raise ConfigError(
                f"run {board.name} is recorded, but {spec.method} names no network behind its "
                "answers (adapted_network), so that no model is kept"
            )
        save_model(folder, network, plan.task.classes, foreign, about)

    return replaced(board / _FOLDER, fill if wanted else None)
