"""The tensors of AutoGPTQ's checkpoint format.

AutoGPTQ itself is archived, but its format is what gptqmodel, transformers and vLLM load: int32
``qweight`` [in * bits / 32, out] and ``qzeros`` [groups, out * bits / 32], float16 ``scales``
[groups, out] and int32 ``g_idx`` [in] in place of each weight. Its first version stores zero points
minus one. A zero point of 0 then has no code of its own, so asymmetric grids are written in the
second version (``gptq_v2``), which stores them as they are; symmetric ones in the first, which
every engine reads.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.quantizers.linear import QuantizedLinear
from benchsuite.quantizers.packing import octets, pack, unpack, words

BITS = (2, 3, 4, 8)
"""Widths that the format knows."""

VERSIONS = ("gptq", "gptq_v2")
PARTS = ("qweight", "qzeros", "scales", "g_idx")


def fault(config: Mapping[str, Any]) -> str:
    """Return why a checkpoint of this quantization config cannot be read, or nothing."""
    version, bits = config.get("checkpoint_format", "gptq"), config.get("bits")
    if version not in VERSIONS:
        return f"its format is {version!r}"
    return "" if bits in BITS else f"it has {bits} bits"


def settings(linears: Mapping[str, QuantizedLinear], folder: Path) -> dict[str, Any]:
    """Return the quantization config; a usage error if the format cannot hold the layers."""
    kinds = {(m.bits, m.group_size, m.sym) for m in linears.values()}
    whole_rows = all(m.group_size == m.in_features for m in linears.values())
    if whole_rows:
        kinds = {(bits, -1, sym) for bits, _, sym in kinds}
    if len(kinds) != 1:
        found = f"{len(kinds)} different grids" if kinds else "no quantized layer"
        raise UsageError(f"an AutoGPTQ checkpoint has one grid, this model {found}", str(folder))
    ((bits, group_size, sym),) = kinds
    if any(m.free_zeros is not None for m in linears.values()):
        raise UsageError("the AutoGPTQ format has no fractional zero points", str(folder))
    if bits not in BITS:
        known = ", ".join(map(str, BITS))
        raise UsageError(f"the AutoGPTQ format has no {bits}-bit codes, only {known}", str(folder))
    return {
        "quant_method": "gptq",
        "checkpoint_format": "gptq" if sym else "gptq_v2",
        "bits": bits,
        "group_size": group_size,
        "sym": sym,
        "desc_act": any(m.g_idx is not None for m in linears.values()),
        "lm_head": False,
        "pack_dtype": "int32",
    }


def parts(linear: QuantizedLinear) -> dict[str, Tensor]:
    """Return a layer's tensors by the format's names."""
    bits = linear.bits
    if linear.in_features % 32 or linear.out_features % 32:
        raise UsageError(
            f"the AutoGPTQ format packs multiples of 32 inputs and outputs, not "
            f"{linear.in_features} and {linear.out_features}"
        )
    zeros = linear.zeros.t() - int(linear.sym) & (2**bits - 1)
    columns = torch.arange(linear.in_features, dtype=torch.int32, device=linear.packed.device)
    found = {
        "qweight": words(linear.packed).t(),
        "qzeros": words(pack(zeros, bits)),
        "scales": linear.scales.half().t(),
        "g_idx": columns // linear.group_size if linear.g_idx is None else linear.g_idx,
    }
    if linear.bias is not None:
        found["bias"] = linear.bias
    return found


def layer(
    original: nn.Linear, found: Mapping[str, Tensor | None], config: Mapping[str, Any]
) -> tuple[str, QuantizedLinear | None]:
    """Return ("", the layer), or (what is wrong with its tensors, None)."""
    bits, n_in, n_out = config["bits"], original.in_features, original.out_features
    qweight, qzeros, scales, g_idx = (found[part] for part in PARTS)
    assert qweight is not None
    assert qzeros is not None
    assert scales is not None
    assert g_idx is not None
    width = n_in if config["group_size"] == -1 else config["group_size"]
    groups = -(-n_in // width)
    expected = {
        "qweight": (n_in * bits // 32, n_out),
        "qzeros": (groups, n_out * bits // 32),
        "scales": (groups, n_out),
        "g_idx": (n_in,),
    }
    for part, shape in expected.items():
        size = tuple(found[part].shape)  # type: ignore[union-attr]
        if size != shape:
            return f"{part} has shape {list(size)}, not {list(shape)}", None
    if not torch.isfinite(scales).all():
        return "scales are not all finite", None
    if g_idx.min() < 0 or g_idx.max() >= groups:
        return f"g_idx names groups outside 0 to {groups - 1}", None
    offset = int(config.get("checkpoint_format", "gptq") == "gptq")
    zeros = (unpack(octets(qzeros), bits, n_out) + offset & (2**bits - 1)).t()
    plain = torch.equal(g_idx.long(), torch.arange(n_in) // width)
    linear = QuantizedLinear(
        unpack(octets(qweight.t()), bits, n_in).contiguous(),
        scales.t().contiguous(),
        None if bool((zeros == 2 ** (bits - 1)).all()) else zeros,
        bits=bits,
        group_size=config["group_size"],
        bias=original.bias if found["bias"] is None else found["bias"].to(original.weight.dtype),
        g_idx=None if plain else g_idx,
        dtype=original.weight.dtype,
    )
    return "", linear
