"""QuaRot (Ashkboos et al. 2024, arXiv 2404.00456): rotate outliers away, then round everything.

A decoder whose norms only divide by the root mean square computes the same when its residual stream
is rotated, and rotated activations have no outliers. ``rotate`` changes weights in float64 so that

1. every norm's weight g (and bias) goes into the linears that read it;
2. the residual stream is multiplied by Q, a Hadamard matrix with random signs: embeddings E Q,
   linears that read it W diag(g) Q, linears that write it Q^T W, and the head like a reader;
3. values carry a Hadamard matrix per head (folded into v and o), to which an online transform
   across heads is added before o, and an online Hadamard transform goes before down.

LayerNorm (OPT) becomes that kind of norm first: what writes the residual stream is made zero-mean
over its channels, which LayerNorm cannot see, and then nothing is left to subtract.

Then GPTQ rounds the rotated weights on their own Hessians. For W4A4KV4 every linear's inputs are
rounded per token (symmetric, clip .9), and so are keys and values per head and token (asymmetric,
groups of 128, clip .95), queries and keys after another Hadamard transform that follows RoPE.
Activations are rounded in the model's dtype: accuracy is real, latency is simulated. Defaults are
the paper's: weights per channel with a clip search, damping .01.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from benchsuite.errors import CellCannotRun
from benchsuite.models.architecture import Architecture, InputGroup, architecture_of
from benchsuite.models.streaming import is_streamed
from benchsuite.quantizers import gptq
from benchsuite.quantizers.activations import ActivationQuantizer, KeyValueQuantizer
from benchsuite.quantizers.clock import StageClock
from benchsuite.quantizers.hadamard import largest_order, transform
from benchsuite.quantizers.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.layers import Progress, replace
from benchsuite.quantizers.linear import stored_bytes
from benchsuite.quantizers.result import QuantizationResult
from benchsuite.quantizers.walk import check_batch

UNQUANTIZED = 16
"""The number of bits that stands for the model's own dtype."""


class ResidualRotation:
    """Q: a Hadamard matrix with random signs, or where none is known a random orthogonal matrix."""

    def __init__(self, width: int, seed: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.signs = 2.0 * torch.randint(0, 2, (width,), generator=generator).double() - 1
        self.signs = self.signs.to(device)
        self.orthogonal: Tensor | None = None
        if largest_order(width) != width:
            normal = torch.randn(width, width, generator=generator, dtype=torch.float64)
            self.orthogonal = torch.linalg.qr(normal)[0].to(device)

    def __call__(self, x: Tensor) -> Tensor:
        """Return x Q, float64, for x [..., width] float64."""
        x = x * self.signs
        return transform(x) if self.orthogonal is None else x @ self.orthogonal


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

    Both act on each token by itself, so that a cache of unrounded keys gives the same numbers.
    """

    def __init__(self, rounding: nn.Module) -> None:
        super().__init__()
        self.rounding = rounding

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value [..., head_dim] as the attention is to use them."""
        return transform(query), self.rounding(transform(key)), self.rounding(value)


def _attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **kw: Any):
    """PyTorch's attention behind the module's ``key_value_rounding`` (a transformers interface)."""
    assert isinstance(module.key_value_rounding, KeyValueRounding)
    query, key, value = module.key_value_rounding(query, key, value)
    return sdpa_attention_forward(module, query, key, value, *rest, **kw)


AttentionInterface.register("benchsuite_quarot", _attention)
AttentionMaskInterface.register("benchsuite_quarot", sdpa_mask)


def _check(model: nn.Module, architecture: Architecture) -> None:
    if is_streamed(model):
        raise CellCannotRun(
            "QuaRot rotates all of a model before its blocks are quantized, and this one's blocks "
            "are not held together",
            "QuaRot",
            "Use a device that holds the model whole",
        )
    projections = [path for path in architecture.embeddings if path.endswith("project_in")]
    exact = (
        all(group.source is not None for group in architecture.groups)
        and not architecture.normed_outputs
        and not architecture.present(model, (*projections, *architecture.after_blocks))
        and architecture.present(model, (architecture.final_norm,))
    )
    if not exact:
        raise CellCannotRun(
            "QuaRot rotates decoders that normalise what each layer reads and not what it writes, "
            f"with embeddings as wide as their layers, and this {architecture.model_type} does not",
            "QuaRot",
            "Choose another method for this model",
        )


def _is_layer_norm(model: nn.Module, architecture: Architecture) -> bool:
    return isinstance(model.get_submodule(architecture.final_norm), nn.LayerNorm)


def _parameter(tensor: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.to(like.dtype).contiguous(), requires_grad=False)


def _assign(linear: Any, weight: Tensor, bias: Tensor | None) -> None:
    """Give a linear new parameters, of the dtype of its weight."""
    like = linear.weight
    linear.weight = _parameter(weight, like)
    if bias is not None:
        linear.bias = _parameter(bias, like)


def _reading(linear: Any, norm: Any, rotation: ResidualRotation) -> tuple[Tensor, Tensor | None]:
    """Return (W diag(g) Q, c + W b) for a linear (W, c) behind a norm of weight g and bias b."""
    weight = linear.weight.double()
    bias = None if getattr(linear, "bias", None) is None else linear.bias.double()
    if getattr(norm, "bias", None) is not None:
        folded = weight @ norm.bias.double()
        bias = folded if bias is None else bias + folded
    if norm.weight is not None:
        weight = weight * norm.weight.double()
    return rotation(weight), bias


def _writing(rows: Tensor, rotation: ResidualRotation, centre: bool) -> Tensor:
    """Return vectors [..., width] that are added to the residual stream, centred and rotated."""
    return rotation(rows - rows.mean(-1, keepdim=True) if centre else rows)


def _transformed_heads(rows: Tensor, head_dim: int) -> Tensor:
    """Transform each head of rows [..., heads * head_dim] by itself."""
    return transform(rows.unflatten(-1, (-1, head_dim))).flatten(-2)


@dataclass(frozen=True)
class Values:
    """Where the values come from: the last ``rows`` of the linear at ``path``, in heads."""

    path: str
    rows: int
    head_dim: int

    def transform(self, rows: Tensor) -> Tensor:
        """Transform the heads in the last of rows [..., out]; the first are queries and keys."""
        others, values = rows.split((rows.shape[-1] - self.rows, self.rows), -1)
        return torch.cat((others, _transformed_heads(values, self.head_dim)), -1)


def _rotate_reader(
    block: nn.Module, group: InputGroup, rotation: ResidualRotation, values: Values
) -> None:
    assert group.source is not None
    norm = block.get_submodule(group.source)
    for path in (*group.linears, *group.also):
        linear = block.get_submodule(path)
        weight, bias = _reading(linear, norm, rotation)
        if path == values.path:
            weight = values.transform(weight.t()).t()
            bias = None if bias is None else values.transform(bias)
        _assign(linear, weight, bias)


def _rotate_writer(
    block: nn.Module, group: InputGroup, rotation: ResidualRotation, centre: bool, head_dim: int
) -> None:
    for path in group.linears:
        linear: Any = block.get_submodule(path)
        weight, inner = linear.weight.double(), 1
        if group.name == "o":
            weight, inner = _transformed_heads(weight, head_dim), head_dim
        weight = _writing(transform(weight, inner).t(), rotation, centre).t()
        bias = linear.bias
        if bias is not None:
            bias = _writing(bias.double(), rotation, centre)
        _assign(linear, weight, bias)
        replace(block, path, QuarotLinear(linear, inner))


def _reset_norm(root: nn.Module, path: str) -> None:
    """Leave only the division by the root mean square: the weight is in the readers now."""
    norm: Any = root.get_submodule(path)
    if isinstance(norm, nn.LayerNorm):
        width = norm.normalized_shape
        replace(root, path, nn.RMSNorm(width, eps=norm.eps, elementwise_affine=False))
    else:
        norm.weight = _parameter(torch.ones_like(norm.weight), norm.weight)


def attentions(model: nn.Module, architecture: Architecture) -> list[Any]:
    """Return the attention module of every block."""
    (path,) = next(group.linears for group in architecture.groups if group.name == "o")
    parent = path.rpartition(".")[0]
    return [block.get_submodule(parent) for block in architecture.block_list(model)]


def _values(model: Any, architecture: Architecture) -> Values:
    config, head_dim = model.config, attentions(model, architecture)[0].head_dim
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    (path,) = {group.source for group in architecture.groups if group.name == "o"}
    assert path is not None
    return Values(path, heads * head_dim, head_dim)


@torch.no_grad()
def rotate(model: Any, seed: int = 0) -> Architecture:
    """Rotate ``model`` in place on its module tree; it computes what it did before.

    Modules get new parameters, tied embeddings two of them; tensors of the given model are only
    read. Returns the model's architecture with the linears where they are now. Raises CellCannotRun
    for a decoder that cannot be rotated exactly (OPT-350M).
    """
    architecture = architecture_of(model)
    _check(model, architecture)
    centre = _is_layer_norm(model, architecture)
    head: Any = model.get_submodule(architecture.head)
    rotation = ResidualRotation(head.in_features, seed, head.weight.device)
    values = _values(model, architecture)
    _assign(head, *_reading(head, model.get_submodule(architecture.final_norm), rotation))
    model.config.tie_word_embeddings = False
    for module in architecture.present(model, architecture.embeddings).values():
        embedding: Any = module
        rows = _writing(embedding.weight.double(), rotation, centre)
        embedding.weight = _parameter(rows, embedding.weight)
    heads = attentions(model, architecture)
    for block, attention in zip(architecture.block_list(model), heads, strict=True):
        for group in architecture.groups:
            if group.writes_residual:
                _rotate_writer(block, group, rotation, centre, attention.head_dim)
            else:
                _rotate_reader(block, group, rotation, values)
        for group in architecture.groups:
            if not group.writes_residual and group.source is not None:
                _reset_norm(block, group.source)
    _reset_norm(model, architecture.final_norm)
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
    for attention in attentions(model, architecture_of(model)):
        attention.key_value_rounding = KeyValueRounding(rounding)
    model.config._attn_implementation = "benchsuite_quarot"


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
