"""SparseGPT (Frantar and Alistarh 2023, arXiv 2301.00774), 2:4: pruning with error compensation.

It is `gptq` with zero in place of the nearest code. Columns are pruned one after another, and what
a zero costs is made up for in the columns still to come, so as to minimise tr(E H E^T). With U the
upper Cholesky factor of the inverse of the damped H, taking away w_j costs w_j^2 / U_jj^2. Whenever
the loop comes to four new columns, the two weights of each row that cost least by then are marked
for zero. Then, as in GPTQ, column i leaves the error e = (w_i - q_i) / U_ii and later ones take
``W[:, j] -= e U_ij``: at once inside a block of 128 columns, in one matmul across blocks.

It is a control of cost, not a quantizer; sizes are those of `wanda`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchsuite.models.architecture import InputGroup
from benchsuite.quantizers.formats.sparse import GROUP, check_width, kept, sparse_linear, widths
from benchsuite.quantizers.layers import Progress, stacked_rows
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

BLOCK_COLUMNS = 128

BlockPruner = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def prune_block(work: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Prune the columns of one block in order, compensating inside the block.

    ``work`` [width, rows] holds the weights, one column per line, and is left holding what they
    are when their turn has come; ``factor`` [width, width] is the block of U. Returns (the mask of
    what stays, the errors e that later blocks still have to take up), both [width, rows]. On a GPU
    `sparsegpt_kernel` does the same and leaves equal bits.
    """
    mask, errors = torch.empty_like(work, dtype=torch.bool), torch.zeros_like(work)
    diagonal = factor.diagonal()[:, None]
    compensation = factor / diagonal
    for first in range(0, len(work), GROUP):
        four = slice(first, first + GROUP)
        mask[four] = kept((work[four] / diagonal[four]).square_(), dim=0)
        for i in range(first, first + GROUP):
            errors[i] = work[i].masked_fill(mask[i], 0)  # w_i - q_i
            work[i + 1 :].sub_(compensation[i, i + 1 :, None] * errors[i])
    return mask, errors.div_(diagonal)


def block_pruner(device: torch.device, dtype: torch.dtype) -> BlockPruner:
    """Return the column loop: Triton's where it can run."""
    if device.type != "cuda" or dtype != torch.float32:
        return prune_block
    # Triton exists only beside CUDA, so this import waits until a kernel is wanted.
    from benchsuite.quantizers.sparsegpt_kernel import prune_block as fused_prune_block

    return fused_prune_block


def prune(work: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Prune ``work`` [columns, rows] (overwritten) with U; returns (weights, mask), both so.

    On a GPU each column of ``work`` is contiguous.
    """
    prune_one = block_pruner(work.device, work.dtype)
    mask = torch.empty_like(work, dtype=torch.bool)
    for start in range(0, len(work), BLOCK_COLUMNS):
        block = slice(start, start + BLOCK_COLUMNS)
        mask[block], errors = prune_one(work[block], upper[block, block])
        later = slice(start + len(errors), None)
        work[later].addmm_(upper[block, later].t(), errors, alpha=-1)
    return work.mul_(mask), mask


@dataclass
class SparseGptMethod:
    """SparseGPT as the walk drives it; adds one line per linear to the account."""

    account: Account
    damp_percent: float
    dtype: torch.dtype

    def statistic(self, here: Visit, group: InputGroup, device: torch.device) -> Hessian:
        """Return the Hessian that the group's linears share."""
        return Hessian(here.linears(group)[group.linears[0]].in_features, device, self.dtype)

    def quantize(self, here: Visit, group: InputGroup, statistic: Hessian) -> Turns:
        """Prune the group's linears together."""
        where, linears = f"{here.name}.{group.name}", here.linears(group)
        device, replaced = here.device_of(group), dict[str, nn.Module]()
        for path, linear in linears.items():
            check_width(linear, f"{here.name}.{path}")
        with self.account.timed(where, device), here.clock.measure("factor", device):
            hessian = statistic.mean()  # [columns, columns]
            prepared, dead = revive_dead(hessian)
            first = Factorisation(prepared, self.damp_percent)
        yield  # the other groups' factorisations start before the host waits for this one
        with self.account.timed(where, device):
            with here.clock.measure("factor", device):
                factor = upper_factor(prepared, self.damp_percent, where, first)
                upper = invert_upper(factor.upper)
            with here.clock.measure("loop", device):
                weight = torch.cat([linear.weight.to(self.dtype) for linear in linears.values()])
                work = weight.t().contiguous().masked_fill_(dead[:, None], 0)
                weights, mask = (each.t() for each in prune(work, upper))
            for path, linear, rows in stacked_rows(linears):
                layer = replaced[path] = sparse_linear(linear, weights[rows], mask[rows])
                left = layer.dequantize(self.dtype)
                self.account.add(
                    f"{here.name}.{path}",
                    group=where,
                    share=linear.out_features / len(mask),
                    norms=error_norms(linear.weight, left, hessian),
                    damp=factor.damp,
                    retries=factor.retries,
                    details=widths(layer),
                )
        return replaced


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor,
    *,
    damp_percent: float = 0.01,
    hessian_dtype: torch.dtype = torch.float32,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Prune every block linear of ``model`` to 2:4 with SparseGPT, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len]. Each layer's ``details`` hold
    ``compressed_bits`` and ``dense_bits`` per weight. Raises a usage error at a layer whose inputs
    are no multiple of four.
    """
    account = Account(model)
    method = SparseGptMethod(account, damp_percent, hessian_dtype)
    return account.close(walk(model, batch, method, memory=memory, progress=progress))
