"""LoRA by peft on all linear layers of the blocks, computed with few reads of the activations."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchsuite.errors import CellCannotRun, UsageError

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@torch.library.custom_op("benchsuite::adapted", mutates_args=())
def _adapted(x: Tensor, weight: Tensor, bias: Tensor | None, low: Tensor, up: Tensor) -> Tensor:
    """Return x weight^T + bias + low up^T, all of them matrices.

    Of two products that are added the compiler would copy the first one.
    """
    return F.linear(x, weight, bias).addmm_(low, up.t())


@_adapted.register_fake
def _shape(x: Tensor, weight: Tensor, bias: Tensor | None, low: Tensor, up: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    x, weight, _, low, up = inputs
    ctx.save_for_backward(x, weight, low, up)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, low, up = ctx.saved_tensors
    needs = ctx.needs_input_grad
    return (
        gradient @ weight if needs[0] else None,
        gradient.t() @ x if needs[1] else None,
        gradient.sum(0) if needs[2] else None,
        gradient @ up if needs[3] else None,
        gradient.t() @ low if needs[4] else None,
    )


_adapted.register_autograd(_backward, setup_context=_save)


def inject(lm: nn.Module, r: int, alpha: int, dropout: float) -> None:
    """Freeze a model and give each linear layer of its blocks float32 adapters of rank ``r``.

    Raises ``CellCannotRun`` without peft, ``UsageError`` where no layer bears a known name.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import Linear
    except ImportError:
        raise CellCannotRun(
            "training with LoRA needs peft, which is not installed",
            fix="install it: pip install 'benchsuite[latent]', or set lora.r to 0",
        ) from None
    found = {name.rsplit(".", 1)[-1] for name, _ in lm.named_modules()}
    targets = [name for name in LINEAR_LAYERS if name in found]
    if not targets:
        raise UsageError(
            f"LoRA finds none of {', '.join(LINEAR_LAYERS)} in {type(lm).__name__}",
            fix="use a Llama, Qwen2 or Mistral model",
        )

    class Adapted(Linear):
        """peft's layer; its own forward copies every input to float32 and every output twice."""

        def forward(self: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
            down, up = self.lora_A["default"], self.lora_B["default"]
            low = down(self.lora_dropout["default"](x)) * self.scaling["default"]
            if torch.compiler.is_compiling():
                base, kind = self.base_layer, low.dtype
                bias = None if base.bias is None else base.bias.to(kind)
                rows, low = x.flatten(0, -2).to(kind), low.flatten(0, -2)
                out = _adapted(rows, base.weight.to(kind), bias, low, up.weight.to(kind))
                return out.unflatten(0, x.shape[:-1])
            out = self.base_layer(x)
            weight = up.weight.to(out.dtype).t()
            return out.flatten(0, -2).addmm_(low.flatten(0, -2), weight).view_as(out)

    lm.requires_grad_(False)
    how = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)
    # Said outright, for peft otherwise asks every quantization library whether the layer is its
    # own, and an installed gptqmodel without optimum stops it.
    how._register_custom_module({nn.Linear: Adapted})
    inject_adapter_in_model(how, lm)
    for parameter in lm.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
