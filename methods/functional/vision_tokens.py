"""Patches of a vision transformer: which the class token looks at, and passes without some.

By what timm's vision transformers have in common: ``cls_token``, ``patch_drop`` (behind the
position embeddings, in front of the blocks), ``blocks`` and the last one's ``attn``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dabench.errors import ConfigError


def vision_transformer(net: nn.Module, method: str) -> Any:
    """Return the vision transformer inside a network.

    Args:
        net: that may wrap it.
        method: its name, for the message.

    Raises:
        ConfigError: there is none of timm's form, or it has no class token.
    """
    having = (m for m in net.modules() if isinstance(getattr(m, "patch_drop", None), nn.Module))
    found: Any = next(having, None)
    attention = getattr(list(getattr(found, "blocks", [None]))[-1], "attn", None)
    if not all(hasattr(attention, part) for part in ("qkv", "num_heads", "q_norm", "k_norm")):
        raise ConfigError(
            f"{method}: the source model is no vision transformer of timm, whose patches can be "
            "left out; choose a --backbone such as vit_tiny_patch16_224, or deyo"
        )
    if found.cls_token is None:
        raise ConfigError(
            f"{method}: the source model is a vision transformer without a class token, whose "
            "attention says which patches matter; choose a --backbone such as "
            "vit_tiny_patch16_224, or deyo"
        )
    return found


@torch.no_grad()
def class_attention(attention: Any, tokens: Tensor, prefix: int) -> Tensor:
    """Return the (B, P) attention of the class token to the patches, the mean over heads.

    Args:
        attention: timm's attention layer.
        tokens: (B, prefix + P, D) that enter it, the class token first.
        prefix: tokens in front of the patches: the class token, and registers.
    """
    b, n, _ = tokens.shape
    qkv = attention.qkv(tokens).reshape(b, n, 3, attention.num_heads, -1)
    q, k = qkv[:, :, 0].transpose(1, 2), qkv[:, :, 1].transpose(1, 2)  # (B, heads, N, d)
    q, k = attention.q_norm(q[:, :, :1]), attention.k_norm(k)
    share = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
    to_patches: Tensor = share.mean(1)[:, 0, prefix:]
    return to_patches


@contextlib.contextmanager
def watched_attention(transformer: Any) -> Iterator[list[Tensor]]:
    """Yield a list that takes the :func:`class_attention` of the last block at every pass."""
    found: list[Tensor] = []

    def watch(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        found.append(class_attention(layer, inputs[0], transformer.num_prefix_tokens))

    handle = transformer.blocks[-1].attn.register_forward_pre_hook(watch)
    try:
        yield found
    finally:
        handle.remove()


@contextlib.contextmanager
def kept_patches(transformer: Any, places: Tensor) -> Iterator[None]:
    """Let passes inside the block go without the other patches.

    Args:
        transformer: of timm's form, in eval mode.
        places: (B, k) numbers of the patches that each image keeps.
    """
    prefix = transformer.num_prefix_tokens

    def drop(layer: Any, inputs: Any, tokens: Tensor) -> Tensor:
        index = places[:, :, None].expand(-1, -1, tokens.shape[2])
        return torch.cat((tokens[:, :prefix], tokens[:, prefix:].gather(1, index)), 1)

    handle = transformer.patch_drop.register_forward_hook(drop)
    try:
        yield
    finally:
        handle.remove()
