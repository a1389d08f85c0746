"""llm-compressor (github.com/vllm-project/llm-compressor) as four methods, by its own recipes.

- ``gptq``: ``GPTQModifier``, W4A16, symmetric, static act order (its default);
- ``awq``: ``AWQModifier`` with its weight term, then rounding to nearest, W4A16, asymmetric;
- ``smoothquant``: ``SmoothQuantModifier``, then W8A8, activations per token;
- ``spinquant``: rotations R1 and R2 folded into the weights, then rounding to nearest, W4A16.
  R3 and R4 run online and are lost when its checkpoint is read again, so they are left out.

Weight-only results are taken over code by code into ``QuantizedLinear``. W8A8 runs the library's
own layers, which round activations beside a matmul in floating point: its latency is a simulation.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers.external import guest
from benchsuite.quantizers.layers import Progress, replace
from benchsuite.quantizers.linear import QuantizedLinear, stored_bytes
from benchsuite.quantizers.result import QuantizationResult


def quantize(
    model: Any,
    batch: Tensor | None = None,
    *,
    recipe: str,
    group_size: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> QuantizationResult:
    """Run ``recipe`` on ``model``, in place on its module tree.

    ``batch`` is int64 [n_samples, seq_len], None for ``spinquant``, which needs no data.
    ``options`` go to the recipe's main modifier.
    """
    with guest.guest(model, "llmcompressor", seed, progress) as stay:
        from compressed_tensors.offload import remove_dispatch
        from llmcompressor import oneshot, reset_session

        copy = guest.own_copy(model)
        data: dict[str, Any] = {}
        if batch is not None:
            rows = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in batch]
            data = {
                "dataset": torch.utils.data.DataLoader(rows, batch_size=1),  # type: ignore[arg-type]
                "num_calibration_samples": len(batch),
                "max_seq_length": batch.shape[1],
            }
        try:
            with _pinned_only_with_a_gpu():
                modifiers = _modifiers(recipe, copy, group_size, options)
                oneshot(model=copy, recipe=modifiers, **data)
        finally:
            reset_session()
        remove_dispatch(copy, onload_tensors=True)
        if recipe != "smoothquant":
            packed = {n: _packed(m) for n, m in architecture_of(copy).named_linears(copy)}
        after = _compressed_bytes(copy)
        if recipe != "smoothquant":
            for name, linear in packed.items():
                replace(copy, name, linear)
    guest.adopt(model, copy.to(model.device))
    simulated = recipe == "smoothquant"
    return stay.account(after, simulated=simulated)


def _modifiers(
    recipe: str, model: nn.Module, group_size: int, options: dict[str, Any]
) -> list[Any]:
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform import SpinQuantModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    weights: dict[str, Any] = {"num_bits": 4, "symmetric": recipe != "awq", "strategy": "channel"}
    if group_size != -1:
        weights |= {"strategy": "group", "group_size": group_size}
    everywhere = {"all": {"targets": ["Linear"], "weights": weights}}
    w4: dict[str, Any] = {"config_groups": everywhere, "ignore": ["lm_head"]}
    if recipe == "gptq":
        return [GPTQModifier(**w4, **options)]
    if recipe == "awq":
        return [AWQModifier(**options), QuantizationModifier(**w4)]
    if recipe == "spinquant":
        rotations: dict[str, Any] = {"rotations": ["R1", "R2"], "transform_type": "hadamard"}
        return [SpinQuantModifier(**(rotations | options)), QuantizationModifier(**w4)]
    mappings: dict[str, Any] = {"mappings": _norms_and_readers(model)}
    w8a8: dict[str, Any] = {"scheme": "W8A8", "targets": ["Linear"], "ignore": ["lm_head"]}
    return [SmoothQuantModifier(**(mappings | options)), QuantizationModifier(**w8a8)]


def _norms_and_readers(model: nn.Module) -> list[tuple[list[str], str]]:
    """Return (linears, the norm that feeds them) as patterns; the library's list has no OPT."""
    architecture = architecture_of(model)
    block = re.escape(architecture.blocks) + r"\.\d+\."
    return [
        ([f"re:{block}{path}$" for path in group.linears], f"re:{block}{group.source}$")
        for group in architecture.groups
        if group.source is not None and group.source not in architecture.linears
    ]


@contextmanager
def _pinned_only_with_a_gpu() -> Iterator[None]:
    """Let AWQ's cache do without pinned memory, which PyTorch refuses where there is no GPU."""
    from llmcompressor.pipelines.cache import IntermediatesCache

    before = IntermediatesCache.__dict__["pin_memory"]
    if not torch.cuda.is_available():
        IntermediatesCache.pin_memory = lambda *args, **kwargs: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        IntermediatesCache.pin_memory = before  # type: ignore[method-assign]


@torch.no_grad()
def _packed(module: nn.Module) -> QuantizedLinear:
    """Return the packed layer of what the library left: its codes, scales and zero points."""
    from compressed_tensors.quantization.lifecycle.forward import quantize as encode

    layer: Any = module
    grid = layer.quantization_scheme.weights
    scale, zero = layer.weight_scale, layer.weight_zero_point
    middle = 2 ** (grid.num_bits - 1)
    codes = encode(layer.weight, scale, zero, grid, dtype=torch.int8)
    return QuantizedLinear(
        (codes.to(torch.int16) + middle).to(torch.uint8),
        scale.detach().clone(),
        None if grid.symmetric else zero.detach().to(torch.int16) + middle,
        bits=grid.num_bits,
        group_size=grid.group_size or -1,
        bias=layer.bias,
        dtype=layer.weight.dtype,
    )


def _compressed_bytes(copy: nn.Module) -> int:
    """Return the bytes of the model as the library stores it; its layers stay able to run."""
    from compressed_tensors.compressors import ModelCompressor

    compressor = ModelCompressor.from_pretrained_model(copy)
    compressor.compress_model(copy)
    n_bytes = stored_bytes(copy)
    compressor.decompress_model(copy)
    return n_bytes
