"""A text read by each side alone: what is left where one is a server, and no logits can be had.

Of each token there is its log-probability and the most probable token: perplexity and agreement
follow, the KL over the whole vocabulary does not.
"""

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchsuite.comparing.measure import logits_reader, running
from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.prompt_log_probs import UNKNOWN, Said
from benchsuite.comparing.rounded import rounded_activations
from benchsuite.comparing.server import Server
from benchsuite.comparing.subject import Subject
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.evaluation.fitting import context_of
from benchsuite.evaluation.generation import Progress
from benchsuite.evaluation.perplexity import BATCH_TOKENS, LOGIT_BYTES

NO_KL = (
    "KL over the whole vocabulary: a server gives the probabilities of a text's own tokens and not "
    "of all others"
)


def not_read(*sides: Subject | Server) -> str:
    """Return why a text cannot be read by each side alone; empty where it can."""
    for side in sides:
        if isinstance(side, Server) and not side.model.way:
            return (
                f"perplexity and KL: {side.name} gives no log-probabilities of a prompt "
                "(prompt_logprobs, or echo with logprobs)"
            )
    return ""


def said_by(
    side: Subject | Server, chunks: Tensor, *, again: bool = False, progress: Progress | None = None
) -> Said:
    """Return what one side says of chunks int64 [N, T]: arrays [N, T - 1].

    ``again`` is for the noise floor: a model here rounds its activations once more, a server is
    asked a second time. Raises ``UsageError`` for chunks beyond its context and
    ``BenchsuiteError`` for what is not finite.
    """
    length, context = chunks.shape[1], context_of(side.model)
    if context is not None and length > context:
        raise UsageError(
            f"--seq-len is {length}, and {side.name} takes {context} tokens and one new one",
            fix=f"Give --seq-len {context} or less",
        )
    if isinstance(side, Server):
        model = side.model.once_more() if again else side.model
        rows = model.said(chunks.tolist(), progress=progress)
        return Said(np.stack([r.log_probs for r in rows]), np.stack([r.top for r in rows]))
    with running(side.model), rounded_activations(side.model) if again else nullcontext():
        found = _read(side.model, chunks, progress)
    if not np.isfinite(found.log_probs).all():
        raise BenchsuiteError(
            f"what {side.name} predicts is not finite",
            fix="Its weights or activations overflow: look at them, or use another dtype",
        )
    return found


def _read(model: nn.Module, chunks: Tensor, progress: Progress | None) -> Said:
    reader, device = logits_reader(model, chunks), next(model.parameters()).device
    size = max(1, BATCH_TOKENS.get(device.type, 2048) // chunks.shape[1])
    values, tops = [], []
    for start in range(0, len(chunks), size):
        batch = chunks[start : start + size]
        hidden, head = reader(batch)
        hidden, targets = hidden[:, :-1].flatten(0, 1), batch[:, 1:].flatten().to(device)
        # Float64 rows, as where two models are read at once.
        step = max(1, LOGIT_BYTES.get(device.type, 2**25) // (8 * head(hidden[:1]).shape[-1]))
        for rows, own in zip(hidden.split(step), targets.split(step), strict=True):
            log_probs = head(rows).double().log_softmax(-1)
            values.append(log_probs.gather(-1, own[:, None])[:, 0])
            tops.append(log_probs.argmax(-1))
        if progress is not None:
            progress("reading", min(start + size, len(chunks)), len(chunks))
    shape = len(chunks), chunks.shape[1] - 1
    return Said(
        torch.cat(values).view(shape).cpu().numpy(), torch.cat(tops).view(shape).cpu().numpy()
    )


def items(base: Said, other: Said, chunks: Tensor, group: int = 1) -> dict[str, PairedItems]:
    """Return ``nll``, ``next_token`` and, where the tokens are known, ``same_top`` by chunk.

    ``chunks`` int64 [n, T] are what both read; ``group`` neighbours count as one cluster.
    """
    n, targets = len(base.top), chunks[:, 1:].cpu().numpy()
    known = (base.top != UNKNOWN) & (other.top != UNKNOWN)
    columns: dict[str, tuple[Any, Any]] = {
        "nll": (-base.log_probs.mean(1), -other.log_probs.mean(1))
    }
    if known.any(1).all():
        same = ((base.top == other.top) & known).sum(1) / known.sum(1)
        columns["same_top"] = np.ones(n), same
    columns["next_token"] = (base.top == targets).mean(1), (other.top == targets).mean(1)
    ids = tuple(f"chunk {i}" for i in range(n))
    clusters = tuple(f"{i // group}" for i in range(n)) if group > 1 else None
    return {
        name: PairedItems(name, ids, first, second, clusters)
        for name, (first, second) in columns.items()
    }
