"""The methods by name: one entry each; its first protocol is its default.

Those of streams stand in ``online_methods``.
"""

from __future__ import annotations

from dabench.registry.black_box import BLACK_BOX
from dabench.registry.entries import MethodEntry
from dabench.registry.online_methods import ONLINE_METHODS
from dabench.registry.protocols import OFFLINE, ONLINE, STREAMS

METHODS: dict[str, MethodEntry] = {
    "source": MethodEntry(
        "dabench.methods.source:Source",
        "the source model as it is; a cut on normalised entropy for 'unknown' (lower baseline)",
        (*OFFLINE, *STREAMS),
        baseline=True,
    ),
    "linear-probe": MethodEntry(
        "dabench.methods.source:Source",
        "as source, of a source model whose pretrained trunk was never trained, only its head",
        (*OFFLINE, *ONLINE),
        baseline=True,
        frozen_trunk=True,
    ),
    "prior-correction": MethodEntry(
        "dabench.methods.prior_correction:PriorCorrection",
        "the source model's answers with a factor a class, which brings them towards equal use",
        ("sf-uda", "bb-uda"),
    ),
    "shot": MethodEntry(
        "dabench.methods.source_free.shot:Shot",
        "information maximisation and self-supervised pseudo-labels, frozen classifier",
        ("sf-osda", "sf-uda", "sf-pda", "sf-msda"),
    ),
    "shot++": MethodEntry(
        "dabench.methods.source_free.shot_plus:ShotPlusPlus",
        "shot beside a task of rotations, then MixMatch from its own sure answers",
        ("sf-uda", "sf-pda", "sf-msda"),
    ),
    "aad": MethodEntry(
        "dabench.methods.source_free.aad:AaD",
        "answers drawn to those of neighbours and away from those of the batch",
        ("sf-uda", "sf-osda", "sf-pda", "sf-msda"),
    ),
    "nrc": MethodEntry(
        "dabench.methods.source_free.nrc:NRC",
        "answers drawn to those of neighbours, above all of mutual ones, and of theirs",
        ("sf-uda", "sf-msda"),
    ),
    "cowa": MethodEntry(
        "dabench.methods.source_free.cowa:CoWA",
        "labels from a Gaussian mixture of the target, weighed by data and model, with mixup",
        ("sf-uda", "sf-pda", "sf-msda"),
    ),
    "plue": MethodEntry(
        "dabench.methods.source_free.plue:PLUE",
        "what neighbours agree on, learned as what an image is not, and a contrast of views",
        ("sf-uda", "sf-msda"),
    ),
    "c-sfda": MethodEntry(
        "dabench.methods.source_free.c_sfda:CSFDA",
        "labels that several views agree on first, the others by a curriculum; no bank",
        ("sf-uda", "sf-msda"),
    ),
    "sfda2": MethodEntry(
        "dabench.methods.source_free.sfda2:SFDA2",
        "as aad with squared products, and features moved along their class's covariance",
        ("sf-uda", "sf-msda"),
    ),
    "glc": MethodEntry(
        "dabench.methods.source_free.glc:GLC",
        "each class against clusters of all other images, and neighbours' answers",
        ("sf-osda", "sf-pda", "sf-unida"),
    ),
    "lead": MethodEntry(
        "dabench.methods.source_free.lead:LEAD",
        "unknown by what features have outside the source head's space, and neighbours' answers",
        ("sf-osda", "sf-pda", "sf-unida"),
    ),
    "onering": MethodEntry(
        "dabench.methods.source_free.onering:OneRing",
        "a node that is second for all that is known; known and unknown adapt apart",
        ("sf-osda", "sf-unida"),
    ),
    "rrda": MethodEntry(
        "dabench.methods.source_free.rrda:RRDA",
        "nodes for 'unknown' from made-up features, then shot over all nodes",
        ("sf-osda",),
    ),
    "usd": MethodEntry(
        "dabench.methods.source_free.usd:USD",
        "known/unknown separation by Jensen-Shannon distance, teacher and (K+1)-way student",
        ("sf-osda",),
    ),
    "target-supervised": MethodEntry(
        "dabench.protocols.offline.upper_bound:TargetSupervised",
        "trained by the protocol with target labels (upper bound)",
        (*OFFLINE, *STREAMS),
    ),
    **BLACK_BOX,
    **ONLINE_METHODS,
}
