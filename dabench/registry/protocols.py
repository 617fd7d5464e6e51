"""The protocols by name: one entry each."""

from __future__ import annotations

from dabench.registry.entries import ProtocolEntry

#: the protocols that push a stream of images with one class each, of frames with dense labels
ONLINE = ("gradual-weather", "online-tta", "continual-tta")
DENSE = ("online-seg",)
STREAMS = (*ONLINE, *DENSE)
#: the protocols with a target set that every method-to-beat serves
OFFLINE = ("sf-osda", "sf-uda", "sf-pda", "sf-unida", "sf-msda", "bb-uda", "bb-osda")

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
    "sf-pda": ProtocolEntry(
        "dabench.protocols.sf_pda:SourceFreePartialSet",
        "source-free adaptation, partial set: the target lacks classes of the source",
        "digits",
        "accuracy",
        over_images=True,  # as the literature on partial sets has it, VisDA-C included
    ),
    "sf-unida": ProtocolEntry(
        "dabench.protocols.sf_unida:SourceFreeUniversal",
        "source-free adaptation, universal: source and target each have classes of their own",
        "digits",
        "HOS",
    ),
    "sf-msda": ProtocolEntry(
        "dabench.protocols.sf_msda:SourceFreeMultiSource",
        "source-free adaptation from several source models, closed set: --source a,b",
        "digits",
        "accuracy",
    ),
    "bb-uda": ProtocolEntry(
        "dabench.protocols.bb_uda:BlackBoxClosedSet",
        "black-box adaptation, closed or partial set: the source model only answers",
        "digits",
        "accuracy",
    ),
    "bb-osda": ProtocolEntry(
        "dabench.protocols.bb_osda:BlackBoxOpenSet",
        "black-box adaptation, open set: the target also holds classes the source never saw",
        "digits",
        "HOS",
    ),
    "gradual-weather": ProtocolEntry(
        "dabench.protocols.gradual_weather:GradualWeather",
        "one batch at a time, each seen once, while the weather worsens level by level",
        "overhead",
        "accuracy/final",
        second_metric="accuracy",
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
