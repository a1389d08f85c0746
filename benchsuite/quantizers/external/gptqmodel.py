"""GPTQModel (github.com/ModelCloud/GPTQModel) as two methods, with its own defaults.

It reads a folder and writes AutoGPTQ's or AutoAWQ's format, so the model goes there and back
through a temporary folder; the checkpoint is taken over code by code. ``gptq`` damps by .05 and
quantizes columns in its group-aware act order; ``awq`` needs half precision, in which it also
scales the norms.
"""

import os
from typing import Any

import torch
from torch import Tensor

from benchsuite.quantizers.external import guest
from benchsuite.quantizers.layers import Progress
from benchsuite.quantizers.result import QuantizationResult

HALF = (torch.float16, torch.bfloat16)


def quantize(
    model: Any,
    batch: Tensor,
    *,
    method: str,
    bits: int = 4,
    group_size: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> QuantizationResult:
    """Run ``method`` (``gptq`` or ``awq``) on ``model``, in place on its module tree.

    ``batch`` is int64 [n_samples, seq_len]; ``options`` go to the library's ``QuantizeConfig``.
    """
    with guest.guest(model, "gptqmodel", seed, progress) as stay:
        # With fewer its own pools do not start; with more it would not keep to the cell's threads.
        os.environ["GPTQMODEL_CPU_WORKERS"] = "2"
        from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

        awq = method == "awq"
        dtype = torch.float16 if awq and model.dtype not in HALF else model.dtype
        source = guest.write_model(model, stay.folder / "original", dtype)
        kind = {"method": method, "format": "gemm" if awq else "gptq"}
        config = QuantizeConfig(bits=bits, group_size=group_size, **kind, **options)
        library = GPTQModel.load(
            str(source), config, device=str(model.device), dtype=dtype, trust_remote_code=False
        )
        library.quantize(
            [{"input_ids": row, "attention_mask": [1] * len(row)} for row in batch.tolist()],
            batch_size=1,
            calibration_sort=None,
            backend=BACKEND.AWQ_TORCH if awq else BACKEND.GPTQ_TORCH,
        )
        library.save(str(stay.folder / "quantized"))
        after = guest.adopt_checkpoint(model, stay.folder / "quantized")
    return stay.account(after)
