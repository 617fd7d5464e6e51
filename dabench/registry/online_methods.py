"""The methods of streams by name: one entry each; its first protocol is its default."""

from __future__ import annotations

from dabench.registry.entries import MethodEntry
from dabench.registry.protocols import DENSE, ONLINE, STREAMS

ONLINE_METHODS: dict[str, MethodEntry] = {
    "bn-adapt": MethodEntry(
        "dabench.methods.online.bn_adapt:BNAdapt",
        "BatchNorm statistics of each batch in place of the source's; no gradient",
        STREAMS,
        baseline=True,
    ),
    "bn-ema": MethodEntry(
        "dabench.methods.online.bn_ema:BNEMA",
        "BatchNorm statistics as a running average over the stream; no gradient",
        ONLINE,
    ),
    "dua": MethodEntry(
        "dabench.methods.online.dua:DUA",
        "BatchNorm statistics follow changed views of single images, ever more slowly",
        ONLINE,
    ),
    "lame": MethodEntry(
        "dabench.methods.online.lame:LAME",
        "the batch's answers made to agree between neighbours in feature space; no learning",
        ONLINE,
    ),
    "t3a": MethodEntry(
        "dabench.methods.online.t3a:T3A",
        "a classifier made anew from the surest features of the stream; no gradient",
        ONLINE,
    ),
    "cofa": MethodEntry(
        "dabench.methods.online.cofa:COFA",
        "features averaged with that of the image before; no gradient",
        ONLINE,
    ),
    "pl": MethodEntry(
        "dabench.methods.online.pl:PL",
        "cross-entropy with the network's own hard labels, by tent's rules",
        ONLINE,
    ),
    "rpl": MethodEntry(
        "dabench.methods.online.rpl:RPL",
        "as pl, with generalised cross-entropy, which bears wrong labels",
        ONLINE,
    ),
    "tent": MethodEntry(
        "dabench.methods.online.tent:Tent",
        "entropy of each batch, by weight and bias of normalisation layers",
        STREAMS,
    ),
    "eata": MethodEntry(
        "dabench.methods.online.eata:EATA",
        "as tent, on reliable and novel samples, with a Fisher penalty against forgetting",
        STREAMS,
    ),
    "eta": MethodEntry(
        "dabench.methods.online.eta:ETA",
        "eata without its penalty: reliable and novel samples",
        STREAMS,
    ),
    "rdumb": MethodEntry(
        "dabench.methods.online.rdumb:RDumb",
        "as eta, back to the source model every so many batches",
        STREAMS,
    ),
    "sar": MethodEntry(
        "dabench.methods.online.sar:SAR",
        "as tent, on reliable samples, sharpness-aware, with a reset on collapse",
        ONLINE,
    ),
    "deyo": MethodEntry(
        "dabench.methods.online.deyo:DeYO",
        "entropy of samples whose answer hangs on shapes and not on colours and textures alone",
        ONLINE,
    ),
    "roid": MethodEntry(
        "dabench.methods.online.roid:ROID",
        "sure and diverse samples, consistency, a way back to the source's weights, prior",
        STREAMS,
    ),
    "cmf": MethodEntry(
        "dabench.methods.online.cmf:CMF",
        "as roid, with a Kalman filter over weights in place of the way back",
        STREAMS,
    ),
    "note": MethodEntry(
        "dabench.methods.online.note:NOTE",
        "BatchNorm converted to heed single images; steps on a memory balanced by prediction",
        ONLINE,
    ),
    "rmt": MethodEntry(
        "dabench.methods.online.rmt:RMT",
        "averaged teacher by a symmetric loss, contrast with class prototypes; no source images",
        ONLINE,
    ),
    "adacontrast-online": MethodEntry(
        "dabench.methods.online.adacontrast_online:AdaContrastOnline",
        "labels from neighbours among past features, contrast with a queue of keys",
        ONLINE,
    ),
    "rem": MethodEntry(
        "dabench.methods.online.rem:REM",
        "vision transformers: passes without the patches that matter teach and rank entropies",
        ONLINE,
    ),
    "rotta": MethodEntry(
        "dabench.methods.online.rotta:RoTTA",
        "class-balanced memory, statistics that follow it, averaged teacher; for bursts of classes",
        ONLINE,
    ),
    "petta": MethodEntry(
        "dabench.methods.online.petta:PeTTA",
        "as rotta, the more cautious the further class means have strayed from the source's",
        ONLINE,
    ),
    "santa": MethodEntry(
        "dabench.methods.online.santa:SANTA",
        "the source model's answers as anchor, contrast of image, view and nearest source mean",
        ONLINE,
    ),
    "foa-shift": MethodEntry(
        "dabench.methods.online.foa_shift:FOAShift",
        "features moved back to where the source's were; no gradient",
        ONLINE,
    ),
    "memo": MethodEntry(
        "dabench.methods.online.memo:MEMO",
        "one sure answer to many views of an image, which is then forgotten; nothing is remembered",
        STREAMS,
    ),
    "cotta": MethodEntry(
        "dabench.methods.online.cotta:CoTTA",
        "averaged teacher over augmented views, stochastic restoration of weights",
        STREAMS,
    ),
    "max-squares": MethodEntry(
        "dabench.methods.online.max_squares:MaxSquares",
        "as tent, with the maximum-squares loss",
        DENSE,
    ),
    "tta-aug": MethodEntry(
        "dabench.methods.online.tta_aug:TTAAug",
        "mean over the image and changed views of it, brought back to its frame; no learning",
        DENSE,
        baseline=True,
    ),
    "diga": MethodEntry(
        "dabench.methods.online.diga:DIGA",
        "an image's share in BatchNorm statistics, and classes by prototypes; no gradient",
        DENSE,
    ),
    "transadapt": MethodEntry(
        "dabench.methods.online.transadapt:TransAdapt",
        "transfer module from source training; unsupervised, invariance and equivariance losses",
        DENSE,
    ),
    "shot-online": MethodEntry(
        "dabench.methods.online.shot_online:ShotOnline",
        "shot, one step a batch, with running centroids",
        ONLINE,
    ),
    "conda": MethodEntry(
        "dabench.methods.online.conda:ConDA",
        "buffer of past images, mixup of centroid pseudo-labels, frozen classifier",
        ONLINE,
    ),
    "ucl-gv": MethodEntry(
        "dabench.methods.online.ucl_gv:UCLGV",
        "buffer of past images, contrast of batch and buffer, frozen classifier",
        ONLINE,
    ),
    "aerial": MethodEntry(
        "dabench.methods.online.aerial:Aerial",
        "class-balanced reservoir, centroid labels, steps of unit norm, a guard against forgetting",
        ONLINE,
    ),
}
