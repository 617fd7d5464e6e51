"""The methods for black boxes by name."""

from __future__ import annotations

from dabench.registry.entries import MethodEntry

BLACK_BOX: dict[str, MethodEntry] = {
    "cabb": MethodEntry(
        "dabench.methods.black_box.cabb:CABB",
        "two branches, Jensen-Shannon clean/noisy separation, co-training, curriculum",
        ("bb-uda",),
    ),
    "dine": MethodEntry(
        "dabench.methods.black_box.dine:DINE",
        "distillation from smoothed answers, mixup and information maximisation",
        ("bb-uda",),
    ),
    "beta": MethodEntry(
        "dabench.methods.black_box.beta:BETA",
        "two networks: distillation, easy/hard division by loss, mutual refinement",
        ("bb-uda",),
    ),
    "pseudo-label": MethodEntry(
        "dabench.methods.black_box.pseudo_label:PseudoLabel",
        "hard-label distillation: cross-entropy with the classes that the oracle names",
        ("bb-uda",),
    ),
    "kd": MethodEntry(
        "dabench.methods.black_box.distilled:KD",
        "plain distillation: divergence from the oracle's probabilities",
        ("bb-uda",),
    ),
    "ls-kd": MethodEntry(
        "dabench.methods.black_box.distilled:LabelSmoothingKD",
        "as kd, of the top answer with the rest spread evenly",
        ("bb-uda",),
    ),
    "hd-shot": MethodEntry(
        "dabench.methods.black_box.distil_shot:HDShot",
        "the classes that the oracle names, then shot from there",
        ("bb-uda", "bb-osda"),
    ),
    "sd-shot": MethodEntry(
        "dabench.methods.black_box.distil_shot:SDShot",
        "the oracle's probabilities, then shot from there",
        ("bb-uda", "bb-osda"),
    ),
    "nll-kl": MethodEntry(
        "dabench.methods.black_box.noisy_labels:NllKL",
        "divergence from the oracle's answers both ways, classes in use",
        ("bb-uda",),
    ),
    "nll-ot": MethodEntry(
        "dabench.methods.black_box.noisy_labels:NllOT",
        "labels made anew by optimal transport, every class with its share",
        ("bb-uda",),
    ),
    "iterlnl": MethodEntry(
        "dabench.methods.black_box.iterlnl:IterLNL",
        "fresh networks in turn, each from the likeliest of the last one's labels",
        ("bb-uda",),
    ),
    "rfc": MethodEntry(
        "dabench.methods.black_box.rfc:RFC",
        "distillation, then neighbours, and a review of classes that are seldom predicted",
        ("bb-uda",),
    ),
    "seal": MethodEntry(
        "dabench.methods.black_box.seal:SEAL",
        "easy, confident and under-adapted images, and contrast along a graph of labels",
        ("bb-uda",),
    ),
    "rain": MethodEntry(
        "dabench.methods.black_box.rain:RAIN",
        "distillation, mixed phases, and a narrower network that learns from the whole",
        ("bb-uda",),
    ),
}
