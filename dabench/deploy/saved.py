"""What an adaptation leaves behind: predictions.csv, model.safetensors and model.yaml."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

import dabench
from dabench.contract.network import Network
from dabench.deploy.offline import Adapted
from dabench.deploy.pictures import Pile
from dabench.errors import CacheError, ConfigError, reason_of
from dabench.networks.foreign import unwrapped_state, wrap_classifier
from dabench.networks.published import unfilled
from dabench.networks.weight_files import load_checkpoint
from dabench.registry import Plugin
from dabench.source_models.foreign import ForeignModel

WEIGHTS, CARD, ANSWERS = "model.safetensors", "model.yaml", "predictions.csv"
_COLUMNS = ("file", "class", "confidence", "unknown_score", "class_before", "confidence_before")


def check_free(out: Path) -> None:
    """Refuse a folder that has something in it.

    Raises:
        ConfigError: there is something at ``out``.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: there is something already; name a folder that is not")


def write_all(out: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder beside ``out``, which then takes its place: half of it is never seen there.

    Raises:
        ConfigError: there is something at ``out``.
    """
    check_free(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        write(draft)
        draft.chmod(0o755)
        for path in draft.iterdir():  # safetensors' own are for their owner alone
            path.chmod(0o644)
        os.replace(draft, out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_predictions(path: Path, adapted: Adapted, pile: Pile) -> None:
    """Write a line a picture, by name; one that could not be read has its reason."""
    names = adapted.classes
    rows: dict[str, list[str]] = {}
    score = adapted.after.unknown_score
    for i, (name, label) in enumerate(zip(pile.names, adapted.labels, strict=True)):
        unknown = "" if score is None else f"{score[i]:.6g}"
        before = [names[adapted.before.known[i]], f"{adapted.before.confidence[i]:.6f}"]
        rows[name] = [label, f"{adapted.after.confidence[i]:.6f}", unknown, *before, ""]
    for name, reason in pile.unreadable.items():
        rows[name] = ["", "", "", "", "", reason]
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow([*_COLUMNS, "not_read"])
        for name in sorted(rows):
            writer.writerow([name, *rows[name]])


def save_model(folder: Path, adapted: Adapted, model: ForeignModel, about: dict[str, Any]) -> None:
    """Write the adapted weights under the names of the model that was given, and their card.

    Args:
        folder: that takes both files.
        adapted: with a network.
        model: what was adapted.
        about: further facts of the card: method, its options, image size.
    """
    from safetensors.torch import save_file

    state = unwrapped_state(adapted.network)
    save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)
    network = adapted.network
    card = {
        "dabench": dabench.__version__,
        "model": model.plugin.target if model.plugin else model.named,
        "model_sha256": model.plugin.sha256 if model.plugin else "",
        "head": network.head_name,
        "outputs": int(network.classifier.weight.shape[0]),
        "classes": list(adapted.classes),
        "mean": network.mean.flatten().tolist(),
        "std": network.std.flatten().tolist(),
        **about,
    }
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True)
    (folder / CARD).write_text(text, encoding="utf-8")


def load_model(folder: str | Path) -> nn.Module:
    """Return the model that ``dabench adapt`` left in a folder.

    It takes (B, 3, H, W) images in [0, 1], and gives logits over its classes; where it was adapted
    for unknown classes, one output more, the last, stands for "unknown".

    Raises:
        CacheError: a file that is missing or cannot be read.
        ConfigError: the code of the model is not where it was.
    """
    place = Path(folder)
    try:
        card: Any = yaml.safe_load((place / CARD).read_text(encoding="utf-8"))
        target, outputs = str(card["model"]), int(card["outputs"])
        mean, std, head = card["mean"], card["std"], str(card["head"])
        digest = str(card["model_sha256"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise CacheError(f"{place / CARD}: cannot be used ({reason_of(error)})") from None
    plugin = Plugin("model", target, target, "", digest) if ":" in target else None
    given = ForeignModel(target, plugin=plugin)
    # of a library: any number of outputs, and no weights of its own are wanted
    model = given.build(None)[0] if plugin else _of_library(given, outputs)
    layer = model.get_submodule(head)
    if isinstance(layer, nn.Linear) and layer.out_features != outputs:
        fresh = nn.Linear(layer.in_features, outputs)
        parent, _, last = head.rpartition(".")
        if head:
            setattr(model.get_submodule(parent), last, fresh)
        else:
            model = fresh
    load_checkpoint(model, place / WEIGHTS, "the weights")
    network: Network = wrap_classifier(model, outputs, head=head, mean=mean, std=std)
    return network.eval()


def _of_library(given: ForeignModel, outputs: int) -> nn.Module:
    with torch.random.fork_rng():
        return unfilled(given.named, outputs)
