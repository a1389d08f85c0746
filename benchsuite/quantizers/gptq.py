"""GPTQ (Frantar et al. 2023, arXiv 2210.17323): rounding with error compensation.

Columns are rounded one after another; each column's rounding error is compensated in the columns
still to come, so as to minimise tr(E H E^T) with H = (2/n) sum x x^T over the layer's calibration
inputs. With U the upper Cholesky factor of the inverse of the damped H, column i leaves the error
``e = (w_i - q_i) / U_ii`` and the later columns take ``W[:, j] -= e U_ij``: at once inside a block
of 128 columns, in one matmul across blocks. Defaults are those of the calibration study.

H is never inverted whole. With H = V V^T and V upper triangular, U is the inverse of V, and what is
minimised is ||E V||^2. So a panel of some columns needs of U its own square on the diagonal alone,
the inverse of V's, and of the errors E of earlier columns what they owe to it: its weights are
``W_p + (E V)_p U_pp`` when its turn comes. A panel of all columns is the paper's loop.

H and V are in `hessian`. The file goes from a block's columns (`quantize_block`), a panel's blocks
(`round_panel`) and all panels (`round_columns`) to one group of linears from H to its packed layers
(`GptqMethod.quantize`) and a whole model (`quantize`). H itself (`Hessian`), the grid and the walk
are what other methods use too. `gptaq` and `qronos` are this one, told of the original's inputs.

Rows are independent, so linears that read the same input are stacked and share one H, one
factorisation and one loop. Weights are held transposed, [columns, rows], which makes the columns
that the loop walks over contiguous.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.models.architecture import Architecture, InputGroup
from benchsuite.models.replay import Replayed
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.layers import Progress, stacked_rows
from benchsuite.quantizers.linear import QuantizedLinear, quantized_linear
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.hessian import (
    Factorisation,
    Hessian,
    error_norms,
    invert_upper,
    revive_dead,
    upper_factor,
)
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.walking.visit import Visit
from benchsuite.quantizers.walking.walk import Turns, walk

BLOCK_COLUMNS, PANEL_COLUMNS = 128, 512

BlockQuantizer = Callable[..., tuple[Tensor, Tensor]]
"""`quantize_block`, or one like it; that of `gptaq` is given its P after U."""


def quantize_block(
    work: Tensor, factor: Tensor, scale: Tensor, zero: Tensor, max_code: int
) -> tuple[Tensor, Tensor]:
    """Round the columns of one block in order, compensating inside the block.

    ``work`` [width, rows] holds the weights, one column per line, and is overwritten; ``factor``
    [width, width] is the block of U; ``scale`` and ``zero`` are [rows], or [width, rows] where
    columns differ. Returns (codes uint8 [width, rows], errors [width, rows]), the errors e that
    later blocks still have to take up.

    Inside the block the update is ``W[:, j] -= (w_i - q_i) (U_ij / U_ii)``, which spares a division
    for each column. Products and differences are rounded separately, never fused: the CUDA kernel
    `gptq_kernel` does the same arithmetic and gives equal codes.
    """
    # A level is a code without its zero point. Buffers and views are made once: the loop's small
    # operations cost more to start than to run.
    low, high = -zero, max_code - zero
    per_column = scale.dim() == 2
    levels, errors, update = (torch.empty_like(work) for _ in range(3))
    rounded = torch.empty_like(work[0])
    columns, column_levels, column_errors = work.unbind(), levels.unbind(), errors.unbind()
    diagonal = factor.diagonal()[:, None]
    compensation = (factor / diagonal)[:, :, None].unbind()
    for i in range(len(work)):
        s, lo, hi = (scale[i], low[i], high[i]) if per_column else (scale, low, high)
        # level = clamp(round(w_i / s)), q_i = level s
        torch.div(columns[i], s, out=rounded).round_()
        torch.clamp(rounded, lo, hi, out=column_levels[i])
        torch.mul(column_levels[i], s, out=rounded)
        # w_j -= (w_i - q_i) U_ij / U_ii for every later column j of the block
        torch.sub(columns[i], rounded, out=column_errors[i])
        torch.mul(compensation[i][i + 1 :], column_errors[i], out=update[i + 1 :])
        work[i + 1 :].sub_(update[i + 1 :])
    return levels.add_(zero).to(torch.uint8), errors.div_(diagonal)


def fuses(device: torch.device, dtype: torch.dtype = torch.float32, name: str = "auto") -> bool:
    """Whether ``torch``, ``triton`` or ``auto`` is Triton's; ``UsageError`` where it cannot be."""
    if name not in ("auto", "torch", "triton"):
        raise UsageError(f"unknown block kernel {name!r}", fix="Known: auto, torch, triton")
    can_fuse = device.type == "cuda" and dtype == torch.float32
    if name == "triton" and not can_fuse:
        raise UsageError(
            f"the Triton kernel needs float32 on CUDA, not {dtype} on {device}",
            "GPTQ",
            "use block_kernel='torch'",
        )
    return can_fuse and name != "torch"


def block_quantizer(
    device: torch.device, dtype: torch.dtype = torch.float32, name: str = "auto"
) -> BlockQuantizer:
    """Return the column loop for a device: see `fuses`."""
    if not fuses(device, dtype, name):
        return quantize_block
    # Triton exists only beside CUDA, so this import waits until a kernel is wanted.
    from benchsuite.quantizers.gptq_kernel import quantize_block as fused_quantize_block

    return fused_quantize_block


class Rounded(NamedTuple):
    """What the loop makes of a weight [rows, columns]: codes of that shape, scales and zeros
    [rows, groups], and the group of each column where it is not column // group_size."""

    codes: Tensor
    scales: Tensor
    zeros: Tensor
    g_idx: Tensor | None

    def of(self, rows: slice) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return codes, scales, zeros and groups of some rows, as `quantized_linear` takes them."""
        codes, scales = self.codes[rows].contiguous(), self.scales[rows].contiguous()
        return codes, scales, self.zeros[rows], self.g_idx


def spans(start: int, end: int, width: int) -> Iterator[tuple[int, int]]:
    """Cut the columns into spans of ``width``, of which the last may be narrower."""
    for first in range(start, end, width):
        yield first, min(first + width, end)


def invert_panels(factor: Tensor, group_width: int) -> Tensor:
    """Return U of each panel [panels, width, width], from V; the identity fills up the last one.

    A panel has whole groups, and about `PANEL_COLUMNS` columns if it can.
    """
    n = len(factor)
    width = min(n, group_width * max(1, PANEL_COLUMNS // group_width))
    n_panels = -(-n // width)
    squares = torch.eye(width, dtype=factor.dtype, device=factor.device).repeat(n_panels, 1, 1)
    for square, (start, end) in zip(squares, spans(0, n, width), strict=True):
        square[: end - start, : end - start] = factor[start:end, start:end]
    return invert_upper(squares)


class Panel(NamedTuple):
    """What the loop makes of a panel: codes uint8 [columns, rows], the values that they stand for,
    and (scale, zero) [rows] of each of its groups, if it fitted them."""

    codes: Tensor
    values: Tensor
    fitted: list[tuple[Tensor, Tensor]]


def round_panel(
    work: Tensor,
    upper: Tensor,
    grid: QuantizationGrid,
    group_width: int,
    static: tuple[Tensor, Tensor] | None,
    quantize_one: BlockQuantizer,
    passed: Tensor | None = None,
) -> Panel:
    """Run the paper's loop over the columns ``work`` [columns, rows] (overwritten) with their U.

    ``static`` are scale and zero of each column [columns, rows], if they were fitted beforehand;
    else each group's are fitted when the loop comes to it. ``passed`` is `gptaq`'s P.
    """
    matrices = (upper,) if passed is None else (upper, passed)
    codes = torch.empty(work.shape, dtype=torch.uint8, device=work.device)
    values, fitted = torch.empty_like(work), []
    for first, last in spans(0, len(work), group_width if static is None else len(work)):
        if static is None:
            fitted.append(grid.fit(work[first:last], dim=0))
        for start, end in spans(first, last, BLOCK_COLUMNS):
            block = slice(start, end)
            scale, zero = fitted[-1] if static is None else (p[block] for p in static)
            squares = (matrix[block, block] for matrix in matrices)
            codes[block], errors = quantize_one(work[block], *squares, scale, zero, grid.max_code)
            values[block] = codes[block]
            values[block].sub_(zero).mul_(scale)
            if end < len(work):
                work[end:].addmm_(upper[block, end:].t(), errors, alpha=-1)
                if passed is not None:
                    work[end:].addmm_(passed[block, end:].t(), work[block])
    return Panel(codes, values, fitted)


def round_columns(
    work: Tensor,
    factor: Tensor,
    panels: Tensor,
    grid: QuantizationGrid,
    order: Tensor | None,
    static_groups: bool,
    quantize_one: BlockQuantizer,
    passed: Tensor | None = None,
) -> Rounded:
    """Round ``work`` [columns, rows] (overwritten) with V = ``factor`` and U of its ``panels``.

    ``order`` (act order) lists the columns in the order in which to round them; ``factor`` is
    already in that order. Groups then hold columns that follow each other in ``order``, unless
    ``static_groups`` fits them beforehand on the columns as they lie. ``passed`` is `gptaq`'s P,
    for which all columns are one panel.
    """
    n_columns = len(work)
    width = grid.columns_per_group(n_columns)
    positions = torch.arange(n_columns, device=work.device)
    static = grid.fit_groups(work.t()) if static_groups else None
    if order is not None:
        work = work[order]
    codes = torch.empty(work.shape, dtype=torch.uint8, device=work.device)
    step = panels.shape[1]
    owed = torch.zeros_like(work[step:])  # E V of the columns after the first panel
    fitted: list[tuple[Tensor, Tensor]] = []
    for upper, (start, end) in zip(panels, spans(0, n_columns, step), strict=True):
        upper = upper[: end - start, : end - start]
        due = owed[start - step : end - step] if start else None
        groups = (positions if order is None else order)[start:end] // width
        panel = round_panel(
            work[:end].clone() if due is None else work[start:end].addmm(upper.t(), due),
            upper,
            grid,
            width,
            static and (static[0].t()[groups].contiguous(), static[1].t()[groups].contiguous()),
            quantize_one,
            passed,
        )
        codes[start:end] = panel.codes
        fitted += panel.fitted
        if end < n_columns:
            errors = work[start:end].sub_(panel.values)
            owed[end - step :].addmm_(factor[start:end, end:].t(), errors)
    g_idx = None
    if order is not None:
        place = torch.empty_like(order)
        place[order] = positions
        codes = codes[place]
        # One group for all columns has no order.
        g_idx = None if static is not None or width >= n_columns else place // width
    scales, zeros = static or (torch.stack(parts, 1) for parts in zip(*fitted, strict=True))
    return Rounded(codes.t(), scales, zeros, g_idx)


@dataclass
class GptqMethod:
    """GPTQ as the walk drives it; adds one line per linear to the account."""

    account: Account
    grid: QuantizationGrid
    damp_percent: float
    desc_act: bool
    quantize_block: BlockQuantizer
    static_groups: bool = False
    dtype: torch.dtype = torch.float32
    shuffle: torch.Generator | None = None

    def __post_init__(self) -> None:
        # Every layer of a kind has the same shapes.
        self._loop = Replayed(self._round)

    def _round(
        self, work: Tensor, factor: Tensor, order: Tensor | None, *prepared: Tensor
    ) -> Rounded:
        panels, *passed = prepared
        how = order, self.static_groups, self.quantize_block
        return round_columns(work, factor, panels, self.grid, *how, *passed)

    def packed(self, linear: nn.Linear, rounded: Rounded, rows: slice) -> QuantizedLinear:
        """Return the layer that replaces a linear whose weights are ``rows`` of what is rounded."""
        return quantized_linear(linear, self.grid, *rounded.of(rows))

    def statistic(self, here: Visit, group: InputGroup, device: torch.device) -> Any:
        """Return the Hessian that the group's linears share."""
        return Hessian(here.linears(group)[group.linears[0]].in_features, device, self.dtype)

    def _prepared(self, factor: Tensor, order: Tensor | None, statistic: Any) -> tuple[Tensor, ...]:
        """Return what the loop takes beside the weights and V: U of each panel."""
        return (invert_panels(factor, self.grid.columns_per_group(len(factor))),)

    def quantize(self, here: Visit, group: InputGroup, statistic: Any) -> Turns:
        """Quantize the group's linears together."""
        where, linears = f"{here.name}.{group.name}", here.linears(group)
        device = here.device_of(group)
        with self.account.timed(where, device), here.clock.measure("factor", device):
            hessian = statistic.mean()  # [columns, columns]
            prepared, dead = revive_dead(hessian)
            if self.shuffle is not None:
                prepared = _shuffled(prepared, self.shuffle)
            order = None
            if self.desc_act:
                order = prepared.diagonal().argsort(descending=True, stable=True)
                prepared = prepared[order][:, order]
            first = Factorisation(prepared, self.damp_percent)
        yield  # the other groups' factorisations start before the host waits for this one
        with self.account.timed(where, device):
            with here.clock.measure("factor", device):
                factor = upper_factor(prepared, self.damp_percent, where, first)
                del prepared, first
                upper = factor.upper
                ready = self._prepared(upper, order, statistic)
            with here.clock.measure("loop", device):
                work = _stacked(linears, self.dtype).masked_fill_(dead[:, None], 0)
                rounded = Rounded(*self._loop(work, upper, order, *ready))  # type: ignore[arg-type]
            with here.clock.measure("pack", device):
                replaced = {
                    path: self.packed(linear, rounded, rows)
                    for path, linear, rows in stacked_rows(linears)
                }
            with here.clock.measure("error", device):
                for path, linear in linears.items():
                    left = replaced[path].dequantize(self.dtype)
                    self.account.add(
                        f"{here.name}.{path}",
                        group=where,
                        share=linear.out_features / len(rounded.codes),
                        norms=error_norms(linear.weight, left, hessian),
                        damp=factor.damp,
                        retries=factor.retries,
                    )
        return replaced


def _shuffled(hessian: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.randperm(len(hessian), generator=generator).to(hessian.device)
    return hessian[order][:, order]


def _stacked(linears: Mapping[str, nn.Linear], dtype: torch.dtype) -> Tensor:
    """Copy the weights side by side, transposed: [columns, rows of all linears]."""
    first = next(iter(linears.values())).weight
    n_rows = sum(linear.out_features for linear in linears.values())
    work = torch.empty(first.shape[1], n_rows, dtype=dtype, device=first.device)
    for _, linear, rows in stacked_rows(linears):
        work[:, rows] = linear.weight.detach().t()
    return work


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor,
    *,
    bits: int = 4,
    group_size: int = 128,
    sym: bool = True,
    damp_percent: float = 0.01,
    desc_act: bool = False,
    static_groups: bool = False,
    true_sequential: bool = False,
    mse: bool = False,
    scale_dtype: torch.dtype = torch.float16,
    hessian_dtype: torch.dtype = torch.float32,
    hessian_permutation_seed: int | None = None,
    block_kernel: str = "auto",
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
    architecture: Architecture | None = None,
) -> QuantizationResult:
    """Quantize every block linear of ``model`` with GPTQ, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len]. ``desc_act`` rounds columns by
    falling diagonal of H; ``static_groups`` fits group parameters beforehand; ``true_sequential``
    calibrates each input group on the already quantized earlier ones; ``mse`` searches clipping.
    ``hessian_permutation_seed`` is a negative control: H's rows and columns are shuffled.
    ``hessian_dtype`` float64 runs everything in float64 (for comparisons between implementations).
    ``architecture`` says where the linears are in a model whose modules were moved. The codes are
    the same on any number of devices of one kind (`share_work`).
    """
    seed = hessian_permutation_seed
    shuffle = None if seed is None else torch.Generator().manual_seed(seed)
    loop = block_quantizer(next(model.parameters()).device, hessian_dtype, block_kernel)
    account = Account(model)
    method = GptqMethod(
        account,
        QuantizationGrid(bits, group_size, sym, mse, scale_dtype),
        damp_percent=damp_percent,
        desc_act=desc_act,
        quantize_block=loop,
        static_groups=static_groups,
        dtype=hessian_dtype,
        shuffle=shuffle,
    )
    seconds = walk(
        model,
        batch,
        method,
        true_sequential=true_sequential,
        memory=memory,
        progress=progress,
        architecture=architecture,
    )
    return account.close(seconds)
