"""LoRA by peft on all linear layers of the blocks, computed with few reads of the activations."""

from typing import Any

from torch import Tensor, nn

from benchsuite.errors import CellCannotRun, UsageError

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


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
