"""The product of attention, by torch's fused kernel or, in bfloat16 on some CPUs, by matrix products."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .recording import is_recorded

BLOCK = 2**21  # logits at a time: what of them is in use at once fits a cache, and malloc keeps such blocks
SAMPLE = 16  # every so many-th key tells how large logits are
MIN_SIZE = 64  # queries and keys, below which the kernel is as fast
_HIDDEN = -1e30


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """``softmax(q k^T / sqrt(d)) v``: queries ``(B, heads, N, d)``, keys and values ``(B, heads, M, d)`` to
    ``(B, heads, N, d)``.

    Args:
        mask: as ``attn_mask`` of torch's ``scaled_dot_product_attention``.
    """
    keys_only = mask is None or (mask.dtype == torch.bool and mask.shape[1:3] == (1, 1))
    if (
        keys_only
        and not is_recorded(q)
        and not torch.is_grad_enabled()
        and (q.device.type, q.dtype) == ("cpu", torch.bfloat16)
        and min(q.shape[2], k.shape[2]) >= MIN_SIZE
        and products_are_faster()
    ):
        return product_attention(q, k, v, mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@lru_cache
def products_are_faster() -> bool:
    """Whether this CPU multiplies bfloat16 matrices much faster than torch's fused attention, which then
    takes as long as in float32. So it was measured with AVX-512 BF16; with AMX the fused kernel takes a third
    of the time of products."""
    return cpu_has("avx512_bf16") and not cpu_has("amx_tile")


def cpu_has(feature: str) -> bool:
    """Whether torch says that this CPU has ``avx512_bf16`` or ``amx_tile``; False where it can't tell."""
    return bool(getattr(torch.cpu, f"_is_{feature}_supported", bool)())


def product_attention(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None = None) -> Tensor:
    """As :func:`attend`, by products of some queries with all keys (ours).

    Such products round the logits to their type, which is as exact as they are small. A softmax does not
    change when all logits of a query do by the same number: one more channel takes away, inside the product,
    what is typical of the keys that count, as a sample tells it. Another one hides keys.

    Args:
        key_mask: ``(B, 1, 1, M)``, True on keys that may be seen, at least one of them.
    """
    batch, heads, queries, dim = q.shape
    logits = heads * queries * k.shape[2]  # of an entry of the batch
    entries, rows = max(1, BLOCK // logits), max(1, BLOCK * queries // logits)
    mask = None if key_mask is None else key_mask.expand(batch, -1, -1, -1)
    out = q.new_empty(batch, queries, heads, dim)
    with torch.autocast(q.device.type, enabled=False):
        for first in range(0, batch, entries):
            part = slice(first, first + entries)
            some_k = _with_channels(k[part], None if mask is None else mask[part])
            some_v = v[part].flatten(0, 1)
            for start in range(0, queries, rows):
                block = slice(start, start + rows)
                values = _block(q[part, :, block] * dim**-0.5, some_k, some_v)
                out[part, block] = values.unflatten(0, (-1, heads)).transpose(1, 2)
    return out.transpose(1, 2)


def _with_channels(k: Tensor, key_mask: Tensor | None) -> Tensor:
    """Keys ``(B * heads, d + 2, M)``, with the channels that add a shift and hide keys."""
    one, hidden = torch.ones_like(k[..., :1]), torch.zeros_like(k[..., :1])
    if key_mask is not None:
        hidden = hidden.masked_fill(~key_mask.transpose(2, 3), _HIDDEN)
    return torch.cat((k, one, hidden), -1).flatten(0, 1).transpose(1, 2)


def _block(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Some scaled queries ``(B, heads, n, d)`` to values ``(B * heads, n, d)``."""
    one = torch.ones_like(q[..., :1])
    q = torch.cat((q, torch.zeros_like(one), one), -1).flatten(0, 1)
    sample = q @ k[:, :, ::SAMPLE]
    typical = (sample.softmax(-1) * sample).sum(-1)
    # a sample of hidden keys only tells nothing
    q[..., -2] = torch.where(typical > _HIDDEN / 2, -typical, 0)
    return (q @ k).softmax(-1) @ v
