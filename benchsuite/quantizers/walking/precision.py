"""Which units multiply: process-wide switches of PyTorch, turned for a few lines and put back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def _switched(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def half_products_summed_in_full(inputs: Tensor) -> Iterator[None]:
    """Multiply half-precision numbers on the units made for them, and sum in float32.

    On a CPU, float32 copies of bfloat16 numbers go to its bfloat16 units: their products are exact
    either way and sums are float32, so nothing is lost, and it is three to five times faster where
    those units exist. On CUDA, partial sums are kept from being reduced in half precision.
    """
    if inputs.device.type == "cpu" and inputs.dtype == torch.bfloat16:
        matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        with _switched(matmul, "fp32_precision", "bf16"):
            yield
    elif inputs.is_cuda and inputs.dtype in (torch.float16, torch.bfloat16):
        kind = "fp16" if inputs.dtype == torch.float16 else "bf16"
        switch = f"allow_{kind}_reduced_precision_reduction"
        with _switched(torch.backends.cuda.matmul, switch, False):
            yield
    else:
        yield


@contextmanager
def products_for_a_report(inputs: Tensor) -> Iterator[None]:
    """Let CUDA multiply in TF32 (10-bit mantissas): for norms that are only reported."""
    if inputs.is_cuda and inputs.dtype == torch.float32:
        with _switched(torch.backends.cuda.matmul, "fp32_precision", "tf32"):
            yield
    else:
        yield


@contextmanager
def products_for_a_gradient(inputs: Tensor) -> Iterator[None]:
    """Let CUDA multiply in TF32: far finer than the noise of a mini-batch's gradient."""
    with products_for_a_report(inputs):
        yield
