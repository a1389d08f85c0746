"""Attention among sequences of different lengths whose tokens are packed without padding.

Linear layers and norms see the tokens alone, [N, ...]; caches are padded, [B, n, ...]. All indices
follow from the masks, which stay on the host: nothing waits for the device. Where numbers of rows
are rounded up (``transfer.Route``), the first columns of padding are read along behind the tokens.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchsuite.latent.transfer import multiple, rounded, send


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
        shape, flat = (mask.shape[0], mask.shape[1]), mask.flatten()
        here = flat.nonzero()[:, 0]
        if len(here) == len(flat):
            return cls(shape, None)
        along = (flat == 0).nonzero()[: rounded(len(here)) - len(here), 0]
        return cls(shape, send(torch.cat([here, along]), device))

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1] if self.places is None else len(self.places)

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
        new = Rows.of(mask, device)
        positions = (whole.cumsum(1)[:, -mask.shape[1] :] - 1)[mask.bool()]
        along = len(new) - len(positions)
        layout = cls(new, whole, send(F.pad(positions, (0, along)), device))
        _ = layout.there, layout.spans  # sent now: the order is the same whatever attends
        return layout

    def rows(self, columns: Tensor) -> Tensor:
        """Return the rows int64 [B * W] of columns [B, W] of the new tokens, on the host both."""
        mask = self.mask[:, -self.new.shape[1] :]
        row = (mask.flatten().cumsum(0) - 1).view_as(mask)
        return row.gather(1, columns).flatten()

    @functools.cached_property
    def there(self) -> Tensor:
        """The mask on the device."""
        return send(self.mask, self.positions.device)

    @functools.cached_property
    def spans(self) -> tuple[Tensor, Tensor] | None:
        """First rows int32 [2 B + 2] of 2 B + 1 spans, among the new tokens and in the caches.

        Each sequence is a span, and so is what is between two of them in the padded caches
        [B * (n + L)], where no new token is; to the last belong the rows that are read along. None
        where a sequence has a gap.
        """
        if (self.mask.diff() > 0).sum(1).add(self.mask[:, 0] != 0).gt(1).any():
            return None
        begins = self.mask.argmax(1) + torch.arange(len(self.mask)) * self.mask.shape[1]
        ends = begins + self.mask.sum(1)
        keys = F.pad(torch.stack([begins, ends], 1).flatten(), (1, 1))
        keys[-1] = self.mask.numel()
        sizes = self.mask[:, -self.new.shape[1] :].sum(1)
        queries = F.pad(sizes.cumsum(0), (1, 0)).repeat_interleave(2)
        queries[-1] = len(self.new)
        device = self.positions.device
        return send(queries.int(), device), send(keys.int(), device)

    @functools.cached_property
    def allowed(self) -> Tensor:
        """What each new token attends to, bool [B, 1, L, n + L]: what is before it, and itself."""
        mask = self.there
        column = torch.arange(mask.shape[1], device=mask.device)
        row = column[-self.new.shape[1] :, None]
        # A padded query attends to itself, for a softmax over nothing has no gradient.
        return (column < row) & mask.bool()[:, None, None] | (column == row)


def attend(query: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> Tensor:
    """Return causal attention [N, heads, d] of new queries [N, heads, d] over the whole cache.

    ``keys`` and ``values`` are [B, n + L, kv_heads, d].
    """
    packed = _takes_packed(query, keys, values) and layout.spans is not None
    return (_attend_packed if packed else _attend_padded)(query, keys, values, layout)


def _takes_packed(*tensors: Tensor) -> bool:
    """Whether FlashAttention-2, which needs Ampere or later, takes these tensors."""
    return all(
        t.is_cuda and t.dtype in (torch.bfloat16, torch.float16) and t.shape[-1] % 8 == 0
        for t in tensors
    ) and torch.cuda.get_device_capability(tensors[0].device) >= (8, 0)


def _attend_packed(query: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> Tensor:
    """Attend without padding: the last query of a sequence stands at its last key."""
    assert layout.spans is not None
    # No span is longer; a length taken from the batch would be a new shape.
    longest = max(layout.new.shape[1], multiple()), 2 * keys.shape[1]
    causal, dropout, debug = True, 0.0, False
    return torch.ops.aten._flash_attention_forward(
        query,
        keys.flatten(0, 1),
        values.flatten(0, 1),
        *layout.spans,
        *longest,
        dropout,
        causal,
        debug,
    )[0]


def _attend_padded(query: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> Tensor:
    """Attend with a mask. Heads that share keys are one head with so many times the queries.

    So the keys are not repeated.
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
