"""Layers whose inputs have drifted from the original model's, small and in float64."""

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchsuite.quantizers import gptq
from benchsuite.quantizers.gptq import Rounded, invert_panels, quantize_block, round_columns
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.walking.hessian import Drift, upper_factor

DAMP = 0.01


class Layer(NamedTuple):
    """A weight [rows, columns], the original inputs [tokens, columns] and those that there are."""

    weight: Tensor
    original: Tensor
    inputs: Tensor

    @property
    def drift(self) -> Drift:
        found = Drift(self.inputs.shape[1], "cpu", self.inputs.dtype)
        for part in range(3):
            found.update(self.inputs[part::3], self.original[part::3])
        return found

    @property
    def hessian(self) -> Tensor:
        return 2 * self.inputs.T @ self.inputs / len(self.inputs)

    @property
    def damped(self) -> Tensor:
        added = DAMP * self.hessian.diagonal().mean()
        return self.hessian + added * torch.eye(len(self.hessian), dtype=self.hessian.dtype)

    @property
    def factor(self) -> Tensor:
        return upper_factor(self.hessian, DAMP, "test").upper

    def objective(self, rounded: Tensor) -> float:
        """Return ||W X - W^ X~||^2."""
        return (self.original @ self.weight.T - self.inputs @ rounded.T).square().sum().item()


def layer(seed: int, rows: int = 6, columns: int = 24, drift: float = 0.3) -> Layer:
    """Return a layer whose inputs are the original ones and a mixture of them, plus noise."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    original = draw(8 * columns, columns) @ draw(columns, columns)
    moved = original @ draw(columns, columns) / columns**0.5 + original.std() * draw(
        8 * columns, columns
    )
    return Layer(draw(rows, columns), original, original + drift * moved)


def decoded(codes: Tensor, scales: Tensor, zeros: Tensor, grid: QuantizationGrid) -> Tensor:
    """Return the weights that codes [rows, columns] stand for."""
    n_columns = codes.shape[1]
    spread = (grid.spread(each, n_columns) for each in (scales, zeros))
    return grid.decode(codes.to(scales.dtype), *spread)


def ratios(grid: QuantizationGrid, one: Callable[..., Rounded], other: Callable[..., Rounded]):
    """Return over 20 layers the objective that ``one`` leaves over that of ``other``."""
    found = []
    for seed in range(20):
        case = layer(seed)
        left = [
            case.objective(decoded(r.codes, r.scales, r.zeros, grid))
            for r in (one(case, grid), other(case, grid))
        ]
        found.append(left[0] / left[1])
    return found


def by_gptq(case: Layer, grid: QuantizationGrid) -> Rounded:
    """Return what GPTQ makes of the layer, which knows nothing of the original inputs."""
    factor = case.factor
    panels = invert_panels(factor, grid.columns_per_group(len(factor)))
    work = case.weight.t().clone()
    return round_columns(work, factor, panels, grid, None, False, quantize_block)


def assert_gptq_where_nothing_drifted(ours: Callable[..., Rounded], dtype: torch.dtype) -> None:
    """Assert that inputs which are the original ones give GPTQ's codes and scales."""
    for seed in range(2):
        case = layer(seed, columns=140, drift=0.0)
        case = Layer(*(each.to(dtype) for each in case))
        for bits in (2, 3, 4):
            grid = QuantizationGrid(bits, 32)
            found, expected = ours(case, grid), by_gptq(case, grid)
            assert torch.equal(found.codes, expected.codes)
            assert torch.equal(found.scales, expected.scales)


def logits_off(method: ModuleType, make_model: Callable[[], nn.Module], tokens: Tensor) -> float:
    """Return how far a method's logits at 2 bits are from the model's, over how far GPTQ's are."""
    off = []
    with torch.no_grad():
        goal = make_model()(input_ids=tokens).logits
        for each in (method, gptq):
            model = make_model()
            each.quantize(model, tokens, bits=2, group_size=32, true_sequential=True)
            off.append((model(input_ids=tokens).logits - goal).norm().item())
    return off[0] / off[1]
