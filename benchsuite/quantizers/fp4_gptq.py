"""GPTQ on NVFP4 and MXFP4, and MR-GPTQ: the same behind small Hadamard rotations.

GPTQ's loop (`gptq`) asks a grid for the scale of each group, and rounds column after column to it.
Here is a grid whose numbers are E2M1. All are whole multiples of 1/2, from -12 to 12 of them, so
the loop sees an integer grid of 25 codes around 12, of which the rounding leaves ten out. A group's
scale is found when the loop comes to it, from the weights as compensation has left them, and
rounded to the format before anything is rounded to it. NVFP4's scale of the whole tensor is fixed
before, on the original weights; groups that have outgrown it keep E4M3's largest scale.

**MR-GPTQ** (Egiazarian et al. 2025, arXiv 2509.23202) multiplies the inputs of every linear by a
block-diagonal Hadamard matrix and its weights by the same, which leaves their product as it was.
Outliers are spread over the block. The matrix is as wide as the format's group, so a group stays
one. Weights are multiplied beforehand, inputs while the model runs. Columns are rounded by falling
diagonal of the Hessian, with groups fitted beforehand as they lie (static act order, as there). Of
the paper's scale search this file has none: scales cover the largest weight of a group.

W4A4 rounds the inputs in simulation, behind the rotation. The Hessian is of inputs as they are;
those of later blocks come from blocks whose inputs are rounded.
"""

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.models.architecture import Architecture, InputGroup, architecture_of
from benchsuite.models.streaming import is_streamed
from benchsuite.quantizers.formats.fp4_grid import Fp4Format, codes_of, round_e2m1
from benchsuite.quantizers.formats.fp4_linear import Fp4Linear, format_named, shared_largest
from benchsuite.quantizers.formats.last_rounded import RoundsInputs
from benchsuite.quantizers.gptq import BlockQuantizer, GptqMethod, Rounded, fuses, round_columns
from benchsuite.quantizers.hadamard import transform
from benchsuite.quantizers.layers import Progress, replace
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.hessian import Hessian
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.walking.largest import Largest
from benchsuite.quantizers.walking.visit import Visit
from benchsuite.quantizers.walking.walk import Turns, walk

HALVES = 12
"""The largest number, 6, in halves: the code of zero in GPTQ's loop."""


@dataclass(frozen=True)
class Fp4Grid:
    """A group of columns as GPTQ's loop fits it, with numbers in halves.

    ``of_tensor`` is NVFP4's scale g, one for each row of the weight, float32 [rows]; else None.
    ``fused`` fits a group in one CUDA kernel, to equal bits.
    """

    format: Fp4Format
    of_tensor: Tensor | None
    max_code: int = 2 * HALVES
    fused: bool = False

    def columns_per_group(self, n_columns: int) -> int:
        """Return the number of columns that share a scale in a weight with ``n_columns`` inputs."""
        return min(self.format.group_size, n_columns)

    def fit(self, weights: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
        """Return (the scale of a half, the code of zero), [rows], of one group [columns, rows]."""
        if self.fused and dim == 0:
            from benchsuite.quantizers import fp4_gptq_kernel

            halves = fp4_gptq_kernel.fit(weights, self.of_tensor)
            return halves, torch.full_like(halves, HALVES)
        return self._of(weights.abs().amax(dim), self.of_tensor, weights.dtype)

    def fit_groups(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same, [rows, groups], of every group of a weight [rows, columns]."""
        of_tensor = None if self.of_tensor is None else self.of_tensor[:, None]
        return self._of(self.format.groups(weight).abs().amax(-1), of_tensor, weight.dtype)

    def _of(
        self, largest: Tensor, of_tensor: Tensor | None, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        scale = self.format.scales(self.format.scale_bytes(largest, of_tensor), of_tensor)
        return scale.to(dtype) / 2, torch.full_like(scale, HALVES, dtype=dtype)


def quantize_block(
    work: Tensor, factor: Tensor, scale: Tensor, zero: Tensor, max_code: int
) -> tuple[Tensor, Tensor]:
    """Round the columns of one block in order, compensating inside the block.

    As `gptq.quantize_block`, to E2M1 numbers: ``scale`` is that of a half, codes are halves. The
    CUDA kernel `fp4_gptq_kernel` does the same arithmetic and gives equal bits.
    """
    errors, codes = torch.empty_like(work), torch.empty_like(work)
    for i in range(len(work)):
        half = scale[i] if scale.dim() == 2 else scale
        numbers = round_e2m1(work[i] / (2 * half))
        codes[i] = 2 * numbers + HALVES
        errors[i] = (work[i] - numbers * (2 * half)) / factor[i, i]
        work[i + 1 :].sub_(factor[i, i + 1 :, None] * errors[i])
    return codes.to(torch.uint8), errors


def block_quantizer(fused: bool) -> BlockQuantizer:
    """Return the column loop, plain or as a CUDA kernel."""
    if not fused:
        return quantize_block
    from benchsuite.quantizers.fp4_gptq_kernel import quantize_block as fused_quantize_block

    return fused_quantize_block


class HessianAndLargest(Hessian):
    """A Hessian that also remembers the largest input."""

    def __init__(self, n_features: int, device: torch.device) -> None:
        super().__init__(n_features, device)
        self.largest = Largest(device)

    def update(self, inputs: Tensor) -> None:
        """Add inputs [tokens, features]."""
        super().update(inputs)
        self.largest.update(inputs)

    def merge(self, later: Hessian) -> None:
        """Add what another one has seen of further inputs, on whatever device."""
        super().merge(later)
        assert isinstance(later, HessianAndLargest)
        self.largest.merge(later.largest)

    def to(self, device: torch.device) -> "HessianAndLargest":
        """Return the same sums on another device."""
        moved = super().to(device)
        assert isinstance(moved, HessianAndLargest)
        moved.largest = self.largest.to(device)
        return moved


@dataclass
class Fp4GptqMethod(GptqMethod):
    """GPTQ whose layers are `Fp4Linear`, as the walk drives it."""

    format: Fp4Format = dataclasses.field(kw_only=True)
    activations: bool = dataclasses.field(kw_only=True)
    input_global_scale: Tensor | None = dataclasses.field(default=None, kw_only=True)

    def _round(
        self, work: Tensor, factor: Tensor, order: Tensor | None, *prepared: Tensor
    ) -> Rounded:
        # A replay sees the tensors that it is given, so g comes with them and not with the grid.
        panels, of_tensor = prepared
        grid = self._grid_of(of_tensor)
        return round_columns(
            work, factor, panels, grid, order, self.static_groups, self.quantize_block
        )

    def _grid_of(self, of_tensor: Tensor | None) -> Any:
        grid: Any = self.grid
        return dataclasses.replace(grid, of_tensor=of_tensor)

    def _prepared(self, factor: Tensor, order: Tensor | None, statistic: Any) -> tuple[Any, ...]:
        """Return what the loop takes beside the weights and V: U of each panel, and g."""
        grid: Any = self.grid
        return *super()._prepared(factor, order, statistic), grid.of_tensor

    def statistic(self, here: Visit, group: InputGroup, device: torch.device) -> Hessian:
        """Return the Hessian that the group's linears share, with their largest input."""
        return HessianAndLargest(here.linears(group)[group.linears[0]].in_features, device)

    def quantize(self, here: Visit, group: InputGroup, statistic: Hessian) -> Turns:
        """Quantize the group's linears together, on the grid of their weights."""
        assert isinstance(statistic, HessianAndLargest)
        linears, fixed = here.linears(group), None
        if self.activations:
            fixed = self.format.global_scale(statistic.largest.value.reshape(1))
        grid = self._grid_of(self._of_rows(linears))
        own = dataclasses.replace(self, grid=grid, input_global_scale=fixed)
        own._loop = self._loop  # what it replays serves all groups
        return (yield from GptqMethod.quantize(own, here, group, statistic))

    def _of_rows(self, linears: Mapping[str, nn.Linear]) -> Tensor | None:
        """Return g of each row of the stacked weights, float32 [rows]."""
        if not self.format.has_global:
            return None
        largest = shared_largest(linears)
        rows = [largest[path].expand(m.out_features) for path, m in linears.items()]
        return self.format.global_scale(torch.cat(rows))

    def packed(self, linear: nn.Linear, rounded: Rounded, rows: slice) -> Fp4Linear:
        """Return the layer that replaces a linear whose weights are ``rows`` of what is rounded."""
        codes, halves, _, _ = rounded.of(rows)
        grid: Any = self.grid
        of_tensor = None if grid.of_tensor is None else grid.of_tensor[rows][:1].clone()
        # Six times a scale is a largest weight that has it.
        scales = self.format.scale_bytes(2 * 6 * halves, of_tensor)
        numbers = (codes.float() - HALVES) / 2
        fixed = self.input_global_scale
        return Fp4Linear(
            codes_of(numbers),
            scales,
            of_tensor,
            format=self.format,
            activations=self.activations,
            input_global_scale=None if fixed is None else fixed.clone(),
            bias=linear.bias,
            dtype=linear.weight.dtype,
        )


class RotatedLinear(nn.Module, RoundsInputs):
    """A linear behind a Hadamard rotation of each ``width`` of its inputs."""

    def __init__(self, linear: nn.Module, width: int) -> None:
        super().__init__()
        self.linear, self.width = linear, width

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [..., out] for inputs [..., in]."""
        return self.linear(self.rounded_once(inputs, lambda: rotated(inputs, self.width)))

    def way_of_rounding(self) -> Hashable:
        """Return what all that rotate alike have in common."""
        return "rotated", self.width

    def extra_repr(self) -> str:
        """Return the width, for the module's repr."""
        return f"rotated by {self.width}"


def rotated(x: Tensor, width: int) -> Tensor:
    """Return x [..., n] with each ``width`` of its last dimension times H / sqrt(width)."""
    return transform(x.unflatten(-1, (-1, width))).flatten(-2)


@torch.no_grad()
def rotate(model: nn.Module, width: int) -> Architecture:
    """Rotate every block linear of ``model`` and its inputs, in place on its module tree.

    The model computes what it did before; tensors of the given one are only read. Returns its
    architecture with the linears where they are now. Raises ``UsageError`` for a streamed model,
    and for inputs that the rotation does not divide.
    """
    architecture = architecture_of(model)
    if is_streamed(model):
        raise UsageError(
            "MR-GPTQ rotates a model before its blocks are quantized, and this one's blocks are "
            "not held together",
            "MR-GPTQ",
            "use a device that holds the model whole",
        )
    for name, found in list(architecture.named_linears(model)):
        linear: Any = found
        if linear.in_features % width:
            raise UsageError(
                f"{linear.in_features} inputs do not divide into rotations of {width}",
                name,
                "choose another format, or GPTQ without rotation",
            )
        turned = rotated(linear.weight.double(), width).to(linear.weight.dtype)
        linear.weight = nn.Parameter(turned, requires_grad=False)
        replace(model, name, RotatedLinear(linear, width))
    groups = tuple(
        dataclasses.replace(group, linears=tuple(f"{path}.linear" for path in group.linears))
        for group in architecture.groups
    )
    return dataclasses.replace(architecture, groups=groups)


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor,
    *,
    format: str = "nvfp4",
    activations: bool = False,
    rotate_groups: bool = False,
    damp_percent: float = 0.01,
    block_kernel: str = "auto",
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Quantize every block linear of ``model`` to FP4 by GPTQ, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len]. ``activations`` rounds inputs
    too. ``rotate_groups`` is MR-GPTQ. Rotations and rounded inputs are simulated: the result says
    so.
    """
    kind, account = format_named(format), Account(model)
    fused = fuses(next(model.parameters()).device, name=block_kernel)
    architecture = rotate(model, kind.group_size) if rotate_groups else None
    grid: Any = Fp4Grid(kind, None, fused=fused)
    method = Fp4GptqMethod(
        account,
        grid,
        damp_percent=damp_percent,
        desc_act=rotate_groups,
        quantize_block=block_quantizer(fused),
        static_groups=rotate_groups,
        format=kind,
        activations=activations,
    )
    seconds = walk(
        model, batch, method, memory=memory, progress=progress, architecture=architecture
    )
    result = account.close(seconds)
    return dataclasses.replace(result, latency_simulated=activations or rotate_groups)
