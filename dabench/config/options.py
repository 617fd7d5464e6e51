"""The common options of ``dabench run``: their table, YAML files, and how the two are merged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

from dabench.errors import ConfigError, did_you_mean, one_line, shown

#: options that take a value: long name -> (type, least value, help)
OPTIONS: dict[str, tuple[type, int | None, str]] = {
    "method": (str, None, "name of the method (see 'dabench list')"),
    "protocol": (str, None, "name of the protocol; default: the method's first"),
    "dataset": (str, None, "name of the data set; default: the protocol's ('dabench list')"),
    "source": (str, None, "source domain"),
    "target": (str, None, "target domain"),
    "init": (str, None, "source | bn-target (BatchNorm re-estimated on the target)"),
    "backbone": (str, None, "network by name (small-cnn, wrn-40-2, torchvision, timm; small-seg)"),
    "weights": (str, None, "none | pretrained | PATH"),
    "image-size": (int, 8, "side of the images in pixels; in segmentation their height"),
    "epochs": (int, 0, "epochs of adaptation over the target"),
    "batch-size": (int, 1, "images a batch; default: the data set's, else 64 (segmentation 1)"),
    "source-epochs": (int, 1, "epochs of source training"),
    "freeze": (
        int,
        0,
        "lower stages of the backbone that stay frozen, or all; default: 0, or what the data set "
        "has for its own backbone",
    ),
    "seed": (int, 0, "one seed; default 0"),
    "seeds": (str, None, "several seeds: 5-9 or 0,1,2"),
    "source-backbone": (str, None, "network of a black-box source model; default --backbone"),
    "source-weights": (str, None, "its weights before source training; default --weights"),
    "source-model": (
        str,
        None,
        "path.py:function or module:function that returns it, or a name (wrn-28-10, resnet50)",
    ),
    "source-checkpoint": (str, None, "its weights: a state dict in .pt, .pth or .safetensors"),
    "source-head": (str, None, "name of its classifier; default: the last layer that fits"),
    "source-mean": (str, None, "what it expects to be taken off [0, 1] images: 0.48,0.45,0.40"),
    "source-std": (str, None, "and what to divide by"),
    "source-seed": (int, 0, "seed of the source model alone; default --seed"),
    "devices": (
        int,
        1,
        "GPUs that train the source model together (on a CPU: processes); default 1",
    ),
    "tuned": (str, None, "file of 'dabench tune' with the method's options"),
    "device": (str, None, "auto | cpu | cuda | cuda:N | mps; default auto"),
    "threads": (int, 1, "CPU threads; default all that are available"),
    "precision": (str, None, "32 | bf16 | fp16: of a network's passes while it adapts; default 32"),
    "oracle-url": (str, None, "address of a served source model; default $DABENCH_ORACLE_URL"),
    "data-root": (str, None, "folder of the data sets; default $DABENCH_DATA"),
    "results": (str, None, "folder of the results; default ./results"),
    "checkpoint-every": (int, 0, "steps between checkpoints of a stream, 0 = none; default 50"),
    "prefetch": (
        int,
        0,
        "batches of a stream made ahead of the step, a process each; default 0 on a CPU, else 2",
    ),
    "cache-dir": (str, None, "default $DABENCH_CACHE or ~/.cache/dabench"),
}
#: options without a value
FLAGS: dict[str, str] = {
    "force": "run again although a record exists (the old one moves to records/superseded/)",
    "resume": "go on from the checkpoint of a stream run that was killed",
    "save-model": "keep the adapted model, beside the run's curves: dabench.load_model reads it",
    "target-tuned": "options were chosen by the target's labels: the record and its row say so",
    "json": "print one JSON object on stdout and nothing else there",
    "no-progress": "no progress bars",
    "debug": "show the traceback of an error",
}
MOST_SEEDS = 10_000
_DIGITS = "0|[1-9][0-9]{0,19}"
_SEEDS = "a range like 5-9 or a list like 0,1,2"
#: the largest values, where memory or libraries set a limit (numpy's seeds have 32 bits)
_MOST = {
    **{"seed": 2**32 - 1, "source-seed": 2**32 - 1},
    **{"image-size": 16_384, "batch-size": 1_000_000, "threads": 4_096},
}
_FLAG_WORDS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
_WHAT = {
    **dict.fromkeys(("results", "data-root", "cache-dir", "tuned"), "a path"),
    **{"oracle-url": "an address", "weights": "none, pretrained or a path"},
    **{
        "source-checkpoint": "a path",
        "source-mean": "three numbers",
        "source-std": "three numbers",
    },
}
#: characters of a name or path; the longest path that systems allow
_LONGEST = 4_095


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a ``--config`` file: flat keys equal to the long option names.

    Raises:
        ConfigError: missing or invalid file, unknown key.
    """
    from dabench.config.yaml_file import read_mapping

    content = read_mapping(path, "--config", "method: usd") or {}
    check_options(content, f"--config {path}: unknown key")
    return content


def check_options(given: Mapping[str, Any], what: str = "unknown option") -> None:
    """Refuse a name that is no option of ``dabench run``.

    Args:
        given: by name.
        what: begins the message.

    Raises:
        ConfigError: names the nearest.
    """
    known = set(OPTIONS) | set(FLAGS)
    for key in given:
        if key not in known and not re.match(r"(method|protocol)\.\w", key):
            raise ConfigError(f"{what} {shown(key)}{did_you_mean(key, known)}")


def as_argument(value: Any) -> str:
    """Return an option's value as one gives it on the command line."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def merge(args: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the command line (None = not given) over the YAML file that it names as ``config``."""
    given = {
        key: value
        for key, value in args.items()
        # None = not given on the command line; what a program says of a method, it says
        if (value is not None or "." in key) and not (key in FLAGS and value is False)
    }
    config = given.pop("config", None)
    filed = read_yaml(Path(config)) if config is not None else {}
    if "seed" in given or "seeds" in given:
        filed = {key: value for key, value in filed.items() if key not in ("seed", "seeds")}
    merged = {**filed, **given}
    return {
        key: _typed(key, value)
        for key, value in merged.items()
        if value is not None or "." in key  # 'method.x: null' is a value
    }


def _typed(key: str, value: Any) -> Any:
    """Check a common option's type and range; method and protocol options pass."""
    if key in FLAGS:
        flag = value if isinstance(value, bool) else _FLAG_WORDS.get(str(value).lower())
        if flag is None:
            raise ConfigError(f"--{key} {shown(value)}: expected true or false")
        return flag
    kind, least, _ = OPTIONS.get(key, (object, None, ""))
    if key == "freeze" and value == "all":
        return value
    if kind is int:
        return _whole_number(key, value, least or 0)
    if key == "seeds" or kind is object:
        return value
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise ConfigError(f"--{key} {shown(value)}: expected {_WHAT.get(key, 'a name')}")
    if "\0" in str(value) or len(str(value)) > _LONGEST:
        raise ConfigError(
            f"--{key} {shown(value)}: expected {_WHAT.get(key, 'a name')} of at most {_LONGEST} "
            "characters, none of them a zero byte"
        )
    return str(value)


def _whole_number(key: str, value: Any, least: int) -> int:
    most = _MOST.get(key, 2**31 - 1)
    number = int(str(value)) if is_number(value, whole=True) else None
    if number is None:
        also = " or all" if key == "freeze" else ""
        raise ConfigError(f"--{key} {shown(value)}: expected a whole number{also}")
    if number < least:
        raise ConfigError(f"--{key} {shown(number)}: expected {least} or more")
    if number > most:
        raise ConfigError(f"--{key} {shown(number)}: expected {most} or less")
    return number


def is_number(value: Any, *, whole: bool = False) -> bool:
    """Return whether text is a number as options are given: ``12``, ``-0.5``, ``1e-3``.

    Python reads more as a number: ``1_0``, other scripts' digits, ``010``, spaces around it, nan.
    """
    if isinstance(value, bool) or not isinstance(value, str | Integral):  # NumPy's, too
        return False
    text, digits = str(value), "(0|[1-9][0-9]*)"
    pattern = digits if whole else rf"({digits}(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"
    return len(text) <= 100 and re.fullmatch(f"[-+]?{pattern}", text) is not None


def parse_seeds(value: Any) -> list[int]:
    """Read ``5-9``, ``0,1,2``, ``3`` or a list of numbers.

    Raises:
        ConfigError: no seeds or too many of them, no numbers, or one that is too large.
    """
    parts = value if isinstance(value, list) else _word(value).split(",")
    seeds: dict[int, None] = {}
    for part in parts:
        match = re.fullmatch(rf"({_DIGITS})(?:-({_DIGITS}))?", _word(part))
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ConfigError(f"--seeds {_seed_text(value)}: expected {_SEEDS}")
        if last > _MOST["seed"]:
            raise ConfigError(
                f"--seeds {_seed_text(value)}: a seed is a number from 0 to {_MOST['seed']}"
            )
        if len(seeds) + last - first >= MOST_SEEDS:
            raise ConfigError(
                f"--seeds {_seed_text(value)}: more than {MOST_SEEDS} seeds; give them in parts"
            )
        seeds |= dict.fromkeys(range(first, last + 1))
    if not seeds:
        raise ConfigError(f"--seeds {_seed_text(value)}: no seed; expected {_SEEDS}")
    return list(seeds)


def _word(part: Any) -> str:
    return str(part).strip() if isinstance(part, str | int) else ""


def _seed_text(value: Any) -> str:
    return one_line(value, 60) if isinstance(value, str | int) else shown(value)


def row_label(method: str, init: str) -> str:
    """Return a method's name, with ``+bn`` where BatchNorm is re-estimated on the target."""
    return method + ("+bn" if init == "bn-target" else "")
