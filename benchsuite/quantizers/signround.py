"""SignRound, AutoRound's method (Cheng et al. 2023, arXiv 2309.05516): rounding by signed gradient.

Of each block the roundings of all linears are learned together. A weight becomes

    W~ = s (clip(round(W / s + V) + z, 0, 2^bits - 1) - z),   V in [-1/2, 1/2],

its group's range [low, high] first shrunk to [b low, a high], a and b in [0, 1]. On a symmetric
grid z = 2^(bits-1), and the scale has a sign, as in AutoRound's code: the end farther from 0 takes
code 0, so that no code is spared and a step is the 2^(bits-1)th part of that end. Rounding counts
as the identity in gradients. What is made small is the mean squared distance of the block's
outputs: of the rounded block on what the rounded blocks before it put out, from the original block
on what the original ones do. Each step draws ``batch_size`` samples, and every parameter moves
against the sign of its gradient by a step that falls from 1 / steps to nothing on a line. V begins
at 0 and a and b at 1, which is rounding to nearest. The parameters of the least loss that was seen
are kept. Scales are rounded to half precision in the forward too, as they will be stored.

A mixture runs as it is routed: an expert that no sample reaches stays rounded to nearest.
"""

import math
from collections.abc import Mapping
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchsuite.models.experts import Experts
from benchsuite.models.replay import Repeated
from benchsuite.quantizers.grid import SMALLEST_HALF, QuantizationGrid
from benchsuite.quantizers.layers import Progress, group_linears, replace
from benchsuite.quantizers.linear import QuantizedLinear, quantized_linear
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.finite import refuse_infinite_outputs
from benchsuite.quantizers.walking.hidden_states import WorkingMemory
from benchsuite.quantizers.walking.visit import Visit
from benchsuite.quantizers.walking.walk import check_batch, walk_blocks


def _straight(value: Tensor, x: Tensor) -> Tensor:
    """Return ``value``, a rounding of x, to the last bit, with the gradient of x."""
    return value.detach() + (x - x.detach())


class LearnedLinear(nn.Module):
    """A linear while its rounding is learned: ``offset`` V [out, in], ``high`` a and ``low`` b
    [out, groups], all float32."""

    def __init__(self, linear: nn.Linear, grid: QuantizationGrid) -> None:
        super().__init__()
        self.grid, self.weight = grid, linear.weight.detach()
        self.bias = None if linear.bias is None else linear.bias.detach()
        n_out, n_in = self.weight.shape
        groups = grid.whole_groups(self.weight.float())
        self.range = (groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0))
        device = self.weight.device
        self.offset = nn.Parameter(torch.zeros(n_out, n_in, device=device))
        self.low = nn.Parameter(torch.ones(n_out, grid.n_groups(n_in), device=device))
        self.high = nn.Parameter(torch.ones_like(self.low))

    @staticmethod
    def bounds() -> tuple[tuple[float, float], ...]:
        """Return the bounds of V, b and a, in the order of the parameters."""
        return (-0.5, 0.5), (0.0, 1.0), (0.0, 1.0)

    def scales(self) -> tuple[Tensor, Tensor]:
        """Return scales and zero points [out, groups] as they are now, float32."""
        grid = self.grid
        low, high = self.range[0] * self.low, self.range[1] * self.high
        empty = (low == 0) & (high == 0)
        low, high = low.masked_fill(empty, -1), high.masked_fill(empty, 1)
        middle = (grid.max_code + 1) // 2
        step = torch.maximum(high, -low) / middle if grid.sym else (high - low) / grid.max_code
        step = _straight(step.to(grid.scale_dtype).float(), step).clamp(min=SMALLEST_HALF)
        if grid.sym:
            return torch.where(high < -low, step, -step), torch.full_like(step, middle)
        exact = -low / step
        return step, _straight(exact.round(), exact).clamp(0, grid.max_code)

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes [out, in], scales and zero points [out, groups] as they are now, float32."""
        (scale, zero), n_in = self.scales(), self.weight.shape[1]
        exact = self.weight.float() / self.grid.spread(scale, n_in) + self.offset
        codes = _straight(exact.round(), exact) + self.grid.spread(zero, n_in)
        return codes.clamp(0, self.grid.max_code), scale, zero

    def rounded(self) -> Tensor:
        """Return the rounded weight [out, in] in the linear's dtype, with its gradients."""
        if _has_kernels(self.weight):
            from benchsuite.quantizers import signround_kernel

            width = self.grid.columns_per_group(self.weight.shape[1])
            return signround_kernel.rounded(
                self.weight, self.offset, *self.scales(), width=width, max_code=self.grid.max_code
            )
        (codes, scale, zero), n_in = self.parts(), self.weight.shape[1]
        weight = (codes - self.grid.spread(zero, n_in)) * self.grid.spread(scale, n_in)
        return weight.to(self.weight.dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [..., out] for inputs [..., in], by the rounded weight."""
        return F.linear(inputs, self.rounded(), self.bias)

    @torch.no_grad()
    def packed(self, linear: nn.Linear) -> QuantizedLinear:
        """Return the layer that replaces ``linear``."""
        codes, scale, zero = self.parts()
        return quantized_linear(linear, self.grid, codes.to(torch.uint8), scale, zero)


def _has_kernels(weight: Tensor) -> bool:
    return weight.is_cuda and weight.dtype != torch.float64 and find_spec("triton") is not None


class Learning:
    """The roundings of one block while they are learned, step by step.

    ``goal`` [n_samples, seq_len, width] is what the original block puts out; ``order`` [steps,
    samples] says which of them each step is given. All that a step changes stays on the device, so
    that the host need not wait for it and a GPU can repeat it as a graph.
    """

    def __init__(
        self, here: Visit, learned: Mapping[str, LearnedLinear], goal: Tensor, order: Tensor
    ) -> None:
        (self._lane,) = here.lanes
        self._here, self._goal = here, goal
        device, steps = self._lane.device, len(order)
        self._order = order.to(self._lane.states.device)
        self._sizes = torch.tensor([(1 - step / steps) / steps for step in range(steps)])
        self._sizes = self._sizes.to(device)
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self.first, self.least = (torch.full((1,), math.inf, device=device) for _ in "ab")
        self._moving = [p for one in learned.values() for p in one.parameters()]
        self._kept = [p.detach().clone() for p in self._moving]
        self._bounds = [bound for one in learned.values() for bound in one.bounds()]

    def run(self) -> None:
        """Do all steps; leave the parameters of the least loss, in ``least``."""
        device, block = self._lane.device, self._here.block
        # A graph reads what lies on the GPU, and cannot follow where a mixture sends tokens.
        here = {self._lane.states.device, self._goal.device} == {device}
        mixed = any(isinstance(module, Experts) for module in block.modules())
        step = Repeated(self.step, device) if here and not mixed else self.step
        for _ in range(len(self._order)):
            step()
        del step
        if device.type == "cuda":
            torch.cuda.empty_cache()  # A graph's memory serves no other; the next has its own.
        for parameter, kept in zip(self._moving, self._kept, strict=True):
            parameter.copy_(kept)

    def step(self) -> None:
        """Do one step: a loss, its gradients, and a move against their signs."""
        samples = self._order.index_select(0, self._step.to(self._order.device))[0]
        with torch.enable_grad():
            got = self._lane.run(self._here.block, self._here.index, samples)
            wanted = self._goal[samples.to(self._goal.device)].to(got.device)
            loss = F.mse_loss(got.float(), wanted.float())
            # Of what is learned alone: the model's own parameters are to have no gradients.
            gradients = torch.autograd.grad(loss, self._moving, allow_unused=True)
        loss = loss.detach()[None]
        better, size = loss < self.least, self._sizes.index_select(0, self._step)
        self.first.copy_(torch.where(self._step == 0, loss, self.first))
        self.least.copy_(torch.where(better, loss, self.least))
        for parameter, gradient, kept, bounds in zip(
            self._moving, gradients, self._kept, self._bounds, strict=True
        ):
            _move(parameter, gradient, kept, better, size, *bounds)
        self._step.add_(1)


def _move(
    parameter: Tensor,
    gradient: Tensor | None,
    kept: Tensor,
    better: Tensor,
    size: Tensor,
    least: float,
    most: float,
) -> None:
    """Keep what a parameter is if it is ``better``, then move it against its gradient's sign.

    An expert that no token was sent has no gradient.
    """
    if gradient is not None and _has_kernels(parameter):
        from benchsuite.quantizers import signround_kernel

        signround_kernel.move(parameter, gradient, kept, better, size, least, most)
        return
    kept.copy_(torch.where(better, parameter, kept))
    if gradient is not None:
        parameter.sub_(gradient.sign() * size).clamp_(least, most)


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor,
    *,
    bits: int = 4,
    group_size: int = 128,
    sym: bool = True,
    steps: int = 200,
    batch_size: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Quantize every block linear of ``model`` with learned rounding, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len]; ``seed`` draws the samples of
    each step. A layer's ``details`` have its block's ``first_loss``, of rounding to nearest, and
    the ``least_loss``, both of a step's samples.
    """
    check_batch(batch)
    account, grid = Account(model), QuantizationGrid(bits, group_size, sym)
    generator = torch.Generator().manual_seed(seed)
    size = min(batch_size, len(batch))

    def visit(here: Visit) -> None:
        (original,) = here.originals
        linears: dict[str, nn.Linear] = {}
        for group in here.groups:
            linears |= group_linears(here.block, group, here.name)
        with here.clock.measure("learn"):
            # In the GPU's memory where it fits: every step reads some of it.
            like = original.states
            goal = memory.allocate(tuple(like.shape), like.dtype, original.device)
            for part in original.slices():
                goal[part] = original.run(here.block, here.index, part)
            refuse_infinite_outputs(goal, here.name)
            learned = {path: LearnedLinear(linear, grid) for path, linear in linears.items()}
            for path, one in learned.items():
                replace(here.block, path, one)
            drawn = [torch.randperm(len(goal), generator=generator)[:size] for _ in range(steps)]
            learning = Learning(here, learned, goal, torch.stack(drawn))
            learning.run()
            for path, linear in linears.items():
                replace(here.block, path, learned[path].packed(linear))
        details = {"first_loss": learning.first, "least_loss": learning.least}
        for path in linears:
            account.add(f"{here.name}.{path}", details=details)

    # Micro-batches of one step's samples, so that masks and positions fit them.
    memory = WorkingMemory(tokens_per_step=size * batch.shape[1], lanes=1)
    seconds = walk_blocks(
        model, batch, visit, beside_original=True, memory=memory, progress=progress
    )
    return account.close(seconds)
