"""The tensors of AutoAWQ's checkpoint format, version ``gemm``.

AutoAWQ itself is archived, but its format is what gptqmodel, transformers and vLLM load: int32
``qweight`` [in, out / 8] and ``qzeros`` [groups, out / 8], float16 ``scales`` [groups, out]. Each
int32 holds eight neighbouring outputs, the even ones first (0 2 4 6 1 3 5 7, lowest bits first), as
its first CUDA kernel unpacked them. Zero points are stored as they are. Only 4 bits, and every
column belongs to group ``column // group_size``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.quantizers.linear import QuantizedLinear
from benchsuite.quantizers.packing import octets, pack, unpack, words

PARTS = ("qweight", "qzeros", "scales")
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def _interleaved(codes: Tensor) -> Tensor:
    """Return int32 [rows, n / 8] of codes uint8 [rows, n]."""
    eights = codes.reshape(len(codes), -1, 8)[..., ORDER]
    return words(pack(eights.reshape(len(codes), -1), 4))


def _in_order(packed: Tensor) -> Tensor:
    """Return the codes uint8 [rows, n] of int32 [rows, n / 8]; the inverse of ``_interleaved``."""
    eights = unpack(octets(packed), 4, packed.shape[1] * 8).reshape(len(packed), -1, 8)
    ordered = torch.empty_like(eights)
    ordered[..., ORDER] = eights
    return ordered.reshape(len(packed), -1)


def fault(config: Mapping[str, Any]) -> str:
    """Return why a checkpoint of this quantization config cannot be read, or nothing."""
    version, bits = config.get("version", "gemm"), config.get("bits")
    if str(version).lower() != "gemm":
        return f"its format is {version!r}"
    return "" if bits == 4 else f"it has {bits} bits"


def settings(linears: Mapping[str, QuantizedLinear], folder: Path) -> dict[str, Any]:
    """Return the quantization config; a usage error if the format cannot hold the layers."""
    for name, linear in linears.items():
        lacking = _lacking(linear)
        if lacking:
            raise UsageError(f"the AutoAWQ format has no {lacking}, as in {name}", str(folder))
    widths = {linear.group_size for linear in linears.values()}
    if linears and all(linear.group_size == linear.in_features for linear in linears.values()):
        widths = {-1}
    if len(widths) != 1:
        found = f"{len(widths)} different group sizes" if widths else "no quantized layer"
        raise UsageError(f"an AutoAWQ checkpoint has one grid, this model {found}", str(folder))
    return {
        "quant_method": "awq",
        "version": "gemm",
        "bits": 4,
        "group_size": widths.pop(),
        "zero_point": True,
        "modules_to_not_convert": None,
    }


def _lacking(linear: QuantizedLinear) -> str:
    if linear.bits != 4:
        return f"{linear.bits}-bit codes"
    if linear.g_idx is not None:
        return "act order"
    if linear.free_zeros is not None:
        return "fractional zero points"
    if linear.out_features % 8:
        return f"{linear.out_features} outputs (only multiples of 8)"
    return ""


def parts(linear: QuantizedLinear) -> dict[str, Tensor]:
    """Return a layer's tensors by the format's names."""
    found = {
        "qweight": _interleaved(linear.codes.t()),
        "qzeros": _interleaved(linear.zeros.t()),
        "scales": linear.scales.half().t(),
    }
    if linear.bias is not None:
        found["bias"] = linear.bias
    return found


def layer(
    original: nn.Linear, found: Mapping[str, Tensor | None], config: Mapping[str, Any]
) -> tuple[str, QuantizedLinear | None]:
    """Return ("", the layer), or (what is wrong with its tensors, None)."""
    n_in, n_out = original.in_features, original.out_features
    groups = 1 if config["group_size"] == -1 else -(-n_in // config["group_size"])
    expected = {
        "qweight": (n_in, n_out // 8),
        "qzeros": (groups, n_out // 8),
        "scales": (groups, n_out),
    }
    tensors: dict[str, Tensor] = {}
    for part, shape in expected.items():
        tensor = found[part]
        assert tensor is not None
        if tuple(tensor.shape) != shape:
            return f"{part} has shape {list(tensor.shape)}, not {list(shape)}", None
        tensors[part] = tensor
    if not torch.isfinite(tensors["scales"]).all():
        return "scales are not all finite", None
    bias = found["bias"]
    linear = QuantizedLinear(
        _in_order(tensors["qweight"]).t().contiguous(),
        tensors["scales"].t().contiguous(),
        _in_order(tensors["qzeros"]).t(),
        bits=4,
        group_size=config["group_size"],
        bias=original.bias if bias is None else bias.to(original.weight.dtype),
        dtype=original.weight.dtype,
    )
    return "", linear
