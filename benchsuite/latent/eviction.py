"""R-KV eviction: which tokens of the chain of thought the latents are to be distilled from.

Importance and redundancy are scored per layer and key-value head, and the best M tokens are kept in
their order. After KaVa (arXiv 2510.02312), which takes the importance from the answer's attention;
the original R-KV (arXiv 2505.24133) takes it from a window of the last queries.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Kept:
    """Positions [..., M] int64 in ascending order, and ``mask`` [..., M]: False on a free slot.

    A chain of thought shorter than M fills the first slots and leaves the last ones free.
    """

    positions: Tensor
    mask: Tensor

    def take(self, cache: Tensor) -> Tensor:
        """Return [..., M, d] of keys or values [..., N, d]."""
        index = self.positions.clamp(max=cache.shape[-2] - 1)
        return cache.gather(-2, index[..., None].expand(*index.shape, cache.shape[-1]))


def importance(queries: Tensor, keys: Tensor, rows: Tensor, valid: Tensor) -> Tensor:
    """Return each token's attention from the answer, [layers, B, kv_heads, N].

    ``queries`` [layers, B, heads, L, d] and ``keys`` [layers, B, kv_heads, N, d], both rotated;
    ``rows`` [B, L] marks the answer's tokens, ``valid`` [B, N] those of the chain of thought.
    The softmax runs over the chain of thought alone, so each row sums to one there; rows are
    averaged over the answer, and heads inside a group that shares its keys.
    """
    kv_heads, width = keys.shape[2], keys.shape[-1]
    grouped = queries.unflatten(2, (kv_heads, -1)).float()  # [layers, B, kv, group, L, d]
    logits = grouped @ keys.float()[:, :, :, None].transpose(-1, -2) * width**-0.5
    hidden = ~valid[None, :, None, None, None, :]
    # A row without any valid token would be NaN: the smallest number gives it an even softmax.
    weights = logits.masked_fill(hidden, torch.finfo(logits.dtype).min).softmax(-1)
    weights = weights.masked_fill(hidden, 0.0)
    share = rows.float() / rows.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("lbhgqn,bq->lbhgn", weights, share).mean(3)


def redundancy(keys: Tensor, valid: Tensor) -> Tensor:
    """Return how unlike the others each key is, [layers, B, kv_heads, N], summing to one.

    softmax over the valid tokens of minus the mean cosine similarity to them: a token that repeats
    many others scores low. ``keys`` [layers, B, kv_heads, N, d], ``valid`` [B, N].
    """
    unit = keys.float()
    unit = unit / (unit.norm(dim=-1, keepdim=True) + 1e-8)
    here = valid[None, :, None, :].to(unit.dtype)
    unit = unit * here[..., None]
    # Row sums of the similarity matrix without its diagonal, without the matrix.
    similar = (unit @ unit.sum(-2, keepdim=True).transpose(-1, -2))[..., 0] - unit.square().sum(-1)
    mean = similar / valid.sum(1).clamp(min=1)[None, :, None, None]
    scores = (-mean).masked_fill(here == 0, torch.finfo(mean.dtype).min).softmax(-1)
    return scores * here


def evict(scores: Tensor, valid: Tensor, n_kept: int) -> Kept:
    """Keep the ``n_kept`` best valid tokens of ``scores`` [layers, B, kv_heads, N], by position."""
    here = valid[None, :, None, :].expand_as(scores)
    ranked = scores.masked_fill(~here, -torch.inf)
    n = ranked.shape[-1]
    best = ranked.topk(min(n_kept, n), dim=-1).indices
    # A padding token that had to be taken goes behind every real one, to a free slot.
    places = torch.where(here.gather(-1, best), best, n).sort(-1).values
    if n < n_kept:
        places = torch.nn.functional.pad(places, (0, n_kept - n), value=n)
    return Kept(places, places < n)


def first(valid: Tensor, n_kept: int, layers: int, kv_heads: int) -> Kept:
    """Keep the first ``n_kept`` valid tokens in every layer and head: the ablation ``crop``.

    ``valid`` bool [batch, tokens].
    """
    scores = -torch.arange(valid.shape[1], device=valid.device, dtype=torch.float32)
    return evict(scores.expand(layers, len(valid), kv_heads, -1), valid, n_kept)


def r_kv(
    queries: Tensor, keys: Tensor, rows: Tensor, valid: Tensor, *, n_kept: int, mix: float
) -> Kept:
    """Return what R-KV keeps: the best of ``mix`` * importance + (1 - ``mix``) * redundancy.

    The tensors are those of `importance` and `redundancy`.
    """
    scores = mix * importance(queries, keys, rows, valid) + (1 - mix) * redundancy(keys, valid)
    return evict(scores, valid, n_kept)
