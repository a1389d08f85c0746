"""AdaRound (Nagel et al. 2020, arXiv 2004.10568): learn which weights to round up.

Each weight becomes s clip(floor(W/s) + h(V)) with h(V) = clip(1.2 sigmoid(V) - .1, 0, 1), where V
starts at the fraction W/s - floor(W/s). Layer by layer, Adam minimises over V

    mean ||W x - W^ x||^2  +  lambda sum(1 - |2h - 1|^b)

with lambda = .01. The second term drives every h to 0 or 1; it is off for the first 20 % of the
iterations, then b falls from 20 to 2 on half a cosine. What has not arrived is rounded at .5.

The paper draws 32 of some 2,000 samples per step. The mean over *all* calibration tokens is
tr(E H E^T) / 2 with E = W^ - W and H = (2/n) sum x x^T, and its gradient by W^ is E H. That is the
expectation of the mini-batch gradient, without its noise. It costs the same for any number of
tokens. So every step here sees all samples, and nothing is random. The grid is fitted
beforehand, as for round to nearest.

Rows are independent, so linears with a common input are learned together, and of each row the
better of learned and nearest rounding is kept: no layer is worse than round to nearest on the
calibration data. How often that was needed is in the results.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.models.architecture import InputGroup
from benchsuite.models.replay import Repeated
from benchsuite.models.replicas import Reading
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.layers import Progress, stacked_rows
from benchsuite.quantizers.linear import quantized_linear
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.finite import infinite_inputs
from benchsuite.quantizers.walking.hessian import Hessian, error_norms
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.walking.precision import products_for_a_gradient
from benchsuite.quantizers.walking.visit import Visit
from benchsuite.quantizers.walking.walk import Turns, turn, walk

STRETCH, SHIFT = 1.2, -0.1
"""h may leave [0, 1] before it is clipped, so that it reaches both ends."""

ITERATIONS_PER_TURN = 20

PAPER_TRAVEL = 15_000 * 1e-3
"""Iterations times learning rate in the paper: about how far V can move."""


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to optimise; see the module's text."""

    iterations: int = 15_000
    learning_rate: float | None = None
    regularisation: float = 0.01
    b_start: float = 20.0
    b_end: float = 2.0
    warm_start: float = 0.2

    def __post_init__(self) -> None:
        if self.iterations < 1 or not 0 <= self.warm_start < 1 or self.regularisation < 0:
            raise UsageError(
                "AdaRound wants at least one iteration, a warm start in [0, 1) and a "
                f"regularisation of at least 0, not {self}",
                fix=f"leave them at their defaults: {type(self).__name__}()",
            )

    @property
    def step(self) -> float:
        """The learning rate; where none is given, V can move as far as in the paper."""
        return self.learning_rate or PAPER_TRAVEL / self.iterations

    def b(self, iteration: int) -> float | None:
        """Return the regulariser's exponent, None during the warm start."""
        warm = self.warm_start * self.iterations
        if iteration < warm:
            return None
        gone = (iteration - warm) / (self.iterations - warm)
        return self.b_end + (self.b_start - self.b_end) * (1 + math.cos(math.pi * gone)) / 2


def start_at(fraction: Tensor) -> Tensor:
    """Return V with h(V) = ``fraction`` in [0, 1)."""
    return -(STRETCH / (fraction - SHIFT) - 1).log()


def gradient(
    v: Tensor,
    base: Tensor,
    step: Tensor,
    hessian: Tensor,
    pull: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Return the loss' gradient by V, all [rows, columns], for W^ - W = base + step * h(V).

    ``pull`` is the regulariser's, b - 1 and lambda b 2^b, both [1]; None during the warm start.
    But for the product every line is limited by memory, hence PyTorch's own fused backward passes
    of the clip and the sigmoid, and |h - 1/2| in place of |2h - 1| / 2.
    """
    sigmoid = v.sigmoid()
    stretched = sigmoid.mul(STRETCH).add_(SHIFT)
    h = stretched.clamp(0, 1)
    with products_for_a_gradient(base):
        by_h = torch.addcmul(base, step, h) @ hessian
    by_h.mul_(step)
    if pull is not None:
        exponent, strength = pull
        side = h.sub_(0.5)
        by_h.sub_(side.abs().pow_(exponent).copysign_(side).mul_(strength))
    clipped = torch.ops.aten.hardtanh_backward(by_h, stretched, 0.0, 1.0)
    return torch.ops.aten.sigmoid_backward(clipped, sigmoid).mul_(STRETCH)


def learn(
    weight: Tensor, hessian: Tensor, scale: Tensor, zero: Tensor, max_code: int, plan: Schedule
) -> Generator[None, None, Tensor]:
    """Return the learned codes, float [rows, columns], of ``weight`` [rows, columns], in turns.

    ``hessian`` is [columns, columns]; ``scale`` and ``zero`` have the shape of ``weight``. A device
    takes about a thousand launches ahead: a host that sent it all iterations at once would wait
    there while other devices have nothing to do.
    """
    level = weight / scale
    low = level.floor()
    v = start_at(level - low)
    # Where one of the two neighbours lies outside the grid there is nothing to choose.
    free = (low >= -zero) & (low < max_code - zero)
    low = torch.minimum(torch.maximum(low, -zero), max_code - zero)
    base, step = low * scale - weight, scale * free
    v.grad = torch.empty_like(v)  # Stays where it is, for the graph.
    adam = torch.optim.Adam([v], lr=plan.step, fused=True, capturable=v.is_cuda)
    pull = v.new_empty(1), v.new_empty(1)

    def iterate(pull: tuple[Tensor, Tensor] | None) -> None:
        assert v.grad is not None
        v.grad.copy_(gradient(v, base, step, hessian, pull))
        adam.step()

    warm = Repeated(lambda: iterate(None), v.device)
    pulled = Repeated(lambda: iterate(pull), v.device)
    for iteration in range(plan.iterations):
        b = plan.b(iteration)
        if b is None:
            warm()
        else:
            pull[0].fill_(b - 1)
            pull[1].fill_(plan.regularisation * b * 2.0**b)
            pulled()
        if iteration % ITERATIONS_PER_TURN == 0:
            yield
    return low + zero + (free & (v >= 0))  # h(0) is a half


def better_rows(weight: Tensor, hessian: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Return the mask [rows] of rows where the weights ``other`` leave less error than ``one``."""
    errors = [((w - weight) @ hessian).mul_(w - weight).sum(1) for w in (one, other)]
    return errors[1] < errors[0]


@dataclass
class AdaRoundMethod:
    """AdaRound as the walk drives it; adds one line per linear to the account."""

    account: Account
    grid: QuantizationGrid
    plan: Schedule

    def statistic(self, here: Visit, group: InputGroup, device: torch.device) -> Hessian:
        """Return the Hessian that the group's linears share."""
        return Hessian(here.linears(group)[group.linears[0]].in_features, device)

    def quantize(self, here: Visit, group: InputGroup, statistic: Hessian) -> Turns:
        """Quantize the group's linears together."""
        where, linears, grid = f"{here.name}.{group.name}", here.linears(group), self.grid
        device, replaced = here.device_of(group), {}
        with self.account.timed(where, device):
            hessian = statistic.mean()  # [columns, columns]
            finite = Reading(torch.isfinite(hessian.sum(dtype=torch.float64))[None])
        yield
        if not finite.get()[0]:
            raise infinite_inputs(where)
        with self.account.timed(where, device):
            weight = torch.cat([linear.weight.detach().float() for linear in linears.values()])
            scales, zeros = grid.fit_groups(weight)
            n_columns = weight.shape[1]
            scale, zero = grid.spread(scales, n_columns), grid.spread(zeros, n_columns)
        learning, learned = learn(weight, hessian, scale, zero, grid.max_code, self.plan), None
        while learned is None:
            with self.account.timed(where, device), here.clock.measure("learn", device):
                learned = turn(learning)
            yield
        with self.account.timed(where, device):
            with here.clock.measure("compare", device):
                nearest = grid.encode(weight, scale, zero)
                choices = (grid.decode(codes, scale, zero) for codes in (learned, nearest))
                kept = better_rows(weight, hessian, *choices)
                codes = torch.where(kept[:, None], nearest, learned).to(torch.uint8)
            for path, linear, rows in stacked_rows(linears):
                parts = (codes[rows].contiguous(), scales[rows].contiguous(), zeros[rows])
                replaced[path] = quantized_linear(linear, grid, *parts)
                left = replaced[path].dequantize(torch.float32)
                self.account.add(
                    f"{here.name}.{path}",
                    group=where,
                    share=linear.out_features / len(codes),
                    norms=error_norms(linear.weight, left, hessian),
                    details={"rows_kept_nearest": kept[rows].float().mean()},
                )
        return replaced


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor,
    *,
    bits: int = 4,
    group_size: int = 128,
    sym: bool = True,
    iterations: int = 15_000,
    learning_rate: float | None = None,
    regularisation: float = 0.01,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Quantize every block linear of ``model`` with AdaRound, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len]. ``learning_rate`` is the paper's
    1e-3 at the paper's 15,000 iterations; shorter runs take as much larger steps unless it is
    given. Each layer's ``details`` hold ``rows_kept_nearest``, the share of its rows on which round
    to nearest was better and was kept.
    """
    grid = QuantizationGrid(bits, group_size, sym)
    account = Account(model)
    method = AdaRoundMethod(account, grid, Schedule(iterations, learning_rate, regularisation))
    return account.close(walk(model, batch, method, memory=memory, progress=progress))
