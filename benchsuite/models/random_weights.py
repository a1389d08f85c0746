"""A catalogued model at its true shapes with random weights: rehearsals cost real time and memory.

The module tree is built without storage and each tensor is drawn on its device, from the seed and
its name, so that nothing passes through host memory and one tensor can be drawn without the others.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.catalog import ModelEntry
from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.models.light_imports import import_transformers
from benchsuite.models.stand_in import config_arguments


@dataclass(frozen=True)
class Drawn:
    """Random weights, made anew whenever they are asked for and kept nowhere."""

    seed: int

    def read(self, name: str, like: Tensor, device: torch.device) -> Tensor:
        """Return a matrix with rows of length about 1, a norm of ones, a bias of zeros.

        Which numbers depends on the seed, the name, the dtype and the kind of device alone.
        """
        drawn = torch.empty(like.shape, dtype=like.dtype, device=device)
        if drawn.dim() >= 2:
            own = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
            generator = torch.Generator(device).manual_seed(int.from_bytes(own[:7], "little"))
            return drawn.normal_(std=like.shape[-1] ** -0.5, generator=generator)
        return drawn.zero_() if name.endswith("bias") else drawn.fill_(1.0)


def build(entry: ModelEntry, *, device: str, dtype: str, seed: int) -> nn.Module:
    """Return the causal language model of ``entry.shape`` with weights drawn from ``seed``.

    Matrices are normal with standard deviation fan_in ** -0.5 (0.02 at 2,500 inputs), which keeps
    the scale of a linear's input at any width, so that activations stay finite in float16;
    norms are 1, biases 0, buffers as the architecture computes them. The same seed, dtype and kind
    of device give the same weights.
    """
    model = without_storage(entry, dtype)
    materialise(model, torch.device(device))
    compute_buffers(model, entry.name)
    for name, parameter in model.named_parameters():
        parameter.data = Drawn(seed).read(name, parameter, parameter.device)
    return model


def without_storage(entry: ModelEntry, dtype: str) -> nn.Module:
    """Return the causal language model of ``entry.shape`` on the meta device.

    Raises ``CellCannotRun`` for an entry whose shape is in a file that is not here.
    """
    import_transformers()
    from transformers import AutoConfig, AutoModelForCausalLM

    from benchsuite.models.plainly import compute_plainly

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
    compute_plainly(model)
    return model


def rehearsal_tokenizer(entry: ModelEntry) -> Any:
    """Return the embedded models' tokenizer: its ids (< 2,048) exist in every vocabulary.

    Raises ``BenchsuiteError`` for a vocabulary that is smaller.
    """
    from benchsuite.embedded import tokenizer as embedded_tokenizer

    tokenizer = embedded_tokenizer.load()
    if len(tokenizer) > entry.shape["vocab_size"]:
        raise BenchsuiteError(
            f"{entry.name} cannot be rehearsed: its vocabulary of {entry.shape['vocab_size']} ids "
            f"is smaller than the embedded tokenizer's {len(tokenizer)}",
            fix="Give its own weights and tokenizer with --local",
        )
    return tokenizer


def materialise(model: nn.Module, device: torch.device) -> None:
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


def compute_buffers(model: nn.Module, where: str) -> None:
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
                where=where,
                fix="This architecture cannot be rehearsed; give real weights",
            )
