"""Forwards of small models as CUDA graphs, where no kernel of them waits for the host.

A forward of a model of 135 million weights over 8,192 tokens is some 500 kernels of 20 microseconds
each, which Python starts more slowly than that.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from benchsuite.models.fused import FAMILIES
from benchsuite.models.replay import Replayed

MOST_WEIGHT_BYTES = 2**31
"""Of a model whose forwards are worth a graph: a larger one keeps a GPU busy by itself, and a graph
keeps the memory of a forward."""

_OWN = ("torch.nn.", "transformers.activations", "benchsuite.")


def _not_packed(position_ids: Tensor) -> None:
    """Answer for rows that are one sequence each."""


def _not_traced(*_: object) -> bool:
    return False


_ASKED: dict[str, Callable[..., Any]] = {
    "find_packed_sequence_indices": _not_packed,
    "is_tracing": _not_traced,
}
"""What transformers asks when it makes a mask, and the answers where every row is one sequence."""


@contextmanager
def one_sequence_a_row() -> Iterator[None]:
    """Tell transformers that no row holds several sequences, for all models inside the block.

    Otherwise every forward without a mask asks the device, and the host waits for all that the
    device still has to do: two models on one GPU, or one on several, then take turns. It also makes
    an explicit mask of a causal one inside a graph. Forwards with padding must stay outside.
    """
    from transformers import masking_utils

    own = {name: vars(masking_utils)[name] for name in _ASKED if name in vars(masking_utils)}
    vars(masking_utils).update({name: _ASKED[name] for name in own})
    try:
        yield
    finally:
        vars(masking_utils).update(own)


def _inside() -> bool:
    from transformers import masking_utils

    return all(vars(masking_utils).get(name) is answer for name, answer in _ASKED.items())


def replayed(model: nn.Module, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return ``forward`` of ids [B, T], as a graph from its second call of a shape on.

    Only inside `one_sequence_a_row`, and for a small model on CUDA made of modules that are known
    not to wait for the host, without hooks; any other's is returned as it is. Call it without
    gradients, while the model stays what it is.
    """
    if not can_be_replayed(model):
        return forward
    graph = Replayed(lambda ids: (forward(ids),))

    def run(ids: Tensor) -> Tensor:
        (made,) = graph(ids)
        assert made is not None
        return made

    return run


def can_be_replayed(model: nn.Module) -> bool:
    """Say whether the forwards of a model are worth a graph and can be one."""
    held = [*model.parameters(), *model.buffers()]
    if not all(tensor.is_cuda for tensor in held) or not _inside():
        return False
    if sum(tensor.nbytes for tensor in held) > MOST_WEIGHT_BYTES:
        return False
    families = tuple(f"transformers.models.{family}." for family in FAMILIES)
    return all(_is_known(module, families) for module in model.modules())


def _is_known(module: Any, families: tuple[str, ...]) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    if any(getattr(module, kind) for kind in hooks):
        return False
    return f"{type(module).__module__}.".startswith((*_OWN, *families))
