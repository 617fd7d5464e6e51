"""Weight files: reading state dicts of other people's making, and loading one that fits."""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dabench.errors import CacheError, ConfigError, one_line, reason_of
from dabench.networks.published import is_unused, of_old_names
from dabench.networks.tensor_files import check_checksums, report_damage

#: values of --weights that are no path
NAMED = frozenset({"none", "pretrained"})
#: keys under which training scripts keep a state dict; of several, the first counts
_WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module"),
    *("ema", "model_ema", "state_dict_ema", "ema_state_dict"),
)
#: names that wrappers of a network put before those of its tensors, in any combination
_PREFIXES = frozenset({"module", "model", "backbone", "_orig_mod", "net", "network", "encoder"})
#: first names of tensors that belong to a head; a file may have one that no network takes
_HEADS = frozenset(
    {
        *("fc", "classifier", "head", "heads", "linear", "last_linear", "classif", "bottleneck"),
        *("head_dist", "heads_dist", "aux_head", "aux1", "aux2", "AuxLogits", "aux_classifier"),
    }
)

State = dict[str, Tensor]


def weight_file(text: str) -> Path:
    """Return the path of a weight file.

    Raises:
        ConfigError: there is no such file.
    """
    path = Path(text)
    try:
        if path.is_file():
            return path
        what = "is a folder" if path.is_dir() else "no such file"
    except (OSError, ValueError) as error:  # a name that no file can have
        what = getattr(error, "strerror", None) or "no such file"
    raise ConfigError(f"--weights {one_line(text, 200)}: {what} (use none, pretrained or a path)")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state(path: Path, option: str = "--weights") -> State:
    """Return the state dict in a file of PyTorch or safetensors, which may lie in wrappers.

    Raises:
        CacheError: it cannot be read, or holds no state dict.
    """
    found: Any = _read(path, option)
    while isinstance(found, Mapping):
        inner = next((k for k in _WRAPPERS if isinstance(found.get(k), Mapping)), None)
        if inner is None:
            break
        found = found[inner]
    if isinstance(found, Mapping):
        state = {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
        if state:
            return state
        what = f"a mapping of {', '.join(map(str, list(found)[:5])) or 'nothing'}"
    else:
        what = f"a {type(found).__name__}"
    raise CacheError(
        f"{option} {path}: holds {one_line(what)}, where a state dict is expected; save it with "
        "torch.save(model.state_dict(), PATH)"
    )


def _read(path: Path, option: str) -> Any:
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:] == b"{":
            from safetensors.torch import load_file

            return load_file(path)
        if not start:
            raise CacheError(f"{option} {path}: the file is empty")
        if not zipfile.is_zipfile(path) and start[:1] != b"\x80":  # how a pickle starts
            raise CacheError(f"{option} {path}: is no weight file of PyTorch or safetensors")
        with report_damage(option, path, "give another file"):
            check_checksums(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except CacheError:
        raise
    except pickle.UnpicklingError as error:
        # what it needs that is neither a tensor nor plain; torch's text runs over many lines
        other = re.search(r"GLOBAL (\S+)", str(error))
        if other is None:
            raise CacheError(f"{option} {path}: cannot be read, it is damaged") from error
        raise CacheError(
            f"{option} {path}: holds more than tensors ({one_line(other[1], 80)}), which is not "
            "loaded because it could run code; save the state dict alone: "
            "torch.save(model.state_dict(), PATH)"
        ) from error
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise CacheError(f"{option} {path}: cannot be read ({reason_of(error)})") from error


def load_checkpoint(
    net: nn.Module, path: Path, option: str, beside: Callable[[str], bool] = lambda key: False
) -> State:
    """Load a whole network's state dict, under whatever wrappers and prefixes it lies.

    Args:
        net: what is loaded into.
        path: of the file.
        option: that named it, for messages.
        beside: whether a tensor that the network does not have may be there; those are returned.

    Raises:
        CacheError: it cannot be read, or tensors are missing, unexpected or of another shape; the
            first five are named.
    """
    own = net.state_dict()
    state = _without_prefix(read_state(path, option), own, of_old_names)
    counters = ".num_batches_tracked"  # files of old versions of PyTorch have none
    others = {k: v for k, v in state.items() if k not in own and beside(k)}
    faults = {
        "missing": [k for k in own if k not in state and not k.endswith(counters)],
        # torchvision's segmentation models have a second head, in training alone
        "unexpected": [
            k for k in state if k not in {*own, *others} and not k.startswith("aux_classifier.")
        ],
        "of another shape": [k for k in own if k in state and state[k].shape != own[k].shape],
    }
    said = [f"{what}: {_first_five(names)}" for what, names in faults.items() if names]
    said += [f"{k} {_both(k, state, own)}" for k in faults["of another shape"][:1]]
    if said:
        raise CacheError(
            f"{option} {path} does not fit the model; tensors {'; '.join(said)}; give the model "
            "that it was saved from, and as many classes (dabench adapt: --classes)"
        )
    net.load_state_dict(state, strict=False)
    return others


def _first_five(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return one_line(", ".join(names[:5]), 300) + more


def load_backbone(net: nn.Module, name: str, path: Path) -> None:
    """Load the state dict in a file into a backbone; the file may have a head as well.

    Raises:
        CacheError: it cannot be read, or does not fit.
    """

    def used(state: State) -> State:
        return {k: v for k, v in of_old_names(state).items() if not is_unused(name, k)}

    load_fitting(net, name, path, used, lambda key, state: False)


def load_fitting(
    net: nn.Module,
    name: str,
    path: Path,
    rename: Callable[[State], State],
    spare: Callable[[str, State], bool],
) -> None:
    """Load a state dict whose tensors are all used, but for a head's, and leave out none.

    Args:
        net: what is loaded into.
        name: of the network, for messages.
        path: of the file.
        rename: gives tensors our names.
        spare: (name of a tensor of the network, the renamed state) -> whether the file may lack
            it, or have it in another shape.

    Raises:
        CacheError: it cannot be read, or does not fit.
    """
    raw, own = read_state(path), net.state_dict()
    state = _without_prefix(raw, own, rename)
    fits = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    wanted = [k for k in own if not spare(k, state)]
    # files of old versions of PyTorch have no counters
    missing = [k for k in wanted if k not in state and not k.endswith(".num_batches_tracked")]
    other = [k for k in wanted if k in state and k not in fits]
    further = [k for k in state if k not in own and not _is_of_head(k)]
    faults = [
        _listed(missing, own, "missing"),
        _listed(further, state, "that the network does not have"),
        *(f"{len(other)} of another shape, first '{k}' {_both(k, state, own)}" for k in other[:1]),
    ]
    if any(faults):
        raise CacheError(
            f"--weights {path} does not fit {name}: tensors {'; '.join(filter(None, faults))}. "
            f"The file has {_listed(list(raw), raw)}; the network has {_listed(list(own), own)}"
        )
    net.load_state_dict(fits, strict=False)


def _without_prefix(
    raw: State, own: Mapping[str, Tensor], rename: Callable[[State], State]
) -> State:
    """Return the renamed state without the prefix under which most names are the network's."""
    prefixes = {""}
    for key in raw:
        prefix = ""
        for part in key.split("."):
            if part not in _PREFIXES:
                break
            prefix += f"{part}."
            prefixes.add(prefix)
    found = [
        rename({key.removeprefix(prefix): value for key, value in raw.items()})
        for prefix in sorted(prefixes, key=lambda prefix: (len(prefix), prefix))
    ]
    return max(found, key=lambda state: len(state.keys() & own.keys()))


def _is_of_head(key: str) -> bool:
    return key.removeprefix("backbone.").split(".")[0] in _HEADS


def _listed(names: list[str], tensors: Mapping[str, Tensor], what: str = "") -> str:
    if not names:
        return ""
    number = f"{len(names)} {what}".rstrip()
    return f"{number}, first '{one_line(names[0], 80)}' {_shape(tensors[names[0]])}"


def _both(name: str, state: State, own: Mapping[str, Tensor]) -> str:
    return f"{_shape(state[name])} in the file, {_shape(own[name])} in the network"


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "scalar"
