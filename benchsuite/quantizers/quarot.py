"""QuaRot (Ashkboos et al. 2024, arXiv 2404.00456): rotate outliers away, then round everything.

`rotation.fold` rotates the residual stream (R1) and each head's values (R2) in the weights. To that
``rotate`` adds what runs online: a transform across heads before o, and a Hadamard transform before
down. LayerNorm (OPT) becomes an RMS norm: what writes the residual stream is zero-mean over its
channels, and then nothing is left to subtract.

Then GPTQ rounds the rotated weights on their own Hessians. For W4A4KV4 every linear's inputs are
rounded per token (symmetric, clip .9), and so are keys and values per head and token (asymmetric,
groups of 128, clip .95), queries and keys after another Hadamard transform that follows RoPE.
Activations are rounded in the model's dtype: accuracy is real, latency is simulated. Defaults are
the paper's: weights per channel with a clip search, damping .01.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.decoding.rounded import round_in_attention
from benchsuite.models.architecture import Architecture, architecture_of
from benchsuite.quantizers import gptq, rotation
from benchsuite.quantizers.formats.activations import ActivationQuantizer, KeyValueQuantizer
from benchsuite.quantizers.hadamard import transform
from benchsuite.quantizers.layers import Progress, replace
from benchsuite.quantizers.linear import stored_bytes
from benchsuite.quantizers.result import QuantizationResult
from benchsuite.quantizers.walking.clock import StageClock
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.walking.walk import check_batch

UNQUANTIZED = 16
"""The number of bits that stands for the model's own dtype."""


class QuarotLinear(nn.Module):
    """A linear with what happens online to its inputs: the transform, then the rounding.

    ``inner`` is None without a transform, else as in ``hadamard.transform``.
    """

    def __init__(self, linear: nn.Module, inner: int | None = None) -> None:
        super().__init__()
        self.linear, self.inner = linear, inner
        self.activations: nn.Module = nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [..., out] for inputs [..., in]."""
        if self.inner is not None:
            inputs = transform(inputs, self.inner)
        return self.linear(self.activations(inputs))

    def extra_repr(self) -> str:
        """Return the transform, for the module's repr."""
        return "" if self.inner is None else f"transform across {self.inner}"


class KeyValueRounding(nn.Module):
    """What an attention sees of its heads: queries and keys transformed, keys and values rounded.

    ``decoding.rounded`` has the attention that uses it.
    """

    def __init__(self, rounding: nn.Module) -> None:
        super().__init__()
        self.rounding = rounding

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value [..., head_dim] as the attention is to use them."""
        return transform(query), self.rounding(transform(key)), self.rounding(value)


@torch.no_grad()
def rotate(model: Any, seed: int = 0) -> Architecture:
    """Rotate ``model`` in place on its module tree; it computes what it did before.

    Modules get new parameters, tied embeddings two of them; tensors of the given model are only
    read. Returns the model's architecture with the linears where they are now. Raises CellCannotRun
    for a decoder that cannot be rotated exactly (OPT-350M).
    """
    architecture = rotation.fold(model, seed, served=False)
    heads = rotation.attentions(model, architecture)
    for block, attention in zip(architecture.block_list(model), heads, strict=True):
        for group in architecture.groups:
            for path in group.linears if group.writes_residual else ():
                inner = attention.head_dim if group.name == "o" else 1
                replace(block, path, QuarotLinear(block.get_submodule(path), inner))
    return _rotated(architecture)


def _rotated(architecture: Architecture) -> Architecture:
    """Return the map of the rotated model, whose writing linears are inside a QuarotLinear."""
    groups = tuple(
        dataclasses.replace(group, linears=tuple(f"{path}.linear" for path in group.linears))
        if group.writes_residual
        else group
        for group in architecture.groups
    )
    return dataclasses.replace(architecture, groups=groups)


def round_activations(model: nn.Module, bits: int, clip_ratio: float) -> None:
    """Round the inputs of every block linear of a rotated model per token."""
    for name, module in list(architecture_of(model).named_linears(model)):
        if not isinstance(module, QuarotLinear):
            module = QuarotLinear(module)
            replace(model, name, module)
        module.activations = ActivationQuantizer(bits, clip_ratio)


def round_key_values(model: Any, rounding: nn.Module) -> None:
    """Let every attention transform its queries and keys and round its keys and values."""
    attentions = rotation.attentions(model, architecture_of(model))
    round_in_attention(model, ((each, KeyValueRounding(rounding)) for each in attentions))


@torch.no_grad()
def quantize(
    model: Any,
    batch: Tensor,
    *,
    bits: int = 4,
    group_size: int = -1,
    mse: bool = True,
    damp_percent: float = 0.01,
    activation_bits: int = 4,
    activation_clip: float = 0.9,
    kv_bits: int = 4,
    kv_group_size: int = 128,
    kv_clip: float = 0.95,
    seed: int = 0,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Rotate ``model`` and quantize it, in place on its module tree.

    ``batch`` is GPTQ's calibration data, int64 [n_samples, seq_len]; ``bits``, ``group_size``,
    ``mse`` and ``damp_percent`` are its options. ``activation_bits`` and ``kv_bits`` of 16 leave
    activations, or keys and values, as they are (W4A16). ``seed`` draws the signs of Q.
    """
    check_batch(batch)
    size_before = stored_bytes(model)
    clock = StageClock(next(model.parameters()).device)
    with clock.measure("rotate"):
        architecture = rotate(model, seed)
    result = gptq.quantize(
        model,
        batch,
        bits=bits,
        group_size=group_size,
        mse=mse,
        damp_percent=damp_percent,
        memory=memory,
        progress=progress,
        architecture=architecture,
    )
    if activation_bits < UNQUANTIZED:
        round_activations(model, activation_bits, activation_clip)
    if kv_bits < UNQUANTIZED:
        round_key_values(model, KeyValueQuantizer(kv_bits, kv_group_size, kv_clip))
    return dataclasses.replace(
        result,
        size_before_bytes=size_before,
        stage_seconds=result.stage_seconds | clock.seconds(),
        latency_simulated=True,
    )
