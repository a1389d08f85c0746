"""The tensors of compressed-tensors' ``pack-quantized`` format, llm-compressor's own for weights.

In place of each weight: int32 ``weight_packed`` [out, in * bits / 32, rounded up], a row's codes in
one stream of bits, the first in the lowest; ``weight_scale`` [out, groups]; ``weight_shape`` int64
[2]; where the grid is asymmetric ``weight_zero_point`` [out * bits / 32, rounded up, groups], a
group's zero points in such a stream. It holds any width from 2 to 8 bits, and layers of several:
each width is a group of ``config_groups`` that names its layers.

Widths that do not divide 32 are packed without gaps since compressed-tensors 0.19.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchsuite.quantizers.checkpoint import compressed, fields
from benchsuite.quantizers.checkpoint.fields import BadField
from benchsuite.quantizers.checkpoint.tensors import bias_of, fault_of, sound
from benchsuite.quantizers.formats.packing import octets, pack, packed_width, unpack, words
from benchsuite.quantizers.linear import QuantizedLinear

FORMAT = "pack-quantized"
TITLE = "compressed-tensors packed"
PARTS = ("weight_packed", "weight_scale", "weight_shape")
EXTRA = ("weight_zero_point",)

_BITS = range(2, 9)


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's quantization config with its fields as they are meant, and ``kinds``.

    Raises ``BadField`` naming the one that cannot be read.
    """
    kinds = [_kind(group) for group in compressed.groups(config, FORMAT)]
    return {**config, "ignore": compressed.ignored(config), "kinds": kinds}


def _kind(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the targets of a group of layers, and their bits, group size and symmetry."""
    wrong = compressed.misses(group.get("weights"), {"type": "int"}, "weights")
    if wrong:
        raise BadField(wrong)
    fields.absent(group, "input_activations")
    weights = group["weights"]
    fields.absent(weights, "dynamic", "block_structure")
    if fields.word(weights, "actorder", "weight") not in ("weight", "static"):
        raise BadField(
            f"actorder of its weights is {weights['actorder']!r}, which has other groups"
        )
    strategy = fields.word(weights, "strategy", "")
    if strategy not in ("channel", "group"):
        raise BadField(f"strategy of its weights is {strategy!r}, neither 'channel' nor 'group'")
    bits = fields.number(weights, "num_bits")
    if bits not in _BITS:
        raise BadField(f"num_bits of its weights is {bits}, and only 2 to 8 can be read")
    return {
        "targets": fields.names(group, "targets"),
        "bits": bits,
        "group_size": -1 if strategy == "channel" else fields.group_size(weights),
        "sym": weights.get("symmetric", True) is not False,
    }


def rule(
    config: Mapping[str, Any], names: Sequence[str], *, packed: bool
) -> Mapping[str, Any] | None:
    """Return the settings of the layer that goes by ``names``, None where it keeps its weight.

    Of groups that name it in full, by a pattern or as any linear layer, the first of these counts.
    """
    if compressed.rule(config, names, packed=packed) is None:
        return None
    for says in (_named, _matched, _any_linear):
        for kind in config["kinds"]:
            if any(says(target, names) for target in kind["targets"]):
                return kind
    return None


def _named(target: str, names: Sequence[str]) -> bool:
    return target in names


def _matched(target: str, names: Sequence[str]) -> bool:
    if not target.startswith("re:"):
        return False
    pattern = fields.pattern("targets", target.removeprefix("re:"))
    return any(pattern.match(name) for name in names)


def _any_linear(target: str, names: Sequence[str]) -> bool:
    return target == "Linear"


def settings(
    linears: Mapping[str, QuantizedLinear], folder: Path, left: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the quantization config; ``left`` names modules that keep their weights."""
    kinds: dict[tuple[int, int, bool], list[str]] = {}
    for name, linear in linears.items():
        width = -1 if linear.scales.shape[1] == 1 else linear.group_size
        kinds.setdefault((linear.bits, width, linear.sym), []).append(name)
    groups = [
        compressed.group(
            FORMAT,
            {
                "num_bits": bits,
                "type": "int",
                "symmetric": sym,
                "strategy": "channel" if width == -1 else "group",
                "group_size": None if width == -1 else width,
                "dynamic": False,
            },
            None,
            ["Linear"] if len(kinds) == 1 else names,
        )
        for (bits, width, sym), names in sorted(kinds.items())
    ]
    return compressed.grouped_settings(FORMAT, groups, folder, left)


def holds(linear: QuantizedLinear) -> bool:
    """Say whether a layer is of the kind that the format is made for."""
    return type(linear) is QuantizedLinear


def lacking(linear: QuantizedLinear) -> str:
    """Return what the format would need to hold a layer, or nothing."""
    if linear.free_zeros is not None:
        return "fractional zero points"
    if linear.g_idx is not None:
        return "act order"
    if linear.in_features % linear.group_size:
        return f"narrower last group of {linear.group_size} inputs ({linear.in_features} of them)"
    return ""


def _words(n: int, bits: int) -> int:
    """Return the words of 32 bits that a stream of ``n`` codes takes."""
    return -(-n * bits // 32)


def _stream(packed: Tensor, n: int, bits: int) -> Tensor:
    """Return rows of packed bytes as rows of words, int32 [rows, words]: zeros fill the last."""
    return words(F.pad(packed, (0, 4 * _words(n, bits) - packed.shape[1])))


def _codes(stream: Tensor, n: int, bits: int) -> Tensor:
    """Return the codes, uint8 [rows, n], of rows of words: the inverse of ``_stream``."""
    packed = octets(stream)
    packed = F.pad(packed, (0, packed_width(n, bits) - packed.shape[1]))
    return unpack(packed, bits, n).contiguous()


def parts(linear: QuantizedLinear) -> dict[str, Tensor]:
    """Return a layer's tensors by the format's names."""
    bits, n_out, n_in = linear.bits, linear.out_features, linear.in_features
    found = {
        "weight_packed": _stream(linear.packed, n_in, bits),
        "weight_scale": linear.scales,
        "weight_shape": torch.tensor([n_out, n_in]),
    }
    if linear.packed_zeros is not None:
        found["weight_zero_point"] = _stream(pack(linear.zeros.t(), bits), n_out, bits).t()
    return found if linear.bias is None else found | {"bias": linear.bias}


def layer(
    original: nn.Linear, found: Mapping[str, Tensor | None], config: Mapping[str, Any]
) -> tuple[str, QuantizedLinear | None]:
    """Return ("", the layer), or (what is wrong with its tensors, None)."""
    n_out, n_in, bits = original.out_features, original.in_features, config["bits"]
    width = n_in if config["group_size"] == -1 else config["group_size"]
    if n_in % width:
        return f"{n_in} inputs are no multiple of {width}", None
    expected: dict[str, tuple[tuple[int, ...], torch.dtype | None]] = {
        "weight_packed": ((n_out, _words(n_in, bits)), torch.int32),
        "weight_scale": ((n_out, n_in // width), None),
        "weight_shape": ((2,), torch.int64),
    }
    zero = found["weight_zero_point"]
    if not config["sym"]:
        if zero is None:
            return "missing weight_zero_point", None
        expected["weight_zero_point"] = ((_words(n_out, bits), n_in // width), torch.int32)
    wrong = fault_of(found, expected, n_out)
    if wrong:
        return wrong, None
    packed, scale, shape = sound(found, *PARTS)
    if shape.tolist() != [n_out, n_in]:
        return f"weight_shape says {shape.tolist()}, not {[n_out, n_in]}", None
    zeros = None if config["sym"] or zero is None else _codes(zero.t(), n_out, bits).t()
    linear = QuantizedLinear(
        _codes(packed, n_in, bits),
        scale,
        zeros,
        bits=bits,
        group_size=config["group_size"],
        bias=bias_of(original, found["bias"]),
        dtype=original.weight.dtype,
    )
    return "", linear
