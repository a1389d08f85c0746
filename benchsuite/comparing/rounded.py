"""A model whose activations are rounded once more: what a change without a meaning does to it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# A model that computes in half precision holds half-precision numbers already: times this, rounded,
# divided again and rounded, they move by a unit in the last place, as another order of sums does.
_FACTOR = 1.3


@contextmanager
def rounded_activations(model: nn.Module) -> Iterator[nn.Module]:
    """Round what every decoder block puts out to the model's half precision, inside the block.

    That is float16 for a model in float16 and bfloat16 for all others.
    """
    with ExitStack() as undo:
        for block in decoder_blocks(model):
            undo.callback(block.register_forward_hook(_round_output).remove)
        yield model


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
    """Return the model's list of blocks: the longest list of modules that it has."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError(f"{type(model).__name__} has no list of blocks")
    return max(lists, key=len)


def _round_output(module: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return (round_once_more(output[0]), *output[1:])
    return round_once_more(output)


def round_once_more(hidden: Tensor) -> Tensor:
    """Return hidden states [...] rounded to their half precision, in their own dtype."""
    half = torch.float16 if hidden.dtype == torch.float16 else torch.bfloat16
    moved = (hidden.float() * _FACTOR).to(half).float() / _FACTOR
    return moved.to(hidden.dtype)
