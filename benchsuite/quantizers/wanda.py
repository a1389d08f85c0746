"""Wanda (Sun et al. 2023, arXiv 2306.11695), 2:4: prune by weights and activations.

A weight counts as much as it moves the output: |W_ij| ||X_j||_2, with X_j the input j over all
calibration tokens. Of every four consecutive inputs of a row the two weights that count least are
zero; the others stay as they are. Block by block: the inputs of a block are those that the pruned
blocks before it make. Nothing is random and nothing is learned.

It is a control of cost, not a quantizer: half of the weights at full width are 9 bits per weight as
sparse hardware holds them, and 16 in an ordinary checkpoint.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchsuite.models.architecture import InputGroup
from benchsuite.quantizers.formats.sparse import check_width, kept, sparse_linear, widths
from benchsuite.quantizers.layers import Progress
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.energy import Energy
from benchsuite.quantizers.walking.finite import refuse_infinite_inputs
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.walking.visit import Visit
from benchsuite.quantizers.walking.walk import Turns, walk


def prune(weight: Tensor, energy: Tensor) -> Tensor:
    """Return the mask [rows, columns] of what stays of ``weight``; ``energy`` is ||X_j||^2."""
    return kept(weight.abs().float() * energy.sqrt())


@dataclass
class WandaMethod:
    """Wanda as the walk drives it; adds one line per linear to the account."""

    account: Account

    def statistic(self, here: Visit, group: InputGroup, device: torch.device) -> Energy:
        """Return the inputs' energy, which the group's linears share."""
        return Energy(here.linears(group)[group.linears[0]].in_features, device)

    def quantize(self, here: Visit, group: InputGroup, statistic: Energy) -> Turns:
        """Prune the group's linears."""
        yield
        replaced: dict[str, nn.Module] = {}
        refuse_infinite_inputs(statistic.total, f"{here.name}.{group.name}")
        for path, linear in here.linears(group).items():
            name = f"{here.name}.{path}"
            check_width(linear, name)
            with self.account.timed(name, here.device_of(group)):
                mask = prune(linear.weight, statistic.total)
                layer = replaced[path] = sparse_linear(linear, linear.weight, mask)
            self.account.add(name, details=widths(layer))
        return replaced


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor,
    *,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Prune every block linear of ``model`` to 2:4 with Wanda, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len]. Each layer's ``details`` hold
    ``compressed_bits`` and ``dense_bits`` per weight. Errors of layers are not measured: they would
    take a Hessian, which the method does without. Raises a usage error at a layer whose inputs are
    no multiple of four.
    """
    account = Account(model)
    return account.close(walk(model, batch, WandaMethod(account), memory=memory, progress=progress))
