"""GPTAQ (Li et al. 2025, arXiv 2504.02692): GPTQ that answers for the layers before.

GPTQ keeps what a layer makes of its inputs x~ in the quantized model. But the full-precision model
has other inputs x there, and W x is what should come out. Per row w of the weight GPTAQ minimises

    || w X - w^ X~ ||^2 = || (w - w^) X~ + w dX ||^2,   dX = X - X~

One weight i adds w_i dX_i, which the weights after it can take up. Least squares says how:

    w_j += w_i P_ij  (j > i),   P_i,>i = (dX_i X~_>i^T) (X~_>i X~_>i^T)^-1

The paper's "neuron decomposition" does this for one weight at a time, when its turn to be rounded
has come, beside GPTQ's own update by the rounding error. With H^-1 = U^T U as in `gptq`, the
inverse of every trailing block is U_>i,>i^T U_>i,>i, so that all rows of P are two products:

    P = alpha ((dX X~^T U^T) above the diagonal) U

The paper has alpha = 1. The authors' code has .25, "the most stable" by their word (issue 4 of
their repository), and so has GPTQModel; .25 is the default here. dX X~^T is summed up beside H
(`hessian.Drift`) from a walk that takes the original model along. Where nothing has drifted P is 0
and the loop is GPTQ's.

Two details of the authors' code are not here. Across blocks of 128 columns it adds q_i P_ij in
place of w_i P_ij; the paper's derivation has w_i. And scales of groups narrower than a block are
fitted here to the weights as they are by then.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchsuite.models.architecture import InputGroup
from benchsuite.quantizers.gptq import BlockQuantizer, GptqMethod, fuses
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.layers import Progress
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.hessian import Drift, invert_upper
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.walking.visit import Visit
from benchsuite.quantizers.walking.walk import walk


def transfer(cross: Tensor, upper: Tensor, alpha: float) -> Tensor:
    """Return P [columns, columns] from dX X~^T and U, both [columns, columns]."""
    return ((cross @ upper.t()).triu_(1) @ upper).mul_(alpha)


def quantize_block(
    work: Tensor, factor: Tensor, passed: Tensor, scale: Tensor, zero: Tensor, max_code: int
) -> tuple[Tensor, Tensor]:
    """Round the columns of one block in order, as `gptq.quantize_block` does, passing drift on.

    ``passed`` [width, width] is the block of P. ``work`` is left holding every column as it was
    when it was rounded. Where P is 0 the arithmetic is GPTQ's, bit for bit. On a GPU `gptq_kernel`
    does the same and gives equal codes.
    """
    low, high = -zero, max_code - zero
    per_column = scale.dim() == 2
    levels, errors = torch.empty_like(work), torch.empty_like(work)
    diagonal = factor.diagonal()[:, None]
    compensation = factor / diagonal
    for i in range(len(work)):
        s, lo, hi = (scale[i], low[i], high[i]) if per_column else (scale, low, high)
        levels[i] = torch.clamp((work[i] / s).round_(), lo, hi)
        errors[i] = work[i] - levels[i] * s
        later = work[i + 1 :]
        later.sub_(compensation[i, i + 1 :, None] * errors[i])
        later.add_(passed[i, i + 1 :, None] * work[i])
    return levels.add_(zero).to(torch.uint8), errors.div_(diagonal)


def block_quantizer(device: torch.device) -> BlockQuantizer:
    """Return the column loop for a device: see `gptq.fuses`."""
    if not fuses(device):
        return quantize_block
    # Triton exists only beside CUDA, so this import waits until a kernel is wanted.
    from benchsuite.quantizers.gptq_kernel import quantize_drifted_block

    return quantize_drifted_block


@dataclass
class GptaqMethod(GptqMethod):
    """GPTAQ as the walk drives it: GPTQ with another statistic, whose loop passes drift on."""

    alpha: float = 0.25

    def statistic(self, here: Visit, group: InputGroup, device: torch.device) -> Drift:
        """Return H and the drift of the inputs that the group's linears share."""
        return Drift(here.linears(group)[group.linears[0]].in_features, device, self.dtype)

    def _prepared(
        self, factor: Tensor, order: Tensor | None, statistic: Drift
    ) -> tuple[Tensor, ...]:
        """Return U [1, columns, columns] and P, both in the order of the loop."""
        panels = invert_upper(factor[None])
        cross = statistic.cross()
        if order is not None:
            cross = cross[order][:, order]
        return panels, transfer(cross, panels[0], self.alpha)


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor,
    *,
    bits: int = 4,
    group_size: int = 128,
    sym: bool = True,
    alpha: float = 0.25,
    damp_percent: float = 0.01,
    desc_act: bool = False,
    true_sequential: bool = True,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Quantize every block linear of ``model`` with GPTAQ, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len]. ``alpha`` is the share of the
    drift that is passed on; the rest is as in `gptq.quantize`, but that ``true_sequential`` is the
    authors' setting. A layer's ``error`` is GPTQ's, of the same inputs for W and W^.
    """
    account = Account(model)
    method = GptaqMethod(
        account,
        QuantizationGrid(bits, group_size, sym),
        damp_percent=damp_percent,
        desc_act=desc_act,
        quantize_block=block_quantizer(next(model.parameters()).device),
        alpha=alpha,
    )
    seconds = walk(
        model,
        batch,
        method,
        true_sequential=true_sequential,
        beside_original=True,
        memory=memory,
        progress=progress,
    )
    return account.close(seconds)
