"""From options to a ``RunSpec``: command line > YAML file > the data set's defaults > global ones.

Options are known by their long names ("image-size", "method.lr") both on the command line and in
a YAML file. Heavy imports (torch, pydantic) happen inside functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dabench import registry
from dabench.config.checks import check_documented, check_domains, check_setting
from dabench.config.devices import several_devices
from dabench.config.hardware import available_cores, resolve_device, resolve_precision
from dabench.config.options import merge, parse_seeds
from dabench.config.own_model import own_model
from dabench.config.signature import usual_options, validate_options
from dabench.config.tuned import Tuned, tuned_options
from dabench.errors import ConfigError, did_you_mean

_SPEC_DEFAULTS: dict[str, Any] = {"freeze": 0}
#: kind of task -> batch size where none is given
_BATCH_SIZES = {"classification": 64, "segmentation": 1}
_FROM_DATA = (
    *("source", "target", "backbone", "weights", "image_size"),
    *("epochs", "batch_size", "source_epochs", "freeze"),
)
_INITS = ("source", "bn-target")
#: after the class of a source model that a program handed over, in place of a name
IN_MEMORY = " (in memory)"
#: fields of a spec that stand in a record only where they are given
OPTIONAL_FIELDS = (
    *("source_seed", "source_backbone", "source_weights", "devices", "precision"),
    *("source_model", "source_checkpoint", "source_head", "source_mean", "source_std"),
)


#: fields that are no part of what a record calls its spec
UNRECORDED = ("plugins", "module", "tuned")


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's numbers, defaults filled in."""

    method: str
    protocol: str
    dataset: str
    source: str
    target: str
    init: str
    backbone: str
    weights: str
    image_size: int
    epochs: int
    batch_size: int
    source_epochs: int
    freeze: int | Literal["all"]
    seed: int
    device: str
    threads: int
    method_options: dict[str, Any]
    protocol_options: dict[str, Any]
    source_seed: int | None = None
    source_backbone: str | None = None
    source_weights: str | None = None
    devices: int | None = None
    source_model: str | None = None
    source_checkpoint: str | None = None
    source_head: str | None = None
    source_mean: str | None = None
    source_std: str | None = None
    precision: str | None = None
    #: where classes that are not dabench's own come from
    plugins: tuple[registry.Plugin, ...] = ()
    #: a source model that a program handed over: an ``nn.Module``
    module: Any = None
    #: the file that the method's options come from: a run is the same with them given by hand
    tuned: Tuned | None = None

    @property
    def training_seed(self) -> int:
        """The seed of the source model."""
        return self.seed if self.source_seed is None else self.source_seed

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, ready for JSON; optional fields only where they are given."""
        # not asdict, which copies every value deeply: a sweep asks for thousands
        own = {"method_options": {**self.method_options}}
        own["protocol_options"] = {**self.protocol_options}
        fields = {**vars(self), **own}
        for name in UNRECORDED:
            del fields[name]
        return {k: v for k, v in fields.items() if k not in OPTIONAL_FIELDS or v is not None}


def resolve(args: Mapping[str, Any], *, here: bool = True) -> list[RunSpec]:
    """Turn options (long name -> value, None = not given) into one full spec a seed.

    Args:
        args: the options.
        here: whether the runs are for this machine; the device of others stays as it is given.

    Raises:
        ConfigError: a name, value or combination that does not fit.
    """
    given = merge(args)
    if "seed" in given and "seeds" in given:
        raise ConfigError("give --seed or --seeds, not both")
    seeds = parse_seeds(given["seeds"]) if "seeds" in given else [given.get("seed", 0)]
    method, protocol, dataset = chosen_names(given)
    registry.check_method_kind(method, protocol)
    registry.check_data_kind(protocol, dataset, registry.DATASETS[dataset].kind)
    data = registry.dataset(dataset)
    check_domains(protocol, dataset, data)
    given, models = own_model(several_devices(given, protocol, here=here), protocol)
    common = _fill(given, protocol, dataset, data, registry.kind_of(protocol))
    method_class, device = registry.method(method), given.get("device", "auto")
    plugins = registry.plugins_of(method=method, protocol=protocol, dataset=dataset) + models
    for plugin in plugins:
        check_documented(plugin)
    fields: dict[str, Any] = {
        "method": method,
        "protocol": protocol,
        "dataset": dataset,
        **common,
        **_one_pass(protocol, given),
        **{name: given.get(name.replace("_", "-")) for name in OPTIONAL_FIELDS},
        "init": given.get("init", usual_init(method_class, common["weights"])),
        "device": resolve_device(device) if here else device,
        "threads": given.get("threads", available_cores()),
        "protocol_options": validate_options(
            registry.protocol(protocol),
            {**protocol_defaults(protocol, data), **_with_prefix(given, "protocol")},
            "protocol",
        ),
    }
    fields["precision"] = resolve_precision(given.get("precision"))
    if fields["init"] not in _INITS:
        raise ConfigError(f"--init '{fields['init']}': expected {' or '.join(_INITS)}")
    options, tuned = _with_prefix(given, "method"), None
    if "tuned" in given:
        options, tuned = tuned_options(given["tuned"], fields, options, method_class)
    fields |= {"method_options": validate_options(method_class, options, "method"), "tuned": tuned}
    check_setting(protocol, fields)
    return [RunSpec(**fields, seed=seed, plugins=plugins) for seed in seeds]


def usual_init(method_class: type[Any], weights: str) -> str:
    """Return the method's own start; ``auto`` keeps the statistics of a pretrained network."""
    usual: str = getattr(method_class, "default_init", "source")
    if usual == "auto":
        return "bn-target" if weights == "none" else "source"
    return usual


def _one_pass(protocol: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """On a stream every image is seen once, whatever the data set's default says."""
    found = registry.protocol(protocol)
    if not getattr(found, "online", False):
        return {}
    if given.get("epochs", 1) != 1:
        raise ConfigError(f"--epochs {given['epochs']}: {protocol} shows every image once; drop it")
    if not getattr(found, "single", False):
        return {"epochs": 1}
    size = given.get("batch-size", 1)
    if size != 1:
        raise ConfigError(f"--batch-size {size}: {protocol} shows one image at a time; drop it")
    return {"epochs": 1, "batch_size": 1}


def chosen_names(given: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the names of method, protocol and data set, checked against the registry."""
    if "method" not in given:
        raise ConfigError("--method is needed: dabench run --method NAME (see 'dabench list')")
    method = registry.name_of("method", given["method"])
    serves = registry.METHODS[method].protocols
    protocol = registry.name_of("protocol", given.get("protocol", serves[0]))
    registry.check_serves(method, protocol)
    usual = registry.PROTOCOLS[protocol].default_dataset
    return method, protocol, registry.name_of("data set", given.get("dataset", usual))


def protocol_defaults(protocol: str, data: type[Any]) -> Mapping[str, Any]:
    """Return the options of a protocol that a data set fills in, as a user would write them."""
    found: Mapping[str, Mapping[str, Any]] = getattr(data, "protocol_defaults", {})
    return found.get(protocol, {})


def _with_prefix(given: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    start = prefix + "."
    return {
        key.removeprefix(start).replace("-", "_"): value
        for key, value in given.items()
        if key.startswith(start)
    }


def _fill(
    given: Mapping[str, Any], protocol: str, dataset: str, data: type[Any], kind: str
) -> dict[str, Any]:
    """Fill in what data set and kind of task decide; check domains' names and batch size."""
    usual = _BATCH_SIZES[kind]
    # training normalises by its batches; on a stream no layer needs more than one image
    posed = registry.protocol(protocol)
    least = 1 if getattr(posed, "online", False) else 2
    defaults = {**_SPEC_DEFAULTS, "batch_size": usual, **getattr(data, "defaults", {})}
    own = defaults.get("backbone")
    if own is not None and given.get("backbone", own) != own:
        defaults |= _SPEC_DEFAULTS  # stages of another network are others, and may be all it has
    if given.get("batch-size", usual) < least:
        raise ConfigError(f"--batch-size {given['batch-size']}: expected {least} or more")
    values: dict[str, Any] = {}
    domains: tuple[str, ...] = getattr(data, "domains", ())
    flags = {name: name.replace("_", "-") for name in _FROM_DATA}
    if missing := [f for n, f in flags.items() if f not in given and n not in defaults]:
        raise ConfigError(f"{dataset} has no default for --{', --'.join(missing)}; give a value")
    for name, flag in flags.items():
        values[name] = given.get(flag, defaults.get(name))
        if name in ("source", "target") and values[name]:  # bytes that are no UTF-8, from argv
            values[name] = str(values[name]).encode(errors="backslashreplace").decode()
        if name in ("source", "target") and domains:
            in_turn = kind == "segmentation" and name == "target"  # fog,night
            several = in_turn or (name == "source" and getattr(posed, "several_sources", False))
            for domain in values[name].split(",") if several else (values[name],):
                if domain.strip() not in domains:
                    near = did_you_mean(domain, domains)
                    raise ConfigError(f"--{name} '{domain}': {dataset} has no such domain{near}")
    return values


def changed_options(spec: RunSpec) -> dict[str, Any]:
    """Return the method's options that differ from its defaults (the ``variant`` of a record)."""
    return variant_of(spec.method, spec.method_options)


def variant_of(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a method's options that differ from its defaults."""
    usual = usual_options(registry.method(method), "method")
    return {n: value for n, value in options.items() if n not in usual or value != usual[n]}
