"""GPTQ (Frantar et al. 2023, arXiv 2210.17323): rounding with error compensation.

Columns are rounded one after another; each column's rounding error is compensated in the columns
still to come, so as to minimise tr(E H E^T) with H = (2/n) sum x x^T over the layer's calibration
inputs. With U the upper Cholesky factor of the inverse of the damped H, column i leaves the error
``e = (w_i - q_i) / U_ii`` and the later columns take ``W[:, j] -= e U_ij``: at once inside a block
of 128 columns, in one matmul across blocks. Defaults are those of the calibration study.

Rows are independent, so linears that read the same input are stacked and share one H, one
factorisation and one loop. Weights are held transposed, [columns, rows], which makes the columns
that the loop walks over contiguous.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.models.architecture import Architecture, InputGroup
from benchsuite.quantizers.clock import StageClock
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.hessian import (
    Hessian,
    InverseFactor,
    inverse_factor,
    revive_dead,
    weighted_norm,
)
from benchsuite.quantizers.linear import (
    QuantizedLinear,
    model_digest,
    quantized_linear,
    stored_bytes,
)
from benchsuite.quantizers.result import LayerResult, QuantizationResult
from benchsuite.quantizers.walk import Progress, walk

BLOCK_COLUMNS = 128

BlockQuantizer = Callable[[Tensor, Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]


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
    ``kernels.quantize_block`` does the same arithmetic and gives equal codes.
    """
    low, high = -zero, max_code - zero
    per_column = scale.dim() == 2
    levels, errors, update = (torch.empty_like(work) for _ in range(3))
    rounded = torch.empty_like(work[0])
    columns, column_levels, column_errors = work.unbind(), levels.unbind(), errors.unbind()
    diagonal = factor.diagonal()[:, None]
    compensation = (factor / diagonal)[:, :, None].unbind()
    for i in range(len(work)):
        s, lo, hi = (scale[i], low[i], high[i]) if per_column else (scale, low, high)
        torch.div(columns[i], s, out=rounded).round_()
        torch.clamp(rounded, lo, hi, out=column_levels[i])
        torch.mul(column_levels[i], s, out=rounded)
        torch.sub(columns[i], rounded, out=column_errors[i])
        torch.mul(compensation[i][i + 1 :], column_errors[i], out=update[i + 1 :])
        work[i + 1 :].sub_(update[i + 1 :])
    return levels.add_(zero).to(torch.uint8), errors.div_(diagonal)


def block_quantizer(name: str, device: torch.device, dtype: torch.dtype) -> BlockQuantizer:
    """Return the column loop: ``torch``, ``triton``, or ``auto`` (Triton where it can run)."""
    if name not in ("auto", "torch", "triton"):
        raise UsageError(f"unknown block kernel {name!r}", fix="Known: auto, torch, triton")
    can_fuse = device.type == "cuda" and dtype == torch.float32
    if name == "torch" or (name == "auto" and not can_fuse):
        return quantize_block
    if not can_fuse:
        raise UsageError(
            f"the Triton kernel needs float32 on CUDA, not {dtype} on {device}",
            "GPTQ",
            "use block_kernel='torch'",
        )
    # Triton exists only beside CUDA, so this import waits until a kernel is wanted.
    from benchsuite.quantizers.kernels import quantize_block as fused_quantize_block

    return fused_quantize_block


@dataclass(frozen=True)
class Rounded:
    """What the loop makes of a weight [rows, columns]: codes of that shape, scales and zeros
    [rows, groups], and the group of each column where it is not column // group_size."""

    codes: Tensor
    scales: Tensor
    zeros: Tensor
    g_idx: Tensor | None


def _blocks(n_columns: int, group_width: int) -> Iterator[tuple[int, int]]:
    """Yield the column blocks: 128 wide at most, and none reaching into a further group."""
    for group in range(0, n_columns, group_width):
        end = min(group + group_width, n_columns)
        for start in range(group, end, BLOCK_COLUMNS):
            yield start, min(start + BLOCK_COLUMNS, end)


def round_columns(
    work: Tensor,
    factor: Tensor,
    grid: QuantizationGrid,
    order: Tensor | None,
    static_groups: bool,
    quantize_one: BlockQuantizer,
) -> Rounded:
    """Run GPTQ's loop over ``work`` [columns, rows] (overwritten) with U = ``factor``.

    ``order`` (act order) lists the columns in the order in which to round them; ``factor`` is
    already in that order. Groups then hold columns that follow each other in ``order``, unless
    ``static_groups`` fits them beforehand on the columns as they lie.
    """
    n_columns = len(work)
    width = grid.columns_per_group(n_columns)
    positions = torch.arange(n_columns, device=work.device)
    static = grid.fit_groups(work.t()) if static_groups else None
    if order is not None:
        work = work[order]
    codes = torch.empty(work.shape, dtype=torch.uint8, device=work.device)
    fitted: list[tuple[Tensor, Tensor]] = []
    for start, end in _blocks(n_columns, BLOCK_COLUMNS if static is not None else width):
        if static is not None:
            groups = (positions if order is None else order)[start:end] // width
            scale, zero = (p.t()[groups].contiguous() for p in static)
        elif start % width == 0:
            fitted.append(grid.fit(work[start : start + width], dim=0))
            scale, zero = fitted[-1]
        codes[start:end], errors = quantize_one(
            work[start:end], factor[start:end, start:end], scale, zero, grid.max_code
        )
        if end < n_columns:
            work[end:].addmm_(factor[start:end, end:].t(), errors, alpha=-1)
    g_idx = None
    if order is not None:
        place = torch.empty_like(order)
        place[order] = positions
        codes = codes[place]
        g_idx = None if static is not None else place // width
    scales, zeros = static if static is not None else _columns(fitted)
    return Rounded(codes.t(), scales, zeros, g_idx)


def _columns(fitted: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([s for s, _ in fitted], 1), torch.stack([z for _, z in fitted], 1)


@dataclass(frozen=True)
class _Account:
    """One linear's numbers; the norms stay tensors until the end, since reading one would make the
    host wait for the device."""

    name: str
    group: str
    share: float
    damp: float
    retries: int
    error: Tensor
    reference: Tensor


class GptqMethod:
    """GPTQ as the walk drives it; collects one account per linear."""

    def __init__(
        self,
        grid: QuantizationGrid,
        *,
        damp_percent: float,
        desc_act: bool,
        static_groups: bool,
        hessian_dtype: torch.dtype,
        hessian_permutation_seed: int | None,
        block_kernel: str,
        device: torch.device,
    ) -> None:
        self.grid, self.damp_percent = grid, damp_percent
        self.desc_act, self.static_groups = desc_act, static_groups
        self.dtype = hessian_dtype
        self.quantize_block = block_quantizer(block_kernel, device, hessian_dtype)
        self.shuffle: torch.Generator | None = None
        if hessian_permutation_seed is not None:
            self.shuffle = torch.Generator().manual_seed(hessian_permutation_seed)
        self.clock, self.group_clock = StageClock(device), StageClock(device)
        self._accounts: list[_Account] = []

    def statistic(self, name: str, group: InputGroup, linears: Mapping[str, nn.Linear]) -> Hessian:
        """Return the Hessian that the group's linears share."""
        linear = linears[group.linears[0]]
        return Hessian(linear.in_features, linear.weight.device, self.dtype)

    def quantize(
        self, name: str, group: InputGroup, linears: Mapping[str, nn.Linear], statistic: Hessian
    ) -> dict[str, QuantizedLinear]:
        """Quantize the group's linears together."""
        where = f"{name}.{group.name}"
        with self.group_clock.measure(where):
            hessian = statistic.mean()
            with self.clock.measure("factor"):
                prepared, dead = revive_dead(hessian)
                if self.shuffle is not None:
                    prepared = self._shuffled(prepared)
                order = None
                if self.desc_act:
                    order = prepared.diagonal().argsort(descending=True, stable=True)
                    prepared = prepared[order][:, order]
                factor = inverse_factor(prepared, self.damp_percent, where)
                del prepared
            with self.clock.measure("loop"):
                work = self._stacked(linears.values(), dead)
                rounded = round_columns(
                    work, factor.upper, self.grid, order, self.static_groups, self.quantize_block
                )
            with self.clock.measure("pack"):
                replaced = self._replacements(linears, rounded)
            with self.clock.measure("error"):
                self._account(name, where, linears, replaced, hessian, factor)
        return replaced

    def _shuffled(self, hessian: Tensor) -> Tensor:
        order = torch.randperm(len(hessian), generator=self.shuffle).to(hessian.device)
        return hessian[order][:, order]

    def _stacked(self, linears: Iterable[nn.Linear], dead: Tensor) -> Tensor:
        """Copy the weights side by side, transposed: [columns, rows of all linears]."""
        weights = [linear.weight.detach() for linear in linears]
        rows = sum(len(weight) for weight in weights)
        work = torch.empty(weights[0].shape[1], rows, dtype=self.dtype, device=weights[0].device)
        start = 0
        for weight in weights:
            work[:, start : start + len(weight)] = weight.t()
            start += len(weight)
        return work.masked_fill_(dead[:, None], 0)

    def _replacements(
        self, linears: Mapping[str, nn.Linear], rounded: Rounded
    ) -> dict[str, QuantizedLinear]:
        replaced, start = {}, 0
        for path, linear in linears.items():
            rows = slice(start, start + linear.out_features)
            start += linear.out_features
            replaced[path] = quantized_linear(
                linear,
                self.grid,
                rounded.codes[rows].contiguous(),
                rounded.scales[rows].contiguous(),
                rounded.zeros[rows],
                rounded.g_idx,
            )
        return replaced

    def _account(
        self,
        name: str,
        where: str,
        linears: Mapping[str, nn.Linear],
        replaced: Mapping[str, QuantizedLinear],
        hessian: Tensor,
        factor: InverseFactor,
    ) -> None:
        total_rows = sum(linear.out_features for linear in linears.values())
        for path, linear in linears.items():
            weight = linear.weight.detach().to(self.dtype)
            error = weighted_norm(weight - replaced[path].dequantize(self.dtype), hessian)
            reference = weighted_norm(weight, hessian)
            share = linear.out_features / total_rows
            account = _Account(
                f"{name}.{path}", where, share, factor.damp, factor.retries, error, reference
            )
            self._accounts.append(account)

    def results(self) -> list[LayerResult]:
        """Return the accounts of all linears so far (waits for the device)."""
        seconds = self.group_clock.seconds()
        return [
            LayerResult(
                name=account.name,
                error=float(account.error),
                relative_error=float(account.error / account.reference.clamp(min=1e-30)),
                damp=account.damp,
                retries=account.retries,
                seconds=account.share * seconds[account.group],
            )
            for account in self._accounts
        ]


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
    tokens_per_step: int | None = None,
    budget_bytes: int | None = None,
    progress: Progress | None = None,
    architecture: Architecture | None = None,
) -> QuantizationResult:
    """Quantize every block linear of ``model`` with GPTQ, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len]. ``desc_act`` rounds columns by
    falling diagonal of H; ``static_groups`` fits group parameters beforehand; ``true_sequential``
    calibrates each input group on the already quantized earlier ones; ``mse`` searches clipping.
    ``hessian_permutation_seed`` is a negative control: H's rows and columns are shuffled.
    ``hessian_dtype`` float64 runs everything in float64 (for comparisons between implementations).
    ``architecture`` says where the linears are in a model whose modules were moved.
    """
    method = GptqMethod(
        QuantizationGrid(bits, group_size, sym, mse, scale_dtype),
        damp_percent=damp_percent,
        desc_act=desc_act,
        static_groups=static_groups,
        hessian_dtype=hessian_dtype,
        hessian_permutation_seed=hessian_permutation_seed,
        block_kernel=block_kernel,
        device=next(model.parameters()).device,
    )
    size_before = stored_bytes(model)
    seconds = walk(
        model,
        batch,
        method,
        true_sequential=true_sequential,
        tokens_per_step=tokens_per_step,
        budget_bytes=budget_bytes,
        progress=progress,
        architecture=architecture,
    )
    seconds["hessian"] = seconds.pop("statistics")
    del seconds["method"]
    return QuantizationResult(
        layers=method.results(),
        weights_sha256=model_digest(model),
        size_before_bytes=size_before,
        size_after_bytes=stored_bytes(model),
        stage_seconds=seconds | method.clock.seconds(),
    )
