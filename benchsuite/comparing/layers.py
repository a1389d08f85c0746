"""Layer by layer: how far a candidate's weights moved, and what each layer alone costs.

Each layer of the base is replaced by the candidate's in turn, all others staying the base's. The
KL of that model (`quantizers.alone`) is the layer's own cost, by which a choice of wider layers is
ranked. It is told of candidates whose layers stand for the base's one by one: a method that moves
scales between layers (AWQ, SmoothQuant) or rotates them (QuaRot) changes the norms too, and is
refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.comparing.measure import running
from benchsuite.errors import UsageError
from benchsuite.evaluation.generation import Progress
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers.alone import kl_alone
from benchsuite.quantizers.linear import QuantizedLinear

TOKENS = {"cpu": 512, "cuda": 8192}
"""Tokens of the text that each layer is tried on."""

# Norms of one model in two dtypes differ by roundings; moved scales differ by far more.
_MOVED = 0.02


@dataclass(frozen=True)
class Layer:
    """One layer: ||W' - W|| / ||W|| of its weight, and the KL in nats where it alone is replaced.

    ``error`` is None where the candidate's module does not tell its weight.
    """

    name: str
    error: float | None
    kl: float


def layers(
    base: nn.Module,
    candidate: nn.Module,
    chunks: Tensor,
    *,
    progress: Progress | None = None,
) -> list[Layer]:
    """Return every linear of the blocks, the costliest first; ``chunks`` int64 [n, seq_len].

    The base's tree is changed and put back. Raises ``UsageError`` where a layer alone has no
    meaning.
    """
    _refuse_moved(base, candidate)
    device = next(base.parameters()).device
    n_chunks = max(1, TOKENS.get(device.type, 8192) // chunks.shape[1])
    batch = chunks[:n_chunks]
    theirs = dict(architecture_of(candidate).named_linears(candidate))
    architecture = architecture_of(base)
    pairs = [
        (name, layer, theirs[name])
        for name, layer in architecture.named_linears(base)
        if name in theirs
    ]

    def alone(index: int, _: nn.Module) -> Iterator[tuple[str, dict[str, nn.Module]]]:
        block = f"{architecture.block_name(index)}."
        for name, _, other in pairs:
            if name.startswith(block):
                yield name, {name.removeprefix(block): _Fitted(other)}

    with running(candidate):
        kl = kl_alone(base, batch, alone, progress=progress)
    found = [Layer(name, _error(layer, other), kl[name]) for name, layer, other in pairs]
    return sorted(found, key=lambda layer: -layer.kl)


class _Fitted(nn.Module):
    """A candidate's layer in the base: it reads and writes the base's dtype, on the base's device.

    It runs on its own.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        tensors = [*layer.parameters(), *layer.buffers()]
        self.dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
        self.own_device = tensors[0].device

    def forward(self, inputs: Tensor) -> Tensor:
        dtype = inputs.dtype if isinstance(self.layer, QuantizedLinear) else self.dtype
        out = self.layer(inputs.to(self.own_device, dtype))
        return out.to(inputs.device, inputs.dtype)


def _refuse_moved(base: nn.Module, candidate: nn.Module) -> None:
    ours = {name for name, _ in _vectors(base)}
    for name, vector in _vectors(candidate):
        if name not in ours:
            continue
        original = base.get_parameter(name).float()
        if vector.shape != original.shape:
            raise UsageError(
                f"{name} has shape {list(vector.shape)} in the candidate and "
                f"{list(original.shape)} in the base",
                fix="Compare layers of a model with its own original",
            )
        off = (vector.float().to(original.device) - original).norm() / original.norm()
        if off > _MOVED:
            raise UsageError(
                f"a layer of the candidate alone has no meaning: its {name} differs from the "
                f"base's by {off:.0%}, as where scales move between layers (AWQ, SmoothQuant), "
                "weights are rotated, or the model was trained further",
                fix="Leave --layers out for this candidate",
            )


def _vectors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters that are one row: norms and biases."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 and "norm" in name:
            yield name, parameter


def _error(layer: Any, other: Any) -> float | None:
    weight, moved = weight_of(layer), weight_of(other)
    if weight is None or moved is None or weight.shape != moved.shape:
        return None
    return float((moved.to(weight.device) - weight).norm() / weight.norm())


def weight_of(layer: Any) -> Tensor | None:
    """Return a layer's weight [out, in] in float32, None for a module that does not tell it.

    A packed layer of another library is asked: what it makes of the unit vectors is its weight.
    """
    if isinstance(layer, QuantizedLinear):
        return layer.dequantize(torch.float32)
    weight = getattr(layer, "weight", None)
    if type(weight) is nn.Parameter and weight.is_floating_point() and type(weight.data) is Tensor:
        return weight.detach().float()
    width = getattr(layer, "in_features", None)
    if not isinstance(width, int):
        return None
    bias = getattr(layer, "bias", None)
    fitted = _Fitted(layer)
    columns = fitted(torch.eye(width, device=fitted.own_device)).float()
    return (columns if bias is None else columns - bias.float()).t()
