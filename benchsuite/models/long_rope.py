"""LongRoPE's two sets of frequencies, of which a sequence is read with one (arXiv 2402.13753).

Phi-3's long models, Phi-4-mini and MiniCPM rotate by short factors up to the length that they were
first trained on and by long ones beyond. transformers looks at the furthest position of each
forward. So all rows of a batch would have the longest row's factors, and an answer that grows past
the turn would meet keys that were rotated by the other set. Here a sequence has one set from
beginning to end: that of the length which it may grow to, whatever lies beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def turn_of(model: nn.Module) -> int | None:
    """Return up to how many tokens short factors count, None where a model has one set alone."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    given = getattr(text, "rope_parameters", None) or {}
    # One object, or one by each type of layer.
    parts = [given, *(part for part in given.values() if isinstance(part, dict))]
    key = "original_max_position_embeddings"
    turns = [part.get(key) for part in parts if part.get("rope_type") == "longrope"]
    return min((turn for turn in turns if turn), default=None)


def by_side(model: nn.Module, lengths: Sequence[int]) -> list[list[int]]:
    """Return the places of ``lengths`` in parts that may be read together, none of them empty."""
    turn = turn_of(model)
    if turn is None:
        return [list(range(len(lengths)))] if lengths else []
    sides: tuple[list[int], list[int]] = ([], [])
    for place, length in enumerate(lengths):
        sides[length > turn].append(place)
    return [side for side in sides if side]


@contextmanager
def settled(model: nn.Module, length: int) -> Iterator[None]:
    """Let every forward inside have the factors of a sequence of ``length`` tokens.

    No position inside may lie beyond. A model with one set of factors is left alone.
    """
    if turn_of(model) is None:
        yield
        return
    with ExitStack() as undo:
        for module in model.modules():
            if hasattr(module, "inv_freq"):
                own: Any = vars(module).get("forward")  # another library's, if there is one
                module.forward = _from_table(own or module.forward, length)
                if own is None:
                    undo.callback(delattr, module, "forward")
                else:
                    undo.callback(setattr, module, "forward", own)
        yield


def _from_table(own: Callable[..., Any], length: int) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return a rotary embedding's forward that looks up what ``own`` gives for all positions.

    Nothing in it waits for the device, as the choice between the sets does.
    """
    tables: dict[Any, tuple[Tensor, Tensor]] = {}

    def forward(x: Tensor, position_ids: Tensor, *more: Any, **how: Any) -> tuple[Tensor, Tensor]:
        key = (x.dtype, x.device, more, *sorted(how.items()))
        if key not in tables:
            places = torch.arange(length, device=x.device)[None]
            cos, sin = own(x[:1], places, *more, **how)
            tables[key] = cos[0], sin[0]
        cos, sin = tables[key]
        return cos[position_ids], sin[position_ids]

    return forward
