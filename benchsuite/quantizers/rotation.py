"""Rotations that weights can carry: the residual stream's (R1) and the values' (R2).

A decoder whose norms only divide by the root mean square computes the same when its residual stream
is rotated, and rotated weights and activations have no outliers (QuaRot, arXiv 2404.00456; R1 and
R2 are SpinQuant's names, arXiv 2405.16406). ``fold`` changes weights in float64 so that

0. every norm's weight g (and bias) goes into the linears that read it;
1. R1: the residual stream is multiplied by Q, a Hadamard matrix with random signs: embeddings E Q,
   linears that read it W diag(g) Q, linears that write it Q^T W, and the head like a reader;
2. R2: each head's values carry a Hadamard matrix, put into v and taken out again in o.

Nothing is left to be done while the model runs, and no module is added: any engine loads the
result. Tied embeddings become two tensors, since the head takes up the last norm and they do not.

What it cannot be done to: norms behind attention and MLP (Gemma 2 and 3), whose weights stand
between what writes the stream and the stream itself; decoders that normalise the sum (OPT-350M), or
whose embeddings have another width. Soft caps, multipliers of embeddings, residuals and logits
(Granite), biases, and norms of queries and keys (Qwen3) are not in the way.

LayerNorm (OPT) subtracts the mean over channels. What writes the stream is made zero-mean, which
LayerNorm cannot see, and Q is chosen to keep the direction of the mean, so that it stays zero.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.errors import CellCannotRun
from benchsuite.models.architecture import Architecture, InputGroup, architecture_of
from benchsuite.models.streaming import is_streamed
from benchsuite.quantizers.hadamard import largest_order, transform
from benchsuite.quantizers.layers import replace


class ResidualRotation:
    """Q: a Hadamard matrix with random signs, or where none is known a random orthogonal matrix.

    One that ``keeps_mean`` is followed by the reflection that brings 1 Q back to 1, the vector of
    ones: a vector whose entries sum to nothing then still does when it is rotated.
    """

    def __init__(
        self, width: int, seed: int, device: torch.device, *, keeps_mean: bool = False
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.signs = 2.0 * torch.randint(0, 2, (width,), generator=generator).double() - 1
        self.signs = self.signs.to(device)
        self.orthogonal: Tensor | None = None
        self.normal: Tensor | None = None
        if largest_order(width) != width:
            normal = torch.randn(width, width, generator=generator, dtype=torch.float64)
            self.orthogonal = torch.linalg.qr(normal)[0].to(device)
        if keeps_mean:
            ones = torch.full_like(self.signs, width**-0.5)
            normal = self(ones) - ones
            self.normal = normal / normal.norm().clamp(min=1e-30)

    def __call__(self, x: Tensor) -> Tensor:
        """Return x Q, float64, for x [..., width] float64."""
        x = x * self.signs
        x = transform(x) if self.orthogonal is None else x @ self.orthogonal
        return x if self.normal is None else x - 2 * (x @ self.normal)[..., None] * self.normal


def _check(model: nn.Module, architecture: Architecture) -> None:
    if is_streamed(model):
        raise CellCannotRun(
            "a rotation changes all of a model before its blocks are quantized, and this one's "
            "blocks are not held together",
            "rotation",
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
            "only decoders that normalise what each layer reads and not what it writes can be "
            "rotated exactly, with embeddings as wide as their layers, and this "
            f"{architecture.model_type} is none",
            "rotation",
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


@dataclass(frozen=True)
class _Folding:
    """One rotation of one model.

    ``centre`` is that of a model with LayerNorms. ``served`` ones keep every module of theirs;
    otherwise LayerNorms become RMS norms, linears get biases that they need, and o and down expect
    the transforms that QuaRot runs before them.
    """

    rotation: ResidualRotation
    values: Values
    centre: bool
    served: bool

    def reader(self, linear: Any, norm: Any) -> tuple[Tensor, Tensor | None]:
        """Return (W diag(g) Q, c + W b) for a linear (W, c) behind a norm of weight g and bias b.

        Served without a bias c, it leaves b to the norm.
        """
        weight = linear.weight.double()
        bias = None if getattr(linear, "bias", None) is None else linear.bias.double()
        if getattr(norm, "bias", None) is not None and not (self.served and bias is None):
            folded = weight @ norm.bias.double()
            bias = folded if bias is None else bias + folded
        if norm.weight is not None:
            weight = weight * norm.weight.double()
        return self.rotation(weight), bias

    def written(self, rows: Tensor) -> Tensor:
        """Return vectors [..., width] added to the residual stream, centred and rotated."""
        return self.rotation(rows - rows.mean(-1, keepdim=True) if self.centre else rows)

    def readers(self, block: nn.Module, group: InputGroup) -> None:
        """Rotate what reads the residual stream through one norm."""
        assert group.source is not None
        norm = block.get_submodule(group.source)
        for path in (*group.linears, *group.also):
            linear = block.get_submodule(path)
            weight, bias = self.reader(linear, norm)
            if path == self.values.path:
                weight = self.values.transform(weight.t()).t()
                bias = None if bias is None else self.values.transform(bias)
            _assign(linear, weight, bias)

    def writers(self, block: nn.Module, group: InputGroup) -> None:
        """Rotate what writes the residual stream; of o also the values that it reads."""
        for path in group.linears:
            linear: Any = block.get_submodule(path)
            weight, inner = linear.weight.double(), 1
            if group.name == "o":
                inner = self.values.head_dim
                weight = _transformed_heads(weight, inner)
            if not self.served:
                weight = transform(weight, inner)
            bias = None if linear.bias is None else self.written(linear.bias.double())
            _assign(linear, self.written(weight.t()).t(), bias)

    def keeps_bias(self, norm: Any, readers: list[Any]) -> bool:
        """Say whether what reads a norm has no bias to take up the norm's."""
        has_bias = getattr(norm, "bias", None) is not None
        return self.served and has_bias and all(reader.bias is None for reader in readers)

    def norm(self, root: nn.Module, path: str, readers: list[Any]) -> None:
        """Leave of a norm the division: its weight is in the readers now, as is its bias.

        A bias that they could not take is b / g behind the division, rotated as they are.
        """
        norm: Any = root.get_submodule(path)
        if not isinstance(norm, nn.LayerNorm):
            norm.weight = _parameter(torch.ones_like(norm.weight), norm.weight)
        elif not self.served:
            width = norm.normalized_shape
            replace(root, path, nn.RMSNorm(width, eps=norm.eps, elementwise_affine=False))
        elif norm.weight is not None:
            if norm.bias is not None:
                kept = torch.zeros_like(norm.bias)
                if self.keeps_bias(norm, readers):
                    kept = self.rotation(_quotient(norm, path))
                norm.bias = _parameter(kept, norm.bias)
            norm.weight = _parameter(torch.ones_like(norm.weight), norm.weight)


def _quotient(norm: Any, path: str) -> Tensor:
    """Return b / g of a norm, float64; an error where there is none in the norm's dtype."""
    gain, bias = norm.weight.double(), norm.bias.double()
    quotient = torch.where(bias == 0, 0.0, bias / gain)
    if not torch.isfinite(quotient.to(norm.weight.dtype)).all():
        raise CellCannotRun(
            f"a channel of {path} has a bias and a weight of nothing, and what reads it has no "
            "bias to take that up",
            "rotation",
            "Choose another method for this model",
        )
    return quotient


def _norms(model: Any, architecture: Architecture) -> list[tuple[nn.Module, str, list[Any]]]:
    """Return the norms that read the residual stream: root, path under it, linears behind it."""
    head = model.get_submodule(architecture.head)
    return [
        *(
            (block, group.source, [block.get_submodule(path) for path in group.linears])
            for block in architecture.block_list(model)
            for group in architecture.groups
            if group.source is not None and not group.writes_residual
        ),
        (model, architecture.final_norm, [head]),
    ]


@torch.no_grad()
def fold(model: Any, seed: int = 0, *, served: bool = True) -> Architecture:
    """Put R1 and R2 into the weights of ``model``, in place on its module tree.

    It computes what it did before. Modules get new parameters, tied embeddings two of them; tensors
    of the given model are only read. ``seed`` draws the signs of Q. Not ``served`` is QuaRot's
    first step: the linears that write the residual stream expect inputs that are transformed
    online. Returns the model's architecture. Raises CellCannotRun, and changes nothing, for a
    decoder that cannot be rotated exactly.
    """
    architecture = architecture_of(model)
    _check(model, architecture)
    centre = _is_layer_norm(model, architecture)
    head: Any = model.get_submodule(architecture.head)
    rotation = ResidualRotation(
        head.in_features, seed, head.weight.device, keeps_mean=served and centre
    )
    folding = _Folding(rotation, _values(model, architecture), centre, served)
    for where, path, readers in _norms(model, architecture):
        if folding.keeps_bias(where.get_submodule(path), readers):
            _quotient(where.get_submodule(path), path)  # raises before anything is changed
    _assign(head, *folding.reader(head, model.get_submodule(architecture.final_norm)))
    model.config.tie_word_embeddings = False
    for module in architecture.present(model, architecture.embeddings).values():
        embedding: Any = module
        embedding.weight = _parameter(folding.written(embedding.weight.double()), embedding.weight)
    for block in architecture.block_list(model):
        for group in architecture.groups:
            if group.writes_residual:
                folding.writers(block, group)
            else:
                folding.readers(block, group)
    for where, path, readers in _norms(model, architecture):
        folding.norm(where, path, readers)
    return architecture
