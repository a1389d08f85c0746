"""The tensors of AutoAWQ's checkpoint format, version ``gemm``.

AutoAWQ itself is archived, but its format is what gptqmodel, transformers and vLLM load: int32
``qweight`` [in, out / 8] and ``qzeros`` [groups, out / 8], float16 ``scales`` [groups, out]. Each
int32 holds eight neighbouring outputs, the even ones first (0 2 4 6 1 3 5 7, lowest bits first), as
its first CUDA kernel unpacked them. Zero points are stored as they are. Only 4 bits, and every
column belongs to group ``column // group_size``, which divides the inputs. Modules that
``modules_to_not_convert`` names keep their weights.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.quantizers.checkpoint import fields
from benchsuite.quantizers.checkpoint.fields import BadField
from benchsuite.quantizers.checkpoint.tensors import bias_of, fault_of, inexact, one_of, sound
from benchsuite.quantizers.formats.packing import octets, pack, unpack, words
from benchsuite.quantizers.linear import QuantizedLinear

TITLE = "AutoAWQ"
PARTS = ("qweight", "qzeros", "scales")
EXTRA = ()
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


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's quantization config with its fields as they are meant.

    AutoAWQ's own file says ``w_bit`` and ``q_group_size``. Raises ``BadField`` naming the field
    that cannot be read.
    """
    version = fields.word(config, "version", "gemm")
    if version != "gemm":
        raise BadField(f"its version is {version!r}, and only gemm can be read")
    return {
        **config,
        "bits": fields.bits(config, (4,), "w_bit"),
        "group_size": fields.group_size(config, "q_group_size"),
        "modules_to_not_convert": fields.names(config, "modules_to_not_convert"),
    }


def rule(
    config: Mapping[str, Any], names: Sequence[str], *, packed: bool
) -> Mapping[str, Any] | None:
    """Return the settings of the layer that goes by ``names``, None where it keeps its weight.

    AutoAWQ and vLLM look for each entry anywhere in a name, transformers at its beginning as a
    pattern. Where an entry ends within a word (``gate`` in ``gate_proj``), the file says whether
    the layer is ``packed``.
    """
    for entry in config["modules_to_not_convert"]:
        for name in names:
            if f".{entry}." in f".{name}.":
                return None
            if not packed and (entry in name or _begins(entry, name)):
                return None
    return config


def _begins(pattern: str, name: str) -> bool:
    try:
        return re.match(pattern, name) is not None
    except (re.error, RecursionError, OverflowError):
        return False  # a name, then, and not this one's


def settings(
    linears: Mapping[str, QuantizedLinear], folder: Path, left: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the quantization config; a usage error if one config cannot describe the layers.

    ``left`` names modules that keep their weights.
    """
    whole_rows = all(m.group_size == m.in_features for m in linears.values())
    widths = {name: -1 if whole_rows else m.group_size for name, m in linears.items()}
    group_size = one_of(widths, "an AutoAWQ checkpoint has one grid", folder)
    return {
        "quant_method": "awq",
        "version": "gemm",
        "bits": 4,
        "group_size": group_size,
        "zero_point": True,
        "modules_to_not_convert": list(left) or None,
    }


def holds(linear: QuantizedLinear) -> bool:
    """Say whether a layer is of the kind that the format is made for."""
    return type(linear) is QuantizedLinear


def lacking(linear: QuantizedLinear) -> str:
    """Return what the format would need to hold a layer, or nothing."""
    if linear.bits != 4:
        return f"{linear.bits}-bit codes"
    if linear.g_idx is not None:
        return "act order"
    if linear.free_zeros is not None:
        return "fractional zero points"
    if linear.out_features % 8:
        return f"{linear.out_features} outputs (only multiples of 8)"
    if linear.in_features % linear.group_size:
        return (
            f"narrower last group ({linear.in_features} inputs are no multiple of the group size "
            f"{linear.group_size})"
        )
    return inexact(linear)


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
        "qweight": ((n_in, n_out // 8), torch.int32),
        "qzeros": ((groups, n_out // 8), torch.int32),
        "scales": ((groups, n_out), None),
    }
    wrong = fault_of(found, expected, n_out)
    if wrong:
        return wrong, None
    qweight, qzeros, scales = sound(found, *PARTS)
    linear = QuantizedLinear(
        _in_order(qweight).t().contiguous(),
        scales.t().contiguous(),
        _in_order(qzeros).t(),
        bits=4,
        group_size=config["group_size"],
        bias=bias_of(original, found["bias"]),
        dtype=original.weight.dtype,
    )
    return "", linear
