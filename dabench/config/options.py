"""The common options of ``dabench run``: their table, YAML files, and how the two are merged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dabench.errors import ConfigError, did_you_mean

#: options that take a value: long name -> (type, least value, help)
OPTIONS: dict[str, tuple[type, int | None, str]] = {
    "method": (str, None, "name of the method (see 'dabench list')"),
    "protocol": (str, None, "name of the protocol; default: the method's first"),
    "dataset": (str, None, "name of the data set; default: the protocol's (digits)"),
    "source": (str, None, "source domain"),
    "target": (str, None, "target domain"),
    "init": (str, None, "source | bn-target (BatchNorm re-estimated on the target)"),
    "backbone": (str, None, "network by name (small-cnn, torchvision, timm; small-seg)"),
    "weights": (str, None, "none | pretrained | PATH"),
    "image-size": (int, 8, "side of the images in pixels; in segmentation their height"),
    "epochs": (int, 0, "epochs of adaptation over the target"),
    "batch-size": (int, 1, "images a batch; default 64, in segmentation 1"),
    "source-epochs": (int, 1, "epochs of source training"),
    "freeze": (int, 0, "lower stages of the backbone that stay frozen; default 0"),
    "seed": (int, 0, "one seed; default 0"),
    "seeds": (str, None, "several seeds: 5-9 or 0,1,2"),
    "source-backbone": (str, None, "network of a black-box source model; default --backbone"),
    "source-weights": (str, None, "its weights before source training; default --weights"),
    "source-seed": (int, 0, "seed of the source model alone; default --seed"),
    "device": (str, None, "auto | cpu | cuda | cuda:N; default auto"),
    "threads": (int, 1, "CPU threads; default all that are available"),
    "oracle-url": (str, None, "address of a served source model; default $DABENCH_ORACLE_URL"),
    "data-root": (str, None, "folder of the data sets; default $DABENCH_DATA"),
    "results": (str, None, "folder of the results; default ./results"),
    "checkpoint-every": (int, 0, "steps between checkpoints of a stream, 0 = none; default 50"),
    "cache-dir": (str, None, "default $DABENCH_CACHE or ~/.cache/dabench"),
}
#: options without a value
FLAGS: dict[str, str] = {
    "force": "run again although a record exists (the old one moves to records/superseded/)",
    "resume": "go on from the checkpoint of a stream run that was killed",
    "target-tuned": "options were chosen by the target's labels: the record and its row say so",
    "json": "print one JSON object on stdout and nothing else there",
    "no-progress": "no progress bars",
    "debug": "show the traceback of an error",
}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a ``--config`` file: flat keys equal to the long option names.

    Raises:
        ConfigError: missing or invalid file, unknown key.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise ConfigError(f"--config {path}: not valid YAML: {where}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: expected lines like 'method: usd'")
    known = set(OPTIONS) | set(FLAGS)
    for key in content:
        if key not in known and not re.match(r"(method|protocol)\.\w", str(key)):
            raise ConfigError(
                f"--config {path}: unknown key '{key}'{did_you_mean(str(key), known)}"
            )
    return content


def merge(args: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the command line (None = not given) over the YAML file that it names as ``config``."""
    given = {
        key: value
        for key, value in args.items()
        if value is not None and not (key in FLAGS and value is False)
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
        if not isinstance(value, bool):
            raise ConfigError(f"--{key} {value!r}: expected true or false")
        return value
    kind, least, _ = OPTIONS.get(key, (object, None, ""))
    if kind is int:
        try:
            number = int(str(value))
        except ValueError:
            raise ConfigError(f"--{key} {value!r}: expected a whole number") from None
        if least is not None and number < least:
            raise ConfigError(f"--{key} {number}: expected {least} or more")
        return number
    if (
        kind is str
        and key != "seeds"
        and (not isinstance(value, str | int) or isinstance(value, bool) or value == "")
    ):
        raise ConfigError(f"--{key} {value!r}: expected a name")
    return str(value) if kind is str and key != "seeds" else value


def parse_seeds(value: Any) -> list[int]:
    """Read ``5-9``, ``0,1,2``, ``3`` or a list of numbers."""
    parts = value if isinstance(value, list) else str(value).split(",")
    seeds: list[int] = []
    for part in parts:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", str(part).strip())
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise ConfigError(f"--seeds {value}: expected a range like 5-9 or a list like 0,1,2")
        seeds.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return list(dict.fromkeys(seeds))
