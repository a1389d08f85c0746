"""Numbers that no grid can hold are refused by the name of the layer that has them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from benchsuite.errors import BenchsuiteError

STORED = ("scales", "free_zeros")
"""The buffers of a quantized layer in which a weight that is too large for its grid shows."""


def infinite_inputs(where: str) -> BenchsuiteError:
    """Return the error of a layer whose inputs cannot be summed up."""
    return BenchsuiteError(
        "the layer's inputs have infinite or missing entries",
        where,
        "the model's activations overflow on this calibration data: load it in bfloat16 or float32",
    )


def refuse_infinite_inputs(statistic: Tensor, where: str) -> None:
    """Raise BenchsuiteError unless what was summed up of the inputs at ``where`` is finite."""
    # A sum is one pass and one number; it is infinite or missing if any entry is.
    if not torch.isfinite(statistic.sum(dtype=torch.float64)):
        raise infinite_inputs(where)


def refuse_infinite_outputs(outputs: Tensor, block: str) -> None:
    """Raise BenchsuiteError unless what the block at the path ``block`` puts out is finite."""
    if not torch.isfinite(outputs.sum(dtype=torch.float64)):
        raise infinite_inputs(f"{block}.*")


def refuse_infinite_weights(linears: Mapping[str, nn.Linear]) -> None:
    """Raise BenchsuiteError naming the first of the linears whose weight is not finite."""
    extremes = {path: torch.stack(linear.weight.aminmax()) for path, linear in linears.items()}
    if not torch.isfinite(torch.cat(list(extremes.values()))).all():
        bad = next(path for path, e in extremes.items() if not torch.isfinite(e).all())
        raise BenchsuiteError(
            "the weight has infinite or missing entries",
            bad,
            "nothing can be made of it: get the checkpoint again, or load it in a dtype that holds "
            "its values",
        )


def refuse_overflow(model: nn.Module) -> None:
    """Raise BenchsuiteError naming the first quantized layer whose scales or zeros overflow."""
    stored = [
        (name, module, tensor)
        for name, module in model.named_modules()
        for tensor in (getattr(module, part, None) for part in STORED)
        if isinstance(tensor, Tensor)
    ]
    if not stored or torch.stack([torch.isfinite(t).all() for _, _, t in stored]).all():
        return
    name, tensor = next((n, t) for n, _, t in stored if not torch.isfinite(t).all())
    raise BenchsuiteError(
        f"the layer's weights are too large for scales in {str(tensor.dtype)[6:]}",
        name,
        "use scales of a wider dtype where the method has the setting, or leave the layer as it is",
    )
