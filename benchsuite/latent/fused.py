"""A training's blocks with everything between their matrix products fused, backward too.

On a CUDA GPU autograd runs a block of Llama with LoRA as some two hundred kernels, half of whose
time goes to reading and writing activations: a norm is six passes, dropout two with a mask beside
them, a gradient that several layers give is added up layer by layer. Here a block is two functions
with backward passes of their own, whose chains are a kernel each (``training_kernels``). They serve
frozen weights in bfloat16 with LoRA; everything else takes transformers' and PyTorch's operations.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

ATTENTION = ("q_proj", "k_proj", "v_proj")
OUTPUT = ("o_proj",)
GATES = ("gate_proj", "up_proj")
DOWN = ("down_proj",)
LAYERS = (*ATTENTION, *OUTPUT, *GATES, *DOWN)
SILU = ("SiLU", "SiLUActivation")
DTYPE = torch.bfloat16

_PLAIN: ContextVar[bool] = ContextVar("plain", default=False)


@contextmanager
def plain_operations() -> Iterator[None]:
    """Fuse nothing inside: what comparisons and measurements begin with."""
    before = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(before)


@dataclass(frozen=True)
class Adapted:
    """A frozen linear layer with LoRA, all in one dtype: weight [out, in], down [r, in], up."""

    weight: Tensor
    bias: Tensor | None
    down: Tensor
    up: Tensor

    def forward(self, x: Tensor, copy: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output [N, out] for x and LoRA's scaled copy of it, and ``low`` [N, r]."""
        low = F.linear(copy, self.down)
        return F.linear(x, self.weight, self.bias).addmm_(low, self.up.t()), low

    def backward(
        self, gradient: Tensor, copy: Tensor, low: Tensor, into: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of down and up, float32; that of the copy goes ``into`` [N, in]."""
        by_low = gradient @ self.up
        if into is not None:
            torch.mm(by_low, self.down, out=into)
        return _float_product(by_low.t(), copy), _float_product(gradient.t(), low)


def _float_product(a: Tensor, b: Tensor) -> Tensor:
    """Return a b in float32, which is not rounded on the way."""
    if a.is_cuda and a.dtype != torch.float32:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()


@dataclass(frozen=True)
class Block:
    """What one call of the decoder knows of a block: ``layers`` by name, norms, angles, dropout.

    ``site`` is the first number of its seven copies; ``how`` a ``training_kernels.Dropout``.
    """

    layers: dict[str, Adapted]
    norms: tuple[Tensor, Tensor]
    eps: tuple[float, float]
    angles: tuple[Tensor, Tensor]
    how: Any
    site: int

    def of(self, names: Sequence[str]) -> list[Adapted]:
        """Return some layers."""
        return [self.layers[name] for name in names]


class _BeforeAttention(torch.autograd.Function):
    """Add, norm, project to queries, keys and values [N, width], rotate the first two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, added: Tensor | None, block: Block, *_: Tensor) -> Any:
        from benchsuite.latent import training_kernels as kernels

        layers = block.of(ATTENTION)
        x, h, copies = kernels.normed(
            x.contiguous(), added, block.norms[0], block.eps[0], block.how, block.site, len(layers)
        )
        (query, a), (key, b), (value, c) = (
            layer.forward(h, copy) for layer, copy in zip(layers, copies, strict=True)
        )
        ctx.save_for_backward(x, copies, a, b, c)
        ctx.block = block
        return x, *_rotated(query, key, *block.angles), value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, passing: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Any:
        from benchsuite.latent import training_kernels as kernels

        x, copies, *lows = ctx.saved_tensors
        block: Block = ctx.block
        cos, sin = block.angles
        turned = _rotated(query, key, cos, -sin)
        gradients = [*(t.flatten(1) for t in turned), value.contiguous()]
        wanted = any(ctx.needs_input_grad[:2])
        h, through, found = _backward(block.of(ATTENTION), gradients, copies, lows, wanted)
        back = None
        if wanted:
            back = kernels.normed_backward(
                h,
                through,
                x,
                block.norms[0],
                passing.contiguous(),
                block.eps[0],
                block.how,
                block.site,
            )
        return back, back if ctx.needs_input_grad[1] else None, None, *found


class _AfterAttention(torch.autograd.Function):
    """Project what was attended to, add, norm, and the MLP: the sum and what is to be added."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, attended: Tensor, block: Block, *_: Tensor) -> Any:
        from benchsuite.latent import training_kernels as kernels

        how, site, (out,), (down,) = block.how, block.site, block.of(OUTPUT), block.of(DOWN)
        gates = block.of(GATES)
        attended = attended.contiguous()
        copy = kernels.dropped(attended, how, site + 3)
        added, low = out.forward(attended, copy)
        x, h, copies = kernels.normed(
            x, added, block.norms[1], block.eps[1], how, site + 4, len(gates)
        )
        (gate, a), (up, b) = (
            layer.forward(h, copy) for layer, copy in zip(gates, copies, strict=True)
        )
        g, last = kernels.gated(gate, up, how, site + 6)
        added, c = down.forward(g, last)
        ctx.save_for_backward(x, copy, low, copies, a, b, gate, up, last, c)
        ctx.block = block
        return x, added

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, passing: Tensor, added: Tensor) -> Any:
        from benchsuite.latent import training_kernels as kernels

        x, copy, low, copies, a, b, gate, up, last, c = ctx.saved_tensors
        block: Block = ctx.block
        how, site = block.how, block.site
        g, through, of_down = _backward(block.of(DOWN), [added.contiguous()], last[None], [c])
        gradients = kernels.gated_backward(g, through[0], gate, up, how, site + 6)
        h, through, of_gates = _backward(block.of(GATES), gradients, copies, [a, b])
        back = kernels.normed_backward(
            h, through, x, block.norms[1], passing.contiguous(), block.eps[1], how, site + 4
        )
        attended, through, of_out = _backward(block.of(OUTPUT), [back], copy[None], [low])
        attended = kernels.dropped(through[0], how, site + 3, attended)
        return back, attended, None, *of_out, *of_gates, *of_down


def _backward(
    layers: Sequence[Adapted],
    gradients: Sequence[Tensor],
    copies: Tensor,
    lows: Sequence[Tensor],
    wanted: bool = True,
) -> tuple[Any, Any, list[Tensor]]:
    """Return the gradients of the layers' input, of its copies and, float32, of their adapters.

    The first two, [N, in] and [n, N, in], are None where they are not ``wanted``.
    """
    through = torch.empty_like(copies) if wanted else None
    whole: Tensor | None = None
    found: list[Tensor] = []
    for number, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
        into = None if through is None else through[number]
        found += layer.backward(gradient, copies[number], lows[number], into)
        if wanted:
            whole = (
                gradient @ layer.weight if whole is None else whole.addmm_(gradient, layer.weight)
            )
    return whole, through, found


def _rotated(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Return queries and keys, [N, width] or [N, heads, d], turned, [N, heads, d]."""
    from benchsuite.models import fused_kernels

    d = cos.shape[-1]
    heads = (t.reshape(len(t), -1, d).transpose(0, 1)[None] for t in (query, key))
    query, key = fused_kernels.rotate(next(heads), next(heads), cos[None], sin[None])
    return query[0].transpose(0, 1), key[0].transpose(0, 1)


class _Normed(torch.autograd.Function):
    """The last norm, of a sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, added: Tensor, weight: Tensor, eps: float, how: Any) -> Tensor:
        from benchsuite.latent import training_kernels as kernels

        x, h, _ = kernels.normed(x, added, weight, eps, how, 0, 0)
        ctx.save_for_backward(x, weight)
        ctx.how = eps, how
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, h: Tensor) -> Any:  # type: ignore[override]
        from benchsuite.latent import training_kernels as kernels

        x, weight = ctx.saved_tensors
        eps, how = ctx.how
        none = x.new_empty(0, *x.shape)
        back = kernels.normed_backward(h.contiguous(), none, x, weight, None, eps, how, 0)
        return back, back, None, None, None


class FusedBlocks:
    """One call's blocks of a ``model`` that ``fuses``; the two functions of a block by number."""

    def __init__(self, model: Any, tokens: Tensor, cos: Tensor, sin: Tensor) -> None:
        from benchsuite.latent.training_kernels import Dropout

        linears = [_linears(block) for block in model.layers]
        first = linears[0]["q_proj"]
        # Drawn as dropout is: a graph draws anew whenever it is replayed.
        seed = torch.randint(2**62, (1,), device=tokens.device)
        p = getattr(first.lora_dropout["default"], "p", 0.0)
        self._how = Dropout.of(seed, p, first.scaling["default"])
        self._trained = [
            {
                name: (x.lora_A["default"].weight, x.lora_B["default"].weight)
                for name, x in each.items()
            }
            for each in linears
        ]
        halves = iter(_cast([t for each in self._trained for two in each.values() for t in two]))
        self._blocks = [
            Block(
                {
                    name: Adapted(
                        x.base_layer.weight, x.base_layer.bias, next(halves), next(halves)
                    )
                    for name, x in each.items()
                },
                tuple(norm.weight for norm in _norms(block)),
                tuple(norm.variance_epsilon for norm in _norms(block)),
                (cos, sin),
                self._how,
                number * len(LAYERS),
            )
            for number, (each, block) in enumerate(zip(linears, model.layers, strict=True))
        ]
        self._norm = model.norm

    def before(
        self, number: int, tokens: Tensor, added: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return tokens + ``added`` [N, hidden]; rotated queries and keys, values [N, heads, d]."""
        block, trained = self._blocks[number], self._adapters(number, ATTENTION)
        tokens, query, key, value = _BeforeAttention.apply(tokens, added, block, *trained)
        return tokens, query, key, value.unflatten(-1, (-1, key.shape[-1]))

    def after(self, number: int, tokens: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
        """Return two summands of the block's output for its input and what was attended to."""
        trained = self._adapters(number, (*OUTPUT, *GATES, *DOWN))
        block = self._blocks[number]
        return _AfterAttention.apply(tokens, attended.flatten(1), block, *trained)

    def norm(self, tokens: Tensor, added: Tensor) -> Tensor:
        """Return the last norm of tokens + ``added``."""
        norm = self._norm
        return _Normed.apply(tokens, added, norm.weight, norm.variance_epsilon, self._how)

    def _adapters(self, number: int, names: Sequence[str]) -> list[Tensor]:
        return [t for name in names for t in self._trained[number][name]]


def _linears(block: Any) -> dict[str, Any]:
    own, mlp = block.self_attn, block.mlp
    return {name: getattr(own if hasattr(own, name) else mlp, name) for name in LAYERS}


def _norms(block: Any) -> tuple[Any, Any]:
    return block.input_layernorm, block.post_attention_layernorm


@torch.no_grad()
def _cast(parameters: list[Tensor]) -> list[Tensor]:
    """Return copies in the activations' dtype, made a few dozen at once."""
    halves = [torch.empty_like(p, dtype=DTYPE) for p in parameters]
    torch._foreach_copy_(halves, parameters)
    return halves


def fuses(model: Any, tokens: Tensor, cos: Tensor) -> bool:
    """Whether the blocks of a decoder ``model`` are of the kind that is fused, here and now."""
    if not (torch.is_grad_enabled() and tokens.dtype == DTYPE and _runs_on(tokens)):
        return False
    norms = [model.norm, *(norm for block in model.layers for norm in _norms(block))]
    return (
        all(_frozen(norm.weight) for norm in norms)
        and all(_suits(x) for block in model.layers for x in _linears(block).values())
        and all(type(block.mlp.act_fn).__name__ in SILU for block in model.layers)
        and all(block.self_attn.head_dim == cos.shape[-1] for block in model.layers)
        and cos.shape[-1] % 2 == 0
    )


def _runs_on(tensor: Tensor) -> bool:
    """Whether Triton's kernels run where a tensor is."""
    return tensor.is_cuda and not _PLAIN.get() and find_spec("triton") is not None


def _suits(linear: Any) -> bool:
    """Whether a layer is frozen and has LoRA, of widths that dropout's octets divide."""
    base = getattr(linear, "base_layer", None)
    return (
        base is not None
        and "default" in linear.lora_A
        and _frozen(base.weight)
        and (base.bias is None or _frozen(base.bias))
        and all(width % 8 == 0 for width in base.weight.shape)
    )


def _frozen(weight: Tensor) -> bool:
    return weight.dtype == DTYPE and not weight.requires_grad


class _Nll(torch.autograd.Function):
    """-log p of targets, with a gradient in the logits' dtype."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        from benchsuite.latent import loss_kernels

        found, lse = loss_kernels.nll(logits, targets)
        ctx.save_for_backward(logits, targets, lse)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        from benchsuite.latent import loss_kernels

        logits, targets, lse = ctx.saved_tensors
        return loss_kernels.nll_backward(logits, targets, lse, gradient.contiguous()), None


def nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Return -log p, float32 [n], of targets int64 [n] under logits [n, words] of any dtype."""
    if logits.requires_grad and logits.dtype != torch.float64 and _runs_on(logits):
        return _Nll.apply(logits.contiguous(), targets)
    return F.cross_entropy(logits.float(), targets, reduction="none")
