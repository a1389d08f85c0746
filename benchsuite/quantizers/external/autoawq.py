"""AutoAWQ (github.com/casper-hansen/AutoAWQ), archived at 0.2.9, with its own defaults.

W4A16, asymmetric, in its ``gemm`` format: scales are searched with its weight term and ranges are
clipped. It reads a folder and writes one, which is taken over code by code. It was made for a GPU:
see ``_quantizer_on_copies`` for what a CPU needs.
"""

from typing import Any

from torch import Tensor, nn

from benchsuite.quantizers.external import guest
from benchsuite.quantizers.layers import Progress
from benchsuite.quantizers.result import QuantizationResult


def quantize(
    model: Any,
    batch: Tensor,
    *,
    group_size: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> QuantizationResult:
    """Quantize every block linear to 4 bits, in place on the module tree.

    ``batch`` is int64 [n_samples, seq_len]; ``options`` go to the library's ``quantize``.
    """
    with guest.guest(model, "autoawq", seed, progress) as stay:
        from awq import AutoAWQForCausalLM

        source = guest.write_model(model, stay.folder / "original")
        library = AutoAWQForCausalLM.from_pretrained(
            str(source), device_map=str(model.device), trust_remote_code=False
        )
        n_samples, seq_len = batch.shape
        format = {"w_bit": 4, "q_group_size": group_size, "zero_point": True, "version": "GEMM"}
        library.quantize(
            guest.placeholder_tokenizer(),
            format,
            calib_data=batch.tolist(),
            max_calib_samples=n_samples,
            max_calib_seq_len=seq_len,
            quantizer_cls=_quantizer_on_copies(),
            **options,
        )
        library.save_quantized(str(stay.folder / "quantized"))
        after = guest.adopt_checkpoint(model, stay.folder / "quantized")
    return stay.account(after)


def _quantizer_on_copies() -> type:
    """Return the library's quantizer, made to try scales on copies of the weights on a CPU too.

    Between two candidates it puts back what ``state_dict`` held before, moved to the CPU. From a
    GPU that is a copy; on a CPU it is the weights themselves, so that the first candidate's scales
    would stay in them and the model would compute something else.
    """
    from awq.quantize.quantizer import AwqQuantizer

    class OnCopies(AwqQuantizer):  # type: ignore[misc]
        def _compute_best_scale(
            self,
            x: Tensor,
            w_mean: Tensor,
            x_mean: Tensor,
            module2inspect: nn.Module,
            *arguments: Any,
        ) -> Tensor:
            hook = module2inspect.register_state_dict_post_hook(_copy_state)
            try:
                search = super()._compute_best_scale
                return search(x, w_mean, x_mean, module2inspect, *arguments)
            finally:
                hook.remove()

    return OnCopies


def _copy_state(module: nn.Module, state: dict[str, Tensor], *_: Any) -> None:
    state.update({name: tensor.clone() for name, tensor in state.items()})
