"""Names of methods, protocols and data sets -> where their classes live.

Only strings stand here, so that ``dabench list`` imports neither torch nor a method. To add a
method, a data set or a protocol: write its file and add one line below.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dabench.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Entry:
    """``target`` is "module:Class"; ``summary`` one line for ``dabench list``."""

    target: str
    summary: str


@dataclass(frozen=True)
class DataEntry(Entry):
    """A data set; ``per_class``: its field ranks by the mean of per-class accuracies.

    ``kind`` is the task that its labels pose: classification or segmentation.
    """

    per_class: bool = False
    kind: str = "classification"


@dataclass(frozen=True)
class MethodEntry(Entry):
    """A method with the protocols that it serves; the first one is its default.

    ``baseline``: it learns nothing from the target, and others are held against the best such row.
    ``alias_of``: it is a setting of that method; where both were run alike, ranks count one.
    """

    protocols: tuple[str, ...]
    baseline: bool = False
    alias_of: str | None = None


@dataclass(frozen=True)
class ProtocolEntry(Entry):
    """A protocol with the data set used when none is named, and the metric that ranks."""

    default_dataset: str
    primary_metric: str


#: the protocols that push a stream of images with one class each, of frames with dense labels
ONLINE = ("gradual-weather", "online-tta", "continual-tta")
DENSE = ("online-seg",)
STREAMS = (*ONLINE, *DENSE)

METHODS: dict[str, MethodEntry] = {
    "source": MethodEntry(
        "dabench.methods.source:Source",
        "the source model as it is; a cut on normalised entropy for 'unknown' (lower baseline)",
        ("sf-osda", "sf-uda", "bb-uda", *STREAMS),
        baseline=True,
    ),
    "shot": MethodEntry(
        "dabench.methods.shot:Shot",
        "information maximisation and self-supervised pseudo-labels, frozen classifier",
        ("sf-osda", "sf-uda"),
    ),
    "usd": MethodEntry(
        "dabench.methods.usd:USD",
        "known/unknown separation by Jensen-Shannon distance, teacher and (K+1)-way student",
        ("sf-osda",),
    ),
    "target-supervised": MethodEntry(
        "dabench.protocols.upper_bound:TargetSupervised",
        "trained by the protocol with target labels (upper bound)",
        ("sf-osda", "sf-uda", "bb-uda", *STREAMS),
    ),
    "cabb": MethodEntry(
        "dabench.methods.cabb:CABB",
        "two branches, Jensen-Shannon clean/noisy separation, co-training, curriculum",
        ("bb-uda",),
    ),
    "dine": MethodEntry(
        "dabench.methods.dine:DINE",
        "distillation from smoothed answers, mixup and information maximisation",
        ("bb-uda",),
    ),
    "beta": MethodEntry(
        "dabench.methods.beta:BETA",
        "two networks: distillation, easy/hard division by loss, mutual refinement",
        ("bb-uda",),
    ),
    "pseudo-label": MethodEntry(
        "dabench.methods.pseudo_label:PseudoLabel",
        "plain distillation: cross-entropy with the oracle's answers",
        ("bb-uda",),
    ),
    "bn-adapt": MethodEntry(
        "dabench.methods.bn_adapt:BNAdapt",
        "BatchNorm statistics of each batch in place of the source's; no gradient",
        STREAMS,
        baseline=True,
    ),
    "tent": MethodEntry(
        "dabench.methods.tent:Tent",
        "entropy of each batch, by weight and bias of normalisation layers",
        STREAMS,
    ),
    "eata": MethodEntry(
        "dabench.methods.eata:EATA",
        "as tent, on reliable and novel samples, with a Fisher penalty against forgetting",
        ONLINE,
    ),
    "sar": MethodEntry(
        "dabench.methods.sar:SAR",
        "as tent, on reliable samples, sharpness-aware, with a reset on collapse",
        ONLINE,
    ),
    "cotta": MethodEntry(
        "dabench.methods.cotta:CoTTA",
        "averaged teacher over augmented views, stochastic restoration of weights",
        STREAMS,
    ),
    "max-squares": MethodEntry(
        "dabench.methods.max_squares:MaxSquares",
        "as tent, with the maximum-squares loss",
        DENSE,
    ),
    "tta-aug": MethodEntry(
        "dabench.methods.tta_aug:TTAAug",
        "mean over the image and changed views of it, brought back to its frame; no learning",
        DENSE,
        baseline=True,
    ),
    "transadapt": MethodEntry(
        "dabench.methods.transadapt:TransAdapt",
        "transfer module from source training; unsupervised, invariance and equivariance losses",
        DENSE,
    ),
    "shot-online": MethodEntry(
        "dabench.methods.shot_online:ShotOnline",
        "shot, one step a batch, with running centroids",
        ONLINE,
    ),
    "conda": MethodEntry(
        "dabench.methods.conda:ConDA",
        "buffer of past images, mixup of centroid pseudo-labels, frozen classifier",
        ONLINE,
    ),
    "ucl-gv": MethodEntry(
        "dabench.methods.ucl_gv:UCLGV",
        "buffer of past images, contrast of batch and buffer, frozen classifier",
        ONLINE,
    ),
    "aerial": MethodEntry(
        "dabench.methods.aerial:Aerial",
        "conda with normalised gradients (an alias, counted once in ranks)",
        ONLINE,
        alias_of="conda",
    ),
}

PROTOCOLS: dict[str, ProtocolEntry] = {
    "sf-osda": ProtocolEntry(
        "dabench.protocols.sf_osda:SourceFreeOpenSet",
        "source-free adaptation, open set: the target also holds classes the source never saw",
        "digits",
        "HOS",
    ),
    "sf-uda": ProtocolEntry(
        "dabench.protocols.sf_uda:SourceFreeClosedSet",
        "source-free adaptation, closed set: source and target share their classes",
        "digits",
        "accuracy",
    ),
    "bb-uda": ProtocolEntry(
        "dabench.protocols.bb_uda:BlackBoxClosedSet",
        "black-box adaptation, closed or partial set: the source model only answers",
        "digits",
        "accuracy",
    ),
    "gradual-weather": ProtocolEntry(
        "dabench.protocols.gradual_weather:GradualWeather",
        "one batch at a time, each seen once, while the weather worsens level by level",
        "overhead",
        "accuracy/final",
    ),
    "online-tta": ProtocolEntry(
        "dabench.protocols.online_tta:OnlineTTA",
        "one batch at a time under one shift, a fresh model for each shift",
        "overhead",
        "accuracy",
    ),
    "continual-tta": ProtocolEntry(
        "dabench.protocols.continual_tta:ContinualTTA",
        "one batch at a time under shift after shift, without a reset",
        "overhead",
        "accuracy",
    ),
    "online-seg": ProtocolEntry(
        "dabench.protocols.online_seg:OnlineSegmentation",
        "segmentation, one frame at a time, under a schedule of weather",
        "streets",
        "mIoU/mean-conditions",
    ),
}

DATASETS: dict[str, DataEntry] = {
    "digits": DataEntry(
        "dabench.datasets.digits:Digits",
        "printed fonts -> real hand-written digits, 32 px, embedded (nothing to download)",
    ),
    "overhead": DataEntry(
        "dabench.datasets.overhead:Overhead",
        "drawn land-use scenes from above, 10 classes, embedded (nothing to download)",
    ),
    "streets": DataEntry(
        "dabench.datasets.streets:Streets",
        "embedded: drawn driving scenes, two looks (avenue, oldtown), dense labels; 11 classes",
        kind="segmentation",
    ),
    "office31": DataEntry(
        "dabench.datasets.class_folder:Office31", "Office-31: amazon, webcam, dslr; 31 classes"
    ),
    "office-home": DataEntry(
        "dabench.datasets.class_folder:OfficeHome",
        "Office-Home: art, clipart, product, real world; 65 classes",
    ),
    "visda-c": DataEntry(
        "dabench.datasets.class_folder:VisdaC",
        "VisDA-C 2017: synthetic -> real; 12 classes",
        per_class=True,
    ),
    "pacs": DataEntry(
        "dabench.datasets.class_folder:Pacs", "PACS: photo, art, cartoon, sketch; 7 classes"
    ),
    "aid": DataEntry(
        "dabench.datasets.aerial:Aid", "AID: aerial scenes, one domain (clear); 30 classes"
    ),
    "ucm": DataEntry(
        "dabench.datasets.aerial:Ucm",
        "UC Merced Land Use: aerial scenes, one domain (clear); 21 classes",
    ),
    "camvid": DataEntry(
        "dabench.datasets.camvid:CamVid",
        "CamVid: driving by day, segmentation, one domain (day); 11 classes",
        kind="segmentation",
    ),
    "cityscapes": DataEntry(
        "dabench.datasets.driving:Cityscapes",
        "Cityscapes: driving by day, segmentation, one domain; 19 classes",
        kind="segmentation",
    ),
    "acdc": DataEntry(
        "dabench.datasets.driving:Acdc",
        "ACDC: Cityscapes -> fog, night, rain, snow, segmentation; 19 classes",
        kind="segmentation",
    ),
    "gta5": DataEntry(
        "dabench.datasets.driving:Gta5",
        "GTA5 -> Cityscapes, segmentation; 19 classes",
        kind="segmentation",
    ),
    "synthia": DataEntry(
        "dabench.datasets.driving:Synthia",
        "SYNTHIA -> Cityscapes, segmentation; 16 classes, 13 as a subset",
        kind="segmentation",
    ),
    "crosscity": DataEntry(
        "dabench.datasets.driving:CrossCity",
        "CrossCity: Cityscapes -> Rome, Rio, Tokyo, Taipei, segmentation; 13 classes",
        kind="segmentation",
    ),
    "image-folder": DataEntry(
        "dabench.datasets.class_folder:ImageFolder", "any domain/class/*.jpg tree of your own"
    ),
}


def entry(kind: str, table: Mapping[str, Entry], name: str) -> Entry:
    """Return the entry of ``name``.

    Raises:
        ConfigError: unknown name; suggests the nearest.
    """
    if name not in table:
        raise ConfigError(f"unknown {kind} '{name}'{did_you_mean(name, table)}")
    return table[name]


def primary_metric(protocol: str, dataset: str) -> str:
    """Return the metric that ranks a protocol's runs on a data set."""
    found = PROTOCOLS[protocol].primary_metric if protocol in PROTOCOLS else "accuracy"
    per_class = dataset in DATASETS and DATASETS[dataset].per_class
    return "mean_class_accuracy" if per_class and found == "accuracy" else found


def _load(found: Entry) -> type[Any]:
    module, _, attribute = found.target.partition(":")
    loaded: type[Any] = getattr(importlib.import_module(module), attribute)
    return loaded


def method(name: str) -> type[Any]:
    """Import and return a method's class (raises ConfigError for an unknown name)."""
    return _load(entry("method", METHODS, name))


def protocol(name: str) -> type[Any]:
    """Import and return a protocol's class (raises ConfigError for an unknown name)."""
    return _load(entry("protocol", PROTOCOLS, name))


def dataset(name: str) -> type[Any]:
    """Import and return a data set's class (raises ConfigError for an unknown name)."""
    return _load(entry("data set", DATASETS, name))


def kind_of(protocol_name: str) -> str:
    """Return the kind of task that a protocol poses."""
    return str(getattr(protocol(protocol_name), "kind", "classification"))


def check_method_kind(method_name: str, protocol_name: str) -> None:
    """Raise ``ConfigError`` where a method does not serve the kind of task of a protocol."""
    kinds = getattr(method(method_name), "kinds", frozenset({"classification"}))
    kind = kind_of(protocol_name)
    if kind not in kinds:
        raise ConfigError(
            f"{protocol_name} is a protocol of {kind}, and method '{method_name}' serves "
            f"{' and '.join(sorted(kinds))} alone; 'dabench list' shows what serves what"
        )


def check_data_kind(protocol_name: str, dataset_name: str, kind: str) -> None:
    """Raise ``ConfigError`` where data of ``kind`` are not what a protocol needs."""
    wanted = kind_of(protocol_name)
    if kind == wanted:
        return
    fitting = [name for name, found in DATASETS.items() if found.kind == wanted]
    such = f" such as {' or '.join(fitting[:2])}" if fitting else ""
    raise ConfigError(
        f"{protocol_name} needs a {wanted} data set{such}; {dataset_name} is {kind}: choose "
        "another --dataset or --protocol"
    )
