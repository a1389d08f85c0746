"""AWQ (Lin et al. 2023, arXiv 2306.00978): scale up the channels that matter, then round.

Where linears read a common input X, column j of their weights is multiplied by s_j and whatever
writes X is divided by it, which changes nothing but the rounding: important columns come out finer.

    s = mean|X|^r,  r in {0, 1/20, .., 19/20},  s = max(s, 1e-4) / sqrt(max(s) min(s))

r is the one whose rounded weights Q(W s) s^-1 leave the least squared error at the output of the
group's own module: the attention for q, k and v, the MLP for gate and up, the linear itself where
it is alone. 1/s goes into the norm before q/k/v and gate/up, the rows of v before o (if shapes are
equal) and the rows of up before down. Then each group of weights but those of q and k is clipped to
the share 1 - i/20, i < 10, of its largest weight that least disturbs the outputs of 512 tokens.
Asymmetric grid, groups of 128; 128 x 512 calibration tokens are usual.

As in the authors' code, all of a block is searched on its original weights and the next block is
calibrated on original outputs. Two errors are not measured by running the data 20 and 10 times but
by an equal sum: sum ||E x||^2 = tr(E (sum x x^T) E^T) for a linear's error E, and likewise inside
a clipping group. Nothing is random.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.models.architecture import InputGroup
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.hessian import Hessian, weighted_norm
from benchsuite.quantizers.linear import QuantizedLinear, model_digest, stored_bytes
from benchsuite.quantizers.result import LayerResult, QuantizationResult
from benchsuite.quantizers.walk import Progress, Visit, replace, walk_blocks

EXPONENTS = tuple(i / 20 for i in range(20))
CLIP_GRID = 20
CLIP_MAX_SHRINK = 0.5
CLIP_TOKENS = 512
NOT_CLIPPED = ("q_proj", "k_proj")
"""Their outputs multiply each other, so that an error of one alone says little (authors' code)."""

Call = tuple[tuple[Any, ...], dict[str, Any]]


class Inputs:
    """What AWQ wants to know of a group's inputs: mean |x|, H, and evenly spaced tokens."""

    def __init__(self, n_features: int, device: torch.device, n_tokens: int) -> None:
        self.hessian = Hessian(n_features, device)
        self._size = torch.zeros(n_features, device=device)
        self._stride = max(1, n_tokens // CLIP_TOKENS)
        self._tokens: list[Tensor] = []

    def update(self, inputs: Tensor) -> None:
        """Take in inputs [tokens, features]."""
        start = -self.hessian.n_vectors % self._stride
        self._tokens.append(inputs[start :: self._stride].float())
        self._size += inputs.abs().sum(0, dtype=torch.float32)
        self.hessian.update(inputs)

    def mean_size(self) -> Tensor:
        """Return mean |x| by channel, float32 [features]."""
        return self._size / self.hessian.n_vectors

    def tokens(self) -> Tensor:
        """Return the kept inputs, float32 [about 512, features]."""
        return torch.cat(self._tokens)


def channel_scales(mean_size: Tensor, exponent: float) -> Tensor:
    """Return s [features] for one exponent: centred so that its extremes multiply to 1."""
    scales = mean_size.pow(exponent).clamp(min=1e-4)
    return scales / (scales.max() * scales.min()).sqrt()


def rounded(weight: Tensor, grid: QuantizationGrid) -> Tensor:
    """Return ``weight`` [out, in] rounded to nearest on its own grid, dequantized, float32.

    Its groups are whole: scales broadcast over a group instead of being spread over columns.
    """
    groups = weight.float().unflatten(1, (-1, grid.columns_per_group(weight.shape[1])))
    scale, zero = (parameter.unsqueeze(-1) for parameter in grid.fit(groups))
    return grid.decode(grid.encode(groups, scale, zero), scale, zero).flatten(1)


def candidate(weight: Tensor, scales: Tensor, grid: QuantizationGrid) -> Tensor:
    """Return Q(W s) s^-1, float32 [out, in]."""
    return rounded(weight.float() * scales, grid).div_(scales)


def output_error(
    module: nn.Module, calls: list[Call], goals: list[Tensor], weights: dict[str, Tensor]
) -> Tensor:
    """Return the squared error, a scalar, of ``module`` run with other ``weights`` by name."""
    total = torch.zeros((), device=goals[0].device)
    for (args, kwargs), goal in zip(calls, goals, strict=True):
        got = _first(functional_call(module, weights, args, kwargs))
        total += (got.float() - goal).square_().sum()
    return total


def _first(outputs: Any) -> Tensor:
    return outputs[0] if isinstance(outputs, tuple) else outputs


def best_clip(weight: Tensor, tokens: Tensor, grid: QuantizationGrid) -> tuple[Tensor, Tensor]:
    """Search each group's clipping range for ``weight`` [out, in] on ``tokens`` [n, in].

    Returns (the clipped weight, the share of its largest weight that each group keeps
    [out, groups]). The error of a group is that of its own part of the output, as if the others
    were exact: e^T (sum x x^T) e with its columns of x alone.
    """
    n_out, n_in = weight.shape
    shape = (n_out, grid.n_groups(n_in), grid.columns_per_group(n_in))
    groups, parts = weight.reshape(shape), tokens.reshape(len(tokens), *shape[1:]).transpose(0, 1)
    moments = parts.transpose(1, 2) @ parts
    largest = groups.abs().amax(-1, keepdim=True)
    least = torch.full(shape[:2], float("inf"), device=weight.device)
    share = torch.ones_like(least)
    for step in range(int(CLIP_MAX_SHRINK * CLIP_GRID)):
        keep = 1 - step / CLIP_GRID
        clipped = torch.minimum(torch.maximum(groups, -keep * largest), keep * largest)
        scale, zero = (p.unsqueeze(-1) for p in grid.fit(clipped))
        error = grid.decode(grid.encode(clipped, scale, zero), scale, zero).sub_(groups)
        by_group = error.transpose(0, 1)
        total = (by_group @ moments).mul_(by_group).sum(-1).t()
        better = total < least
        least = torch.where(better, total, least)
        share = share.masked_fill(better, keep)
    limit = share.unsqueeze(-1) * largest
    return torch.minimum(torch.maximum(groups, -limit), limit).reshape(n_out, n_in), share


@dataclass(frozen=True)
class Choice:
    """A group's scales [features], whether its source divides by them (else they are 1), and how
    they were found."""

    scales: Tensor
    folded: bool
    details: Mapping[str, float]


class AwqBlocks:
    """AWQ as the walk drives it, block by block; collects one account per linear."""

    def __init__(self, model: nn.Module, n_tokens: int, grid: QuantizationGrid, clip: bool) -> None:
        self.grid, self.clip, self._n_tokens = grid, clip, n_tokens
        config: Any = model.config
        # A positive factor passes a ReLU; no other activation of an ungated MLP lets it through.
        self._relu = getattr(config, "activation_function", "relu") == "relu"
        self._accounts: list[tuple[str, Tensor, Tensor, Mapping[str, Any]]] = []

    def visit(self, here: Visit) -> None:
        """Quantize one block."""
        linears = {group.name: here.linears(group) for group in here.groups}
        self._check(here, linears)
        inputs = {
            group.name: Inputs(first.in_features, first.weight.device, self._n_tokens)
            for group in here.groups
            for first in [linears[group.name][group.linears[0]]]
        }
        with _recorded(here) as calls:
            watched = [(group.linears[0], inputs[group.name]) for group in here.groups]
            here.collect(watched, advance=True)
        hessians = {name: statistic.hessian.mean() for name, statistic in inputs.items()}
        choices = {}
        for group in here.groups:
            with here.clock.measure("scales"):
                choices[group.name] = self._choose(
                    here, group, linears[group.name], inputs[group.name], hessians, calls
                )
        del calls
        folded = {g.source: g.name for g in here.groups if g.source and choices[g.name].folded}
        for source, name in folded.items():
            module = here.block.get_submodule(source)
            if not isinstance(module, nn.Linear):
                choices[name] = _fold(module, choices[name])
        for group in here.groups:
            choice = choices[group.name]
            tokens = inputs.pop(group.name).tokens() / choice.scales
            hessian = hessians.pop(group.name)
            for path, linear in linears[group.name].items():
                rows = choices[folded[path]].scales if path in folded else None
                self._replace(here, path, linear, choice, rows, tokens, hessian)

    def _check(self, here: Visit, linears: Mapping[str, Mapping[str, nn.Linear]]) -> None:
        for group in linears.values():
            for path, linear in group.items():
                if linear.in_features % self.grid.columns_per_group(linear.in_features):
                    raise UsageError(
                        f"AWQ's groups of {self.grid.group_size} do not divide the "
                        f"{linear.in_features} inputs of {here.name}.{path}",
                        fix="choose a group_size that divides them, or -1 for whole rows",
                    )

    def _can_fold(self, here: Visit, group: InputGroup, linears: Mapping[str, nn.Linear]) -> bool:
        if group.source is None:
            return False
        source = here.block.get_submodule(group.source)
        if not isinstance(source, nn.Linear):
            return True
        ungated = any(g.linears == (group.source,) for g in here.groups)
        same_width = source.out_features == linears[group.linears[0]].in_features
        return same_width and (self._relu or not ungated)

    def _choose(
        self,
        here: Visit,
        group: InputGroup,
        linears: Mapping[str, nn.Linear],
        inputs: Inputs,
        hessians: Mapping[str, Tensor],
        calls: Mapping[str, list[Call]],
    ) -> Choice:
        mean_size = inputs.mean_size()
        if not self._can_fold(here, group, linears):
            return Choice(torch.ones_like(mean_size), False, {})
        parent = group.linears[0].rpartition(".")[0]
        alone = len(group.linears) == 1
        module = here.block.get_submodule(group.linears[0] if alone else parent)
        heard = [] if alone else calls[parent]
        goals = [_first(module(*args, **kwargs)).float() for args, kwargs in heard]
        errors = []
        for exponent in EXPONENTS:
            scales = channel_scales(mean_size, exponent)
            tried = {p: candidate(m.weight, scales, self.grid) for p, m in linears.items()}
            if alone:
                weight = linears[group.linears[0]].weight
                error = weighted_norm(tried[group.linears[0]] - weight, hessians[group.name])
            else:
                weights = {
                    f"{path[len(parent) + 1 :]}.weight": tried[path].to(linear.weight.dtype)
                    for path, linear in linears.items()
                }
                error = output_error(module, heard, goals, weights)
            errors.append(error)
        found = torch.stack(errors).nan_to_num(float("inf"), float("inf")).tolist()
        best = min(range(len(found)), key=found.__getitem__)
        if found[best] == float("inf"):
            raise BenchsuiteError(
                "no scaling leaves a finite output error",
                f"{here.name}.{group.name}",
                "the model's activations overflow on this calibration data: load it in bfloat16 or "
                "float32",
            )
        details = {"exponent": EXPONENTS[best], "search_gain": found[best] / max(found[0], 1e-30)}
        return Choice(channel_scales(mean_size, EXPONENTS[best]), True, details)

    def _replace(
        self,
        here: Visit,
        path: str,
        linear: nn.Linear,
        choice: Choice,
        rows: Tensor | None,
        tokens: Tensor,
        hessian: Tensor,
    ) -> None:
        original, bias = linear.weight.float(), linear.bias
        weight: Tensor = original * choice.scales
        if rows is not None:
            weight /= rows[:, None]
            bias = None if bias is None else nn.Parameter((bias.float() / rows).to(bias.dtype))
        details: dict[str, Any] = dict(choice.details)
        if self.clip and path.rpartition(".")[2] not in NOT_CLIPPED:
            with here.clock.measure("clip"):
                weight, share = best_clip(weight, tokens, self.grid)
                details["clipped_groups"] = (share < 1).float().mean()
        with here.clock.measure("pack"):
            codes, scales, zeros = self.grid.round_weight(weight)
            packed = QuantizedLinear(
                codes,
                scales.to(self.grid.scale_dtype),
                None if self.grid.sym else zeros,
                bits=self.grid.bits,
                group_size=self.grid.group_size,
                bias=bias,
                dtype=linear.weight.dtype,
            )
            replace(here.block, path, packed)
        with here.clock.measure("error"):
            effective = packed.dequantize(torch.float32) / choice.scales
            if rows is not None:
                effective *= rows[:, None]
            error = weighted_norm(effective - original, hessian)
            account = (f"{here.name}.{path}", error, weighted_norm(original, hessian), details)
        self._accounts.append(account)

    def results(self) -> list[LayerResult]:
        """Return the accounts of all linears so far (waits for the device)."""
        return [
            LayerResult(
                name=name,
                error=float(error),
                relative_error=float(error / reference.clamp(min=1e-30)),
                details={key: float(value) for key, value in details.items()},
            )
            for name, error, reference, details in self._accounts
        ]


@contextmanager
def _recorded(here: Visit) -> Iterator[dict[str, list[Call]]]:
    """Record the calls of the modules that contain the block's input groups, by path."""
    parents = {g.linears[0].rpartition(".")[0] for g in here.groups if len(g.linears) > 1}
    calls: dict[str, list[Call]] = {parent: [] for parent in parents}
    handles = [
        here.block.get_submodule(parent).register_forward_pre_hook(
            lambda module, args, kwargs, heard=heard: heard.append((args, kwargs)),
            with_kwargs=True,
        )
        for parent, heard in calls.items()
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _fold(norm: nn.Module, choice: Choice) -> Choice:
    """Divide a norm by the scales, in fresh parameters.

    Returns the scales that the stored, rounded norm was really divided by.
    """
    weight: Any = norm.weight
    divided = (weight.float() / choice.scales).to(weight.dtype)
    exact = weight.float() / divided.float()
    exact = torch.where(torch.isfinite(exact) & (exact > 0), exact, choice.scales)
    norm.weight = nn.Parameter(divided, requires_grad=False)
    if getattr(norm, "bias", None) is not None:
        bias: Any = norm.bias
        norm.bias = nn.Parameter((bias.float() / exact).to(bias.dtype), requires_grad=False)
    return Choice(exact, True, choice.details)


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor,
    *,
    bits: int = 4,
    group_size: int = 128,
    sym: bool = False,
    clip: bool = True,
    scale_dtype: torch.dtype = torch.float16,
    tokens_per_step: int | None = None,
    budget_bytes: int | None = None,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Quantize every block linear of ``model`` with AWQ, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len]. ``clip`` searches clipping
    ranges. Norms (and biases of rescaled linears) are replaced by rescaled copies. Each layer's
    ``details`` hold the ``exponent`` r, the ``search_gain`` (output error at r over that at 0) and
    the share of ``clipped_groups``; its error is that of the scaled and rescaled weight.
    """
    grid = QuantizationGrid(bits, group_size, sym, scale_dtype=scale_dtype)
    method = AwqBlocks(model, batch.numel(), grid, clip)
    size_before = stored_bytes(model)
    seconds = walk_blocks(
        model,
        batch,
        method.visit,
        tokens_per_step=tokens_per_step,
        budget_bytes=budget_bytes,
        progress=progress,
    )
    return QuantizationResult(
        layers=method.results(),
        weights_sha256=model_digest(model),
        size_before_bytes=size_before,
        size_after_bytes=stored_bytes(model),
        stage_seconds=seconds,
    )
