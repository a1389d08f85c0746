"""Forwards of Llama-like models on CUDA with the element-wise chains of their blocks fused.

transformers runs RMSNorm, rotary embedding and SiLU gate as some twenty passes over memory a block,
nearly a third of the kernels' time of a long forward on an H200 (docs/speed.md). Inside
`fused_forwards` each is one kernel (``fused_kernels``). Which modules take part depends on their
classes, dtypes and device alone, so that a model and what a quantizer made of it run the same way.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor, nn

FAMILIES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
"""Packages of ``transformers.models`` whose norm, rotary embedding and MLP are Llama's."""

_SILU = ("transformers.activations.SiLUActivation", "torch.nn.modules.activation.SiLU")
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


class Operations(Protocol):
    """The three chains, each as one function of tensors of one dtype (fp16, bf16 or fp32)."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Return the norm of x [..., width], scaled by weight [width]."""

    def rotate(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return q and k [batch, heads, tokens, width], turned by [batch or 1, tokens, width]."""

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """Return silu(gate) * up, all of one shape."""


@contextmanager
def fused_forwards(model: nn.Module) -> Iterator[nn.Module]:
    """Run ``model`` with fused kernels inside the ``with`` block, where it lies on CUDA.

    Without CUDA or Triton, and for modules of other classes, nothing changes. Float64, mixed dtypes
    and gradients take the modules' own operations. Rotary embeddings are functions of transformers'
    modules: inside the block they are replaced for every model of the family in this process.
    """
    on_cuda = all(parameter.is_cuda for parameter in model.parameters())
    if not on_cuda or not find_spec("triton"):
        yield model
        return
    from benchsuite.models import fused_kernels

    with replaced_forwards(model, fused_kernels):
        yield model


@contextmanager
def replaced_forwards(model: nn.Module, operations: Operations) -> Iterator[nn.Module]:
    """Let ``operations`` do the chains of all modules of known classes inside the block."""
    with ExitStack() as undo:
        for module in model.modules():
            forward = _replacement(module, operations)
            if forward is not None:
                module.forward = forward
                undo.callback(delattr, module, "forward")
        for source in {type(module).__module__ for module in model.modules()}:
            if source in _SOURCES:
                undo.enter_context(_replaced_rotation(sys.modules[source], operations))
        yield model


def _source(family: str) -> str:
    return f"transformers.models.{family}.modeling_{family}"


_SOURCES = frozenset(_source(family) for family in FAMILIES)
_NORMS = frozenset(f"{_source(f)}.{prefix}RMSNorm" for f, prefix in FAMILIES.items())
_MLPS = frozenset(f"{_source(f)}.{prefix}MLP" for f, prefix in FAMILIES.items())


def _class_name(module: Any) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _replacement(module: nn.Module, operations: Operations) -> Callable[[Tensor], Tensor] | None:
    """Return the forward that a module is to have, None to leave it as it is."""
    if "forward" in vars(module):  # another library has replaced it
        return None
    name = _class_name(module)
    if name in _NORMS:
        return _norm_forward(module, operations)
    if name in _MLPS and _class_name(module.act_fn) in _SILU:
        return _mlp_forward(module, operations)
    return None


def _suited(*tensors: Tensor) -> bool:
    """Whether the operations, which have no backward pass, compute what transformers would."""
    dtype = tensors[0].dtype
    same = dtype in _DTYPES and all(tensor.dtype == dtype for tensor in tensors)
    return same and not torch.is_grad_enabled()


def _norm_forward(norm: Any, operations: Operations) -> Callable[[Tensor], Tensor]:
    own = norm.forward

    def forward(hidden_states: Tensor) -> Tensor:
        if not _suited(hidden_states, norm.weight):
            return own(hidden_states)
        return operations.rms_norm(hidden_states, norm.weight, norm.variance_epsilon)

    return forward


def _mlp_forward(mlp: Any, operations: Operations) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        gate, up = mlp.gate_proj(x), mlp.up_proj(x)
        if not _suited(gate, up):
            return mlp.down_proj(mlp.act_fn(gate) * up)
        return mlp.down_proj(operations.gated(gate, up))

    return forward


@contextmanager
def _replaced_rotation(source: Any, operations: Operations) -> Iterator[None]:
    """Replace the function by which the attentions of one ``modeling_`` module rotate."""
    own = source.apply_rotary_pos_emb

    def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        whole = q.shape[-1] == k.shape[-1] == cos.shape[-1] and q.shape[-1] % 2 == 0
        if not whole or not _suited(q, k, cos, sin):
            return own(q, k, cos, sin)
        return operations.rotate(q, k, cos, sin)

    source.apply_rotary_pos_emb = rotate
    try:
        yield
    finally:
        source.apply_rotary_pos_emb = own
