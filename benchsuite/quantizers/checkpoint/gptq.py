"""The tensors of AutoGPTQ's checkpoint format.

AutoGPTQ itself is archived, but its format is what gptqmodel, transformers and vLLM load: int32
``qweight`` [in * bits / 32, out] and ``qzeros`` [groups, out * bits / 32], float16 ``scales``
[groups, out] and int32 ``g_idx`` [in] in place of each weight. Its first version stores zero points
minus one. A zero point of 0 then has no code of its own, so asymmetric grids are written in the
second version (``gptq_v2``), which stores them as they are; symmetric ones in the first, which
every engine reads.

Layers may differ. gptqmodel's ``dynamic`` maps regular expressions over module names to other
settings (``+:`` or nothing before them) or to none at all (``-:``: the layer keeps its weight). The
first that matches counts. optimum's ``modules_in_block_to_quantize`` lists those that are packed.
"""

import re
from collections import Counter
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

BITS = (2, 3, 4, 8)
"""Widths that the format knows."""

VERSIONS = ("gptq", "gptq_v2")
TITLE = "AutoGPTQ"
_FUSED = {"qkv_proj": {"q_proj", "k_proj", "v_proj"}, "gate_up_proj": {"gate_proj", "up_proj"}}
PARTS = ("qweight", "qzeros", "scales", "g_idx")
EXTRA = ()


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's quantization config with its fields as they are meant.

    Raises ``BadField`` naming the one that cannot be read.
    """
    version = fields.word(config, "checkpoint_format", fields.word(config, "format", "gptq"))
    if version not in VERSIONS:
        raise BadField(f"its checkpoint_format is {version!r}, neither of {', '.join(VERSIONS)}")
    fields.absent(config, "is_marlin_format", "lm_head", "extra_config")
    if fields.word(config, "pack_dtype", "int32") not in ("int32", "torch.int32"):
        raise BadField(f"pack_dtype is {config['pack_dtype']!r}, and only int32 can be read")
    packed = fields.names(config, "modules_in_block_to_quantize")
    return {
        **config,
        "checkpoint_format": version,
        "bits": fields.bits(config, BITS),
        "group_size": fields.group_size(config),
        "dynamic": _rules(config),
        "modules_in_block_to_quantize": packed,
    }


def _rules(config: Mapping[str, Any]) -> list[tuple[re.Pattern[str], dict[str, int] | None]]:
    """Return the rules of ``dynamic``: (pattern, settings of its own; None: not packed)."""
    found: list[tuple[re.Pattern[str], dict[str, int] | None]] = []
    rules = config.get("dynamic") or {}
    if not isinstance(rules, dict):
        raise BadField(f"dynamic is {rules!r}, not an object of rules")
    for text, given in rules.items():
        pattern = fields.pattern("dynamic", text.removeprefix("-:").removeprefix("+:"))
        if text.startswith("-:"):
            found.append((pattern, None))
            continue
        if not isinstance(given, dict):
            raise BadField(f"dynamic has {given!r} for {text!r}, not an object of settings")
        fields.absent(given, "quant_method", "method", "checkpoint_format", "format", "pack_dtype")
        own = {"bits": fields.bits(given, BITS)} if "bits" in given else {}
        own |= {"group_size": fields.group_size(given)} if "group_size" in given else {}
        found.append((pattern, own))
    return found


def rule(
    config: Mapping[str, Any], names: Sequence[str], *, packed: bool
) -> Mapping[str, Any] | None:
    """Return the settings of the layer that goes by ``names``, None where it keeps its weight."""
    listed = config["modules_in_block_to_quantize"]
    if listed and not any(name.endswith(f".{inner}") for name in names for inner in listed):
        return None
    for pattern, own in config["dynamic"]:
        if any(pattern.match(name) for name in names):
            return None if own is None else {**config, **own}
    return config


def settings(
    linears: Mapping[str, QuantizedLinear], folder: Path, left: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the quantization config; a usage error if one config cannot describe the layers.

    ``left`` names modules that keep their weights.
    """
    sym = one_of(
        {n: m.sym for n, m in linears.items()}, "an AutoGPTQ checkpoint has one grid", folder
    )
    whole_rows = all(m.group_size == m.in_features for m in linears.values())
    kinds = {n: (m.bits, -1 if whole_rows else m.group_size) for n, m in linears.items()}
    (bits, group_size), _ = Counter(kinds.values()).most_common(1)[0]
    rules: dict[str, Any] = {f"-:^{re.escape(name)}$": {} for name in left}
    rules |= _of_their_own(kinds, (bits, group_size))
    return {
        "quant_method": "gptq",
        "checkpoint_format": "gptq" if sym else "gptq_v2",
        "bits": bits,
        "group_size": group_size,
        "sym": sym,
        "desc_act": any(m.g_idx is not None for m in linears.values()),
        "lm_head": False,
        "pack_dtype": "int32",
        **({"dynamic": rules} if rules else {}),
    }


def _of_their_own(
    kinds: Mapping[str, tuple[int, int]], usual: tuple[int, int]
) -> dict[str, dict[str, int]]:
    """Return the rules of layers whose (bits, group size) are not the ``usual``.

    Linears of one module that are alike share a rule. It names the module that vLLM makes of them
    too: some of its versions look for no other.
    """
    alike: dict[tuple[str, int, int], list[str]] = {}
    for name, kind in kinds.items():
        if kind != usual:
            parent, _, child = name.rpartition(".")
            alike.setdefault((parent, *kind), []).append(child)
    rules = {}
    for (parent, bits, group_size), own in alike.items():
        fused = [name for name, inside in _FUSED.items() if inside <= set(own)]
        names = "|".join(map(re.escape, (*own, *fused)))
        rules[f"+:^{re.escape(parent)}\\.({names})$"] = {"bits": bits, "group_size": group_size}
    return rules


def holds(linear: QuantizedLinear) -> bool:
    """Say whether a layer is of the kind that the format is made for."""
    return type(linear) is QuantizedLinear


def lacking(linear: QuantizedLinear) -> str:
    """Return what the format would need to hold a layer, or nothing."""
    if linear.bits not in BITS:
        return f"{linear.bits}-bit codes, only {', '.join(map(str, BITS))}"
    if linear.free_zeros is not None:
        return "fractional zero points"
    if linear.in_features % 32 or linear.out_features % 32:
        return (
            f"{linear.in_features} inputs and {linear.out_features} outputs (both are packed in "
            "multiples of 32)"
        )
    return inexact(linear)


def parts(linear: QuantizedLinear) -> dict[str, Tensor]:
    """Return a layer's tensors by the format's names."""
    bits = linear.bits
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
    width = n_in if config["group_size"] == -1 else config["group_size"]
    groups = -(-n_in // width)
    expected = {
        "qweight": ((n_in * bits // 32, n_out), torch.int32),
        "qzeros": ((groups, n_out * bits // 32), torch.int32),
        "scales": ((groups, n_out), None),
        "g_idx": ((n_in,), torch.int32),
    }
    wrong = fault_of(found, expected, n_out)
    if wrong:
        return wrong, None
    qweight, qzeros, scales, g_idx = sound(found, *PARTS)
    if g_idx.min() < 0 or g_idx.max() >= groups:
        return f"g_idx names groups outside 0 to {groups - 1}", None
    offset = int(config["checkpoint_format"] == "gptq")
    zeros = (unpack(octets(qzeros), bits, n_out) + offset & (2**bits - 1)).t()
    plain = torch.equal(g_idx.long(), torch.arange(n_in) // width)
    linear = QuantizedLinear(
        unpack(octets(qweight.t()), bits, n_in).contiguous(),
        scales.t().contiguous(),
        None if bool((zeros == 2 ** (bits - 1)).all()) else zeros,
        bits=bits,
        group_size=config["group_size"],
        bias=bias_of(original, found["bias"]),
        g_idx=None if plain else g_idx,
        dtype=original.weight.dtype,
    )
    return "", linear
