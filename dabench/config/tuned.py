"""Options that were chosen on development shifts: a file of ``dabench tune``, read for a run."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dabench import registry
from dabench.config.conditions import conditions, shared_conditions
from dabench.config.options import row_label
from dabench.config.signature import validate_options
from dabench.config.yaml_file import read_mapping
from dabench.errors import ConfigError, reason_of, shown

#: fields of a spec that say which network a run starts from, and what of it may learn
NETWORK_FIELDS = (
    *("backbone", "weights", "freeze", "source_backbone", "source_weights"),
    *("source_model", "source_checkpoint", "source_head", "source_mean", "source_std"),
)
#: of the files that this dabench writes and reads
SCHEMA = "1"


@dataclass(frozen=True)
class Choice:
    """What was chosen for a method: its version, and the options that are not its defaults."""

    version: str
    options: dict[str, Any]


@dataclass(frozen=True)
class TunedFile:
    """What a run needs of a file of ``dabench tune``.

    Attributes:
        schema: of the file.
        protocol: under which the trials ran.
        dataset: on which.
        network: ``NETWORK_FIELDS`` that are set, as text; of a file in ``files`` the name alone.
        files: field -> SHA-256 of a file of weights, or of the code of a source model.
        development: what the trials showed, as ``conditions`` names it.
        methods: label of a row -> what was chosen.
    """

    schema: str
    protocol: str
    dataset: str
    network: dict[str, str]
    files: dict[str, str]
    development: list[str]
    methods: dict[str, Choice]


@dataclass(frozen=True)
class Tuned:
    """Where the options of a run come from.

    Attributes:
        path: of the file, as it was given.
        digest: SHA-256 of its content.
        files: SHA-256 by field of the weight files that the trials used.
        whole: the run has exactly the options that were chosen: it may be called tuned.
        notes: what was given by hand in place of a chosen option, a line each.
        development: what the trials showed, as ``conditions`` names it.
    """

    path: str
    digest: str
    files: tuple[tuple[str, str], ...]
    whole: bool
    notes: tuple[str, ...] = ()
    development: tuple[str, ...] = ()

    def check_files(self, found: Mapping[str, str]) -> None:
        """Refuse other weights than those of the trials.

        Args:
            found: SHA-256 by field of the run's weight files.

        Raises:
            ConfigError: names the field.
        """
        for name, digest in self.files:
            if found.get(name) != digest:
                raise ConfigError(
                    f"--tuned {self.path}: chosen for other weights (--{name.replace('_', '-')}); "
                    "give those, or run 'dabench tune' for these"
                )

    def check_shown(self, spec: Mapping[str, Any]) -> None:
        """Refuse to report what the options were chosen on.

        Args:
            spec: fields of a spec; once more with the names as the data set spells them.

        Raises:
            ConfigError: names what the trials showed, too.
        """
        if shared := shared_conditions(conditions(spec), self.development):
            raise ConfigError(
                f"--tuned {self.path}: the options were chosen on {', '.join(shared)}, which this "
                "run would report; choose other shifts or another task, or give the options by "
                "hand with --target-tuned"
            )

    def mark(self) -> dict[str, dict[str, str]]:
        """Return what the record of such a run says of it, by key."""
        named = {"file": Path(self.path).name, "sha256": self.digest}
        return {"tuned": named} if self.whole else {}


def read_tuned(path: Path) -> TunedFile:
    """Read a file of ``dabench tune``.

    Raises:
        ConfigError: missing, not YAML, or without something that it must have.
    """
    try:
        return _parsed(path, file_digest(path))
    except OSError as error:
        raise ConfigError(f"--tuned {path}: cannot be read ({reason_of(error)})") from None


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a small file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.lru_cache(maxsize=16)
def _parsed(path: Path, digest: str) -> TunedFile:
    """Read a file of this content once: a sweep asks for every method."""
    from pydantic import TypeAdapter, ValidationError

    content = read_mapping(path, "--tuned", "dataset: digits") or {}
    try:
        found = TypeAdapter(TunedFile).validate_python(content)
        if found.schema == SCHEMA:
            return found
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its content"
        raise ConfigError(
            f"--tuned {path}: {place}: {first['msg'].lower()}; expected a file that "
            "'dabench tune' wrote"
        ) from None
    raise ConfigError(
        f"--tuned {path}: schema {shown(found.schema)}, and this dabench reads {SCHEMA}; update "
        "dabench, or run 'dabench tune' again"
    )


def tuned_options(
    path: str, spec: Mapping[str, Any], by_hand: Mapping[str, Any], method_class: type[Any]
) -> tuple[dict[str, Any], Tuned]:
    """Return a method's options from a file, with those given by hand laid over them.

    Args:
        path: of the file.
        spec: fields of the run's spec, but for the method's options.
        by_hand: options of the method, as the user wrote them.
        method_class: of the method.

    Raises:
        ConfigError: the file does not fit the method, its version, the data set or the network;
            or the run shows what the options were chosen on.
    """
    where = f"--tuned {path}"
    found = read_tuned(Path(path))
    label = row_label(spec["method"], spec["init"])
    if label not in found.methods:
        raise ConfigError(
            f"{where}: it has no options of {label}, but of {', '.join(sorted(found.methods))}; "
            "leave --tuned out, or tune this method too"
        )
    choice = found.methods[label]
    version = registry.version_of("method", spec["method"], method_class)
    if choice.version != version:
        raise ConfigError(
            f"{where}: chosen for version {choice.version} of {label}, and this is version "
            f"{version}; run 'dabench tune' again"
        )
    _check_setting(where, found, spec)
    options = {**choice.options, **by_hand}
    values = validate_options(method_class, options, "method")
    chosen = validate_options(method_class, choice.options, "method")
    other = [n for n in sorted({*values, *chosen}) if values.get(n) != chosen.get(n)]
    notes = [
        f"{label}: --method.{name} {shown(values.get(name))} is given by hand, {path} says "
        f"{shown(chosen.get(name))}; the record is not marked 'tuned'"
        for name in other
    ]
    files = tuple(sorted(found.files.items()))
    about = (path, file_digest(Path(path)), files, not other, tuple(notes))
    tuned = Tuned(*about, tuple(found.development))
    tuned.check_shown(spec)
    return options, tuned


def network_of(spec: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, str]:
    """Return the network of a spec as text; a file is named without its folder.

    Args:
        spec: fields of a spec.
        files: those that are known by their digests.
    """
    set_ones = {n: str(spec[n]) for n in NETWORK_FIELDS if spec.get(n) not in (None, 0)}
    return {n: Path(v).name if n in files else v for n, v in set_ones.items()}


def model_files(plugins: Iterable[registry.Plugin]) -> dict[str, str]:
    """Return the SHA-256 of the file that a source model comes from, by field; {}: it is named."""
    own = [plugin.sha256 for plugin in plugins if plugin.kind == "model"]
    return {"source_model": own[0]} if own else {}


def _check_setting(where: str, found: TunedFile, spec: Mapping[str, Any]) -> None:
    if found.dataset != spec["dataset"]:
        raise ConfigError(
            f"{where}: chosen on {found.dataset}, and this run is on {spec['dataset']}; "
            "run 'dabench tune' there"
        )
    ours = network_of(spec, found.files)
    for name in NETWORK_FIELDS:
        if name not in found.files and ours.get(name) != found.network.get(name):
            raise ConfigError(
                f"{where}: chosen with {name.replace('_', '-')} "
                f"{found.network.get(name, 'as it comes')}, and this run has "
                f"{ours.get(name, 'none')}; run 'dabench tune' for this network"
            )
