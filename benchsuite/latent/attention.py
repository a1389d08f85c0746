"""Attention among sequences of different lengths whose tokens are packed without padding.

Linear layers and norms see the tokens alone, [N, ...]; caches are padded, [B, n, ...]. All indices
follow from the masks, which stay on the host: nothing waits for the device.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Where the N tokens of B sequences are among the columns of a padded ``shape`` (B, L).

    ``places`` int64 [N] in the flattened shape, None where nothing is padding.
    """

    shape: tuple[int, int]
    places: Tensor | None

    @classmethod
    def of(cls, mask: Tensor, device: torch.device) -> "Rows":
        """Return the tokens of a mask [B, L] that is on the host."""
        here = mask.flatten().nonzero()[:, 0]
        full = len(here) == mask.numel()
        places = None if full else here.to(device, non_blocking=True)
        return cls((mask.shape[0], mask.shape[1]), places)

    def pack(self, padded: Tensor) -> Tensor:
        """Return the tokens [N, ...] of [B, L, ...]."""
        rows = padded.flatten(0, 1)
        return rows if self.places is None else _Pack.apply(rows, self.places)

    def pad(self, packed: Tensor) -> Tensor:
        """Return [B, L, ...] of the tokens [N, ...], zero on padding."""
        if self.places is not None:
            table = packed.new_zeros(self.shape[0] * self.shape[1], *packed.shape[1:])
            packed = table.index_copy_(0, self.places, packed)
        return packed.unflatten(0, self.shape)


class _Pack(torch.autograd.Function):
    """Rows by index, none twice: so the gradient is a copy, not a sum."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.n = len(rows)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (places,) = ctx.saved_tensors
        rows = gradient.new_zeros(ctx.n, *gradient.shape[1:])
        return rows.index_copy_(0, places, gradient), None


@dataclass(frozen=True)
class Layout:
    """How ``new`` tokens stand behind a context.

    ``mask`` int64 [B, n + L] of context and new tokens is on the host; ``positions`` int64 [N] are
    the new tokens' places in their sequences.
    """

    new: Rows
    mask: Tensor
    positions: Tensor

    @classmethod
    def of(cls, before: Tensor | None, mask: Tensor, device: torch.device) -> "Layout":
        """Return the layout of masks [B, n] and [B, L] that are on the host."""
        whole = mask if before is None else torch.cat([before, mask], 1)
        positions = whole.cumsum(1)[:, -mask.shape[1] :] - 1
        positions = positions[mask.bool()].to(device, non_blocking=True)
        return cls(Rows.of(mask, device), whole, positions)

    def rows(self, columns: Tensor) -> Tensor:
        """Return the rows int64 [B * W] of columns [B, W] of the new tokens, on the host both."""
        mask = self.mask[:, -self.new.shape[1] :]
        row = (mask.flatten().cumsum(0) - 1).view_as(mask)
        return row.gather(1, columns).flatten()

    @functools.cached_property
    def allowed(self) -> Tensor:
        """What each new token attends to, bool [B, 1, L, n + L]: what is before it, and itself."""
        mask = self.mask.to(self.positions.device, non_blocking=True)
        column = torch.arange(mask.shape[1], device=mask.device)
        row = column[-self.new.shape[1] :, None]
        # A padded query attends to itself, for a softmax over nothing has no gradient.
        return (column < row) & mask.bool()[:, None, None] | (column == row)


def attend(query: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> Tensor:
    """Return causal attention [N, heads, d] of new queries [N, heads, d] over the whole cache.

    ``keys`` and ``values`` are [B, n + L, kv_heads, d]. A group of heads that shares its keys is
    computed as one head with so many times the queries: the keys are not repeated.
    """
    # [B, L, kv_heads * group, d] to [B, kv_heads, group * L, d]
    grouped = layout.new.pad(query).unflatten(2, (keys.shape[2], -1)).permute(0, 2, 3, 1, 4)
    out = F.scaled_dot_product_attention(
        grouped.flatten(2, 3),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=layout.allowed.repeat(1, 1, grouped.shape[2], 1),
    )
    back = out.unflatten(2, grouped.shape[2:4]).permute(0, 3, 1, 2, 4)
    return layout.new.pack(back.flatten(2, 3))
