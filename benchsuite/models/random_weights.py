"""A catalogued model at its true shapes with random weights: rehearsals cost real time and memory.

The module tree is built without storage and each tensor is drawn on its device from one seeded
generator, so that nothing passes through host memory.
"""

from typing import Any

import torch
from torch import nn

from benchsuite.catalog import ModelEntry
from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.models.light_imports import import_transformers
from benchsuite.models.stand_in import config_arguments


def build(entry: ModelEntry, *, device: str, dtype: str, seed: int) -> nn.Module:
    """Return the causal language model of ``entry.shape`` with weights drawn from ``seed``.

    Matrices are normal with standard deviation fan_in ** -0.5 (0.02 at 2,500 inputs), which keeps
    the scale of a linear's input at any width, so that activations stay finite in float16;
    norms are 1, biases 0, buffers as the architecture computes them. The same seed, dtype and kind
    of device give the same weights.
    """
    import_transformers()
    from transformers import AutoConfig, AutoModelForCausalLM

    if not entry.shape:
        raise CellCannotRun(
            f"{entry.name} cannot be rehearsed: its catalogue entry leaves the shape to a "
            "config.json, and there is none here",
            fix=f"give a folder that has it: --model NAME=PATH, or --local {entry.name}=PATH",
        )
    config = AutoConfig.for_model(entry.model_type, **config_arguments(entry))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=getattr(torch, dtype),
            attn_implementation="sdpa",
            trust_remote_code=False,  # the configuration is transformers' own
        )
    _materialise(model, torch.device(device))
    _compute_buffers(model, entry)
    _draw(model, torch.Generator(device=device).manual_seed(seed))
    return model


def rehearsal_tokenizer(entry: ModelEntry) -> Any:
    """Return the embedded models' tokenizer: its ids (< 2,048) exist in every vocabulary."""
    from benchsuite.embedded import tokenizer as embedded_tokenizer

    tokenizer = embedded_tokenizer.load()
    if len(tokenizer) > entry.shape["vocab_size"]:
        raise BenchsuiteError(
            f"{entry.name} cannot be rehearsed: its vocabulary of {entry.shape['vocab_size']} ids "
            f"is smaller than the embedded tokenizer's {len(tokenizer)}",
            fix="Give its own weights and tokenizer with --local",
        )
    return tokenizer


def _materialise(model: nn.Module, device: torch.device) -> None:
    """Give every tensor storage on the device; tensors that were shared stay shared."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                storage = torch.empty_like(parameter, device=device)
                made[id(parameter)] = nn.Parameter(storage, requires_grad=False)
            module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty_like(buffer, device=device)


def _compute_buffers(model: nn.Module, entry: ModelEntry) -> None:
    """Fill the buffers (rotary frequencies) by the architecture's own initialisation."""
    for module in model.modules():
        buffers = [buffer for buffer in module._buffers.values() if buffer is not None]
        if not buffers:
            continue
        for buffer in buffers:
            if buffer.is_floating_point():
                buffer.fill_(float("nan"))
        with torch.no_grad():
            model._init_weights(module)  # type: ignore[operator]
        if any(not bool(torch.isfinite(buffer).all()) for buffer in buffers):
            raise BenchsuiteError(
                f"cannot initialise the buffers of {type(module).__name__}",
                where=entry.name,
                fix="This architecture cannot be rehearsed; give real weights",
            )


@torch.no_grad()
def _draw(model: nn.Module, generator: torch.Generator) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            parameter.fill_(1.0)
