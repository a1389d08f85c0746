"""Whether a model of a family that is not known here can be asked in batches.

Prompts of a batch are padded on the left, given their own positions, and go on from a cache. Most
decoders of transformers predict then what they predict of a prompt alone. Some do not, and say
nothing: a recurrent state takes the padding in, positions begin at another number than 0.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.decoding.loop import evaluating, padded, places
from benchsuite.errors import BenchsuiteError, out_of_memory
from benchsuite.models.architecture import ARCHITECTURES

_SHORT, _LONG = [3, 1, 4], [5, 9, 2, 6, 5, 3, 5, 8]
_NEXT = 7
# Standard deviations of the logits, by the bits of their dtype: more than many blocks' rounding
# and a router's near ties make. A fault of positions makes .1, one of a state 1.
_APART = {64: 0.01, 32: 0.01, 16: 0.3}


def refuse_unaskable(model: Any) -> None:
    """Raise ``BenchsuiteError`` where a model predicts otherwise in a batch than alone.

    Tried on a few tokens, of families that are not known here.
    """
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", None)
    if kind is None or kind in ARCHITECTURES:
        return
    try:
        with evaluating(model):
            alone = torch.cat([_alone(model, row) for row in (_SHORT, _LONG)])
            together = _together(model)
    except Exception as error:  # each class fails in its own way on what it does not take
        if out_of_memory(error):
            raise
        raise _refused(kind, f"{type(error).__name__}: {error}") from error
    apart = (together.float() - alone.float()).square().mean(-1).sqrt() / alone.float().std(-1)
    if not bool((apart < _APART[torch.finfo(alone.dtype).bits]).all()):
        raise _refused(kind, "a short prompt beside a longer one is predicted otherwise than alone")


def _alone(model: nn.Module, row: list[int]) -> Tensor:
    """Return what follows a row and the token after it, [2, vocabulary], read as it is."""
    ids = torch.tensor([[*row, _NEXT]], device=next(model.parameters()).device)
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0, -2:]
    return logits


def _together(model: nn.Module) -> Tensor:
    """Return the same of both rows in one batch, the second step from the cache."""
    ids, mask = padded([_SHORT, _LONG], next(model.parameters()).device)
    positions = places(mask)
    first = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        use_cache=True,
        logits_to_keep=1,
    )
    then = model(
        input_ids=torch.full_like(ids[:, :1], _NEXT),
        attention_mask=torch.cat([mask, mask.new_ones(2, 1)], 1),
        position_ids=positions[:, -1:] + 1,
        past_key_values=first.past_key_values,
        use_cache=True,
        logits_to_keep=1,
    )
    return torch.stack([first.logits[:, -1], then.logits[:, -1]], 1).flatten(0, 1)


def _refused(kind: str, why: str) -> BenchsuiteError:
    return BenchsuiteError(
        f"this {kind} cannot be asked questions, because prompts are read in batches here and go "
        f"on from a cache: {' '.join(why.split())[:200]}",
        fix="Measure it by text alone: `benchsuite compare` without --questions does",
    )
