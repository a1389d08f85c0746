"""The tensors of compressed-tensors' FP4 formats, llm-compressor's own, for weights or for W4A4.

In place of each weight:

| | ``nvfp4-pack-quantized`` | ``mxfp4-pack-quantized`` |
|---|---|---|
| ``weight_packed`` | uint8 [out, in / 2], the first of two codes in the low bits | the same |
| ``weight_scale`` | E4M3 [out, in / 16] | uint8 [out, in / 32] |
| ``weight_global_scale`` | float32 [1] | |
| ``input_global_scale`` | float32 [1], if inputs are rounded | |

Groups divide the inputs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.quantizers.checkpoint import compressed
from benchsuite.quantizers.checkpoint.fields import BadField
from benchsuite.quantizers.checkpoint.tensors import bias_of, fault_of, one_of, sound
from benchsuite.quantizers.formats.fp4_grid import E4M3, FORMATS, Fp4Format
from benchsuite.quantizers.formats.fp4_linear import Fp4Linear
from benchsuite.quantizers.formats.packing import unpack
from benchsuite.quantizers.linear import QuantizedLinear


class Fp4Checkpoint:
    """The format of a checkpoint of one `fp4_grid.Fp4Format`, as `checkpoint` uses it."""

    def __init__(self, format: Fp4Format) -> None:
        self.grid = format
        self.FORMAT = f"{format.name}-pack-quantized"
        self.TITLE = f"compressed-tensors {format.name.upper()}"
        of_tensor = ("weight_global_scale",) if format.has_global else ()
        self.PARTS = ("weight_packed", "weight_scale", *of_tensor)
        self.EXTRA = ("input_global_scale",) if format.has_global else ()
        self.rule = compressed.rule

    def _rounding(self, dynamic: Any) -> dict[str, Any]:
        dtype = "torch.float8_e4m3fn" if self.grid.has_global else "torch.uint8"
        return {
            "num_bits": 4,
            "type": "float",
            "symmetric": True,
            "strategy": "tensor_group" if self.grid.has_global else "group",
            "group_size": self.grid.group_size,
            "scale_dtype": dtype,
            "dynamic": dynamic,
        }

    @property
    def _of_inputs(self) -> dict[str, Any]:
        # Of NVFP4's two scales one is found while the model runs, and one is fixed.
        return self._rounding("local" if self.grid.has_global else True)

    def checked(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a quantization config with its fields as they are meant, and ``activations``.

        Raises ``BadField`` naming what cannot be read.
        """
        group = compressed.only_group(config, self.FORMAT)
        given = group.get("input_activations")
        wrong = compressed.misses(group.get("weights"), self._rounding(False), "weights")
        if given and not wrong:
            wrong = compressed.misses(given, self._of_inputs, "input_activations")
        if wrong:
            raise BadField(wrong)
        return {**config, "ignore": compressed.ignored(config), "activations": bool(given)}

    def holds(self, linear: QuantizedLinear) -> bool:
        """Say whether a layer is of the kind that the format is made for."""
        return type(linear) is Fp4Linear and linear.format == self.grid

    def lacking(self, linear: QuantizedLinear) -> str:
        """Return what the format would need to hold a layer, or nothing."""
        if linear.in_features % self.grid.group_size:
            size = self.grid.group_size
            return f"narrower last group of {size} inputs ({linear.in_features} of them)"
        return ""

    def settings(
        self, linears: Mapping[str, QuantizedLinear], folder: Path, left: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return the quantization config; ``left`` names modules that keep their weights."""
        rounds = {name: m.activations for name, m in linears.items() if isinstance(m, Fp4Linear)}
        activations = one_of(rounds, "an FP4 checkpoint rounds all inputs or none", folder)
        observer = {"observer": "static_minmax" if self.grid.has_global else None}
        inputs = self._of_inputs | observer if activations else None
        weights = self._rounding(False)
        return compressed.settings(self.FORMAT, weights, inputs, folder, left, empty=not linears)

    def parts(self, linear: QuantizedLinear) -> dict[str, Tensor]:
        """Return a layer's tensors by the format's names."""
        assert isinstance(linear, Fp4Linear)
        scales = linear.scales.view(E4M3) if self.grid.has_global else linear.scales
        found = {
            "weight_packed": linear.packed,
            "weight_scale": scales,
            "weight_global_scale": linear.global_scale,
            "input_global_scale": linear.input_global_scale,
            "bias": linear.bias,
        }
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def layer(
        self, original: nn.Linear, found: Mapping[str, Tensor | None], config: Mapping[str, Any]
    ) -> tuple[str, QuantizedLinear | None]:
        """Return ("", the layer), or (what is wrong with its tensors, None)."""
        n_out, n_in, activations = (
            original.out_features,
            original.in_features,
            config["activations"],
        )
        if n_in % self.grid.group_size:
            return f"{n_in} inputs are no multiple of {self.grid.group_size}", None
        kind = E4M3 if self.grid.has_global else torch.uint8
        expected: dict[str, tuple[tuple[int, ...], torch.dtype | None]] = {
            "weight_packed": ((n_out, n_in // 2), torch.uint8),
            "weight_scale": ((n_out, n_in // self.grid.group_size), kind),
        }
        fixed = self.EXTRA if activations else ()
        missing = [part for part in fixed if found[part] is None]
        if missing:
            return f"missing {', '.join(missing)}", None
        expected |= {part: ((1,), None) for part in (*self.PARTS[2:], *fixed)}
        wrong = fault_of(found, expected, n_out)
        if wrong:
            return wrong, None
        packed, scale = sound(found, "weight_packed", "weight_scale")
        octets = scale.view(torch.uint8)
        nan = octets & 0x7F == 0x7F if self.grid.has_global else octets == 0xFF
        if nan.any():
            return "weight_scale are not all finite", None
        linear = Fp4Linear(
            unpack(packed, 4, n_in),
            octets,
            found.get("weight_global_scale"),
            format=self.grid,
            activations=activations,
            input_global_scale=found.get("input_global_scale") if activations else None,
            bias=bias_of(original, found["bias"]),
            dtype=original.weight.dtype,
        )
        return "", linear


CHECKPOINTS = {made.FORMAT: made for made in map(Fp4Checkpoint, FORMATS.values())}
