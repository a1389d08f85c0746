"""One model at a time, where two do not fit: each reads the text alone, then the two are compared.

What stays of a model is its last hidden states for every chunk, on the host, and its head. The KL
over the whole vocabulary follows from them in slices, as if both models were there. A model that
does not fit on its device alone lies on the host and goes through it block by block: all chunks
pass one block before the next block comes.
"""

from collections.abc import Iterator
from time import perf_counter

import torch
from torch import Tensor, nn

from benchsuite.comparing.measure import (
    Held,
    Tokens,
    again,
    batch_size,
    compared,
    floor_chunks,
    joined,
    logits_reader,
    running,
)
from benchsuite.comparing.rounded import rounded_activations
from benchsuite.errors import UsageError
from benchsuite.evaluation.by_blocks import pass_blocks
from benchsuite.evaluation.generation import Progress, evaluating
from benchsuite.evaluation.perplexity import check_context, chunked
from benchsuite.models.architecture import ARCHITECTURES, architecture_of
from benchsuite.models.heads import after_blocks, head_of


def held(
    model: nn.Module,
    token_ids: Tensor,
    *,
    seq_len: int,
    device: torch.device | None = None,
    floor: bool = False,
    progress: Progress | None = None,
) -> Held:
    """Let a model read ``token_ids`` int64 [N] and keep what a KL needs, see `hold`.

    With ``device`` it goes there block by block.
    """
    if device is None:
        return hold(model, token_ids, seq_len=seq_len, floor=floor, progress=progress)
    return hold_by_blocks(
        model, token_ids, seq_len=seq_len, device=device, floor=floor, progress=progress
    )


def hold(
    model: nn.Module,
    token_ids: Tensor,
    *,
    seq_len: int,
    floor: bool = False,
    progress: Progress | None = None,
) -> Held:
    """Let a model read the whole chunks of ``token_ids`` int64 [N] and keep what a KL needs of it.

    With ``floor`` it is compared with itself on the first chunks, as `measure.read` does.
    """
    chunks = chunked(token_ids, seq_len, None)
    check_context(model, seq_len)
    device = next(model.parameters()).device
    size, n_floor = batch_size(device, seq_len), floor_chunks(device, seq_len) if floor else 0
    begun, states, floors = perf_counter(), [], []
    with running(model):
        reader = logits_reader(model, chunks)
        for start in range(0, len(chunks), size):
            batch = chunks[start : start + size]
            seen = reader(batch)
            states.append(seen[0].cpu())
            if start < n_floor:
                floors.append(compared(seen, again(model, reader, batch), batch))
            if progress is not None:
                progress("reading", min(start + size, len(chunks)), len(chunks))
    return Held(states, seen[1], device, _floor(floors), perf_counter() - begun)


def hold_by_blocks(
    model: nn.Module,
    token_ids: Tensor,
    *,
    seq_len: int,
    device: torch.device,
    floor: bool = False,
    progress: Progress | None = None,
) -> Held:
    """Do what `hold` does for a ``model`` on the host, of which ``device`` holds a block at a time.

    Embeddings, the last norm and the head stay on the device. Raises ``UsageError`` for an
    architecture whose blocks are not known.
    """
    name = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if name not in ARCHITECTURES:
        raise UsageError(
            f"a model of the architecture {name!r} does not fit on {device} and cannot be read "
            "block by block",
            fix="Compare on a larger device, or with --device cpu",
        )
    chunks = chunked(token_ids, seq_len, None)
    check_context(model, seq_len)
    size, n_floor = batch_size(device, seq_len), floor_chunks(device, seq_len) if floor else 0
    begun = perf_counter()
    head = head_of(model)
    _place_beside_blocks(model, device)
    with evaluating(model):
        states = _last_states(model, chunks, size, device, progress)
        floors = []
        if n_floor:
            # In another order, and one more at a time.
            rows = chunks[:n_floor].flip(0)
            with rounded_activations(model):
                moved = torch.cat(_last_states(model, rows, size + 1, device, None)).flip(0)
            for own, other, batch in zip(
                states, moved.split(size), rows.flip(0).split(size), strict=False
            ):
                seen = own[: len(batch)].to(device), head
                floors.append(compared(seen, (other.to(device), head), batch))
    return Held(states, head, device, _floor(floors), perf_counter() - begun)


def _floor(parts: list[list[Tensor]]) -> Tokens | None:
    return joined(parts) if parts else None


def _place_beside_blocks(model: nn.Module, device: torch.device) -> None:
    """Put all of a model but its blocks on ``device``."""
    blocks = architecture_of(model).block_list(model)
    originals = list(blocks)
    try:
        for place in range(len(originals)):
            blocks[place] = nn.Module()
        model.to(device)
    finally:
        for place, block in enumerate(originals):
            blocks[place] = block


def _last_states(
    model: nn.Module,
    chunks: Tensor,
    size: int,
    device: torch.device,
    progress: Progress | None,
) -> list[Tensor]:
    """Return the last hidden states of ``chunks``, ``size`` at a time, on the host."""
    # No budget on the device: all chunks' states wait on the host for the next block.
    hidden = pass_blocks(
        model, chunks, size, _visiting(model, device), budget_bytes=0, progress=progress
    )
    return [after_blocks(model, hidden.states[p].to(device)).cpu() for p in hidden.slices()]


def _visiting(model: nn.Module, device: torch.device) -> Iterator[tuple[int, nn.Module]]:
    """Yield (number, block), each on ``device`` while it is its turn."""
    for index, block in enumerate(list(architecture_of(model).block_list(model))):
        yield index, block.to(device)
        block.to("cpu")
