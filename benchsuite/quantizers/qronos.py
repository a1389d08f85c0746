"""Qronos (Zhang et al. 2025, arXiv 2505.11695): correct the past, then round on as GPTQ does.

Per row w of the weight, x~ the inputs in the quantized model and x those in the original one, it
wants || w X - w^ X~ ||^2 least. Column by column it takes two steps, each the best of its kind:

    correct   q_i   = nearest code to  argmin_p || w X - q_<i X~_<i - p X~_i - v_>i X~_>i ||^2
    diffuse   v_>i  = argmin_v || w X - q_<=i X~_<=i - v X~_>i ||^2

where v are the weights that are not rounded yet, at first w itself. The paper shows that only the
first column needs both: from then on what is left over is orthogonal to all later inputs, so that
q_i is the nearest code to v_i and the diffusion is GPTQ's update.

So here Qronos is a change of the weight, then `gptq` as it is. With H = (2/n) sum x~ x~^T, damped
as GPTQ's (a term lambda ||v - w||^2 of both steps), and C = (2/n) sum (x - x~) x~^T
(`hessian.Drift`):

    z     = w_0 + (w C)_0 / H_00                   what the first column is to be: "correct"
    t     = w + w C H^-1                           what all are to be, were there no rounding
    v_>0  = t_>0 - (t_0 - z) U_0,>0 / U_00         the later ones when the first is z: "diffuse"

GPTQ begins with (z, v_>0). Its own update moves v_>0 from z to the code q_0, which makes it the
paper's minimiser for q_0: least squares is linear in what the first column is. All of it is linear
in w: (z, v_>0) = w + w S (`shift`), and S is 0 where nothing has drifted.
"""

import torch
from torch import Tensor, nn

from benchsuite.models.architecture import InputGroup
from benchsuite.quantizers.gptq import (
    GptqMethod,
    Rounded,
    block_quantizer,
    invert_panels,
    round_columns,
)
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.layers import Progress
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.hessian import Drift, invert_upper
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.walking.visit import Visit
from benchsuite.quantizers.walking.walk import walk


def shift(cross: Tensor, factor: Tensor) -> Tensor:
    """Return S [columns, columns] from C and V, H = V V^T: GPTQ is to begin with w + w S."""
    upper = invert_upper(factor)
    whole = (cross @ upper.t()) @ upper  # C H^-1
    first = cross[:, 0] / factor[0].square().sum()  # (w C)_0 / H_00 is w times this
    return whole - torch.outer(whole[:, 0] - first, upper[0] / upper[0, 0])


class QronosMethod(GptqMethod):
    """Qronos as the walk drives it: GPTQ with another statistic, begun with other weights."""

    def statistic(self, here: Visit, group: InputGroup, device: torch.device) -> Drift:
        """Return H and the drift of the inputs that the group's linears share."""
        return Drift(here.linears(group)[group.linears[0]].in_features, device, self.dtype)

    def _prepared(
        self, factor: Tensor, order: Tensor | None, statistic: Drift
    ) -> tuple[Tensor, ...]:
        """Return U of each panel, and S for weights as they lie."""
        cross = statistic.cross()
        if order is None:
            by = shift(cross, factor)
        else:
            place = order.argsort()
            by = shift(cross[order][:, order], factor)[place][:, place]
        return invert_panels(factor, self.grid.columns_per_group(len(factor))), by

    def _round(
        self, work: Tensor, factor: Tensor, order: Tensor | None, *prepared: Tensor
    ) -> Rounded:
        panels, by = prepared
        begun = torch.addmm(work, by.t(), work)
        return round_columns(
            begun, factor, panels, self.grid, order, self.static_groups, self.quantize_block
        )


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
    true_sequential: bool = True,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Quantize every block linear of ``model`` with Qronos, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len]. All settings are as in
    `gptq.quantize`, but that ``true_sequential`` is on. A layer's ``error`` is GPTQ's, of the same
    inputs for W and W^.
    """
    account = Account(model)
    method = QronosMethod(
        account,
        QuantizationGrid(bits, group_size, sym),
        damp_percent=damp_percent,
        desc_act=desc_act,
        quantize_block=block_quantizer(next(model.parameters()).device),
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
