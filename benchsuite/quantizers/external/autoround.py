"""AutoRound (github.com/intel/auto-round): rounding and clipping learned by signed gradients.

Its defaults: W4A16, symmetric, 200 iterations a block in batches of 8 samples. The result leaves it
in AutoGPTQ's format and is taken over code by code.
"""

from typing import Any

from torch import Tensor

from benchsuite.quantizers.external import guest
from benchsuite.quantizers.layers import Progress
from benchsuite.quantizers.result import QuantizationResult


def quantize(
    model: Any,
    batch: Tensor,
    *,
    bits: int = 4,
    group_size: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> QuantizationResult:
    """Learn the rounding of every block linear, in place on the module tree.

    ``batch`` is int64 [n_samples, seq_len]; ``options`` go to ``AutoRound``.
    """
    with guest.guest(model, "auto-round", seed, progress) as stay:
        from auto_round import AutoRound

        n_samples, seq_len = batch.shape
        rounder = AutoRound(
            guest.own_copy(model),
            tokenizer=guest.placeholder_tokenizer(),
            bits=bits,
            group_size=group_size,
            sym=True,
            dataset=[{"input_ids": row[None]} for row in batch.cpu()],
            nsamples=n_samples,
            seqlen=seq_len,
            seed=seed,
            device_map=str(model.device),
            enable_torch_compile=False,
            **options,
        )
        rounder.quantize_and_save(str(stay.folder / "quantized"), format="auto_gptq")
        (folder,) = {path.parent for path in stay.folder.rglob("config.json")}
        after = guest.adopt_checkpoint(model, folder)
    return stay.account(after)
