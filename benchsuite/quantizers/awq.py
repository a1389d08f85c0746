"""AWQ (Lin et al. 2023, arXiv 2306.00978): scale up the channels that matter, then round.

Where linears read a common input X, column j of their weights is multiplied by s_j and whatever
writes X is divided by it, which changes nothing but the rounding: important columns come out finer.

    s = mean|X|^r,  r in {0, 1/20, .., 19/20},  s = max(s, 1e-4) / sqrt(max(s) min(s))

r is the one whose rounded weights Q(W s) s^-1 leave the least squared error at the output of the
group's own module. That is the attention for q, k and v, the MLP for gate and up, and the linear
itself where it is alone. 1/s goes into the norm before q/k/v and gate/up, the rows of v before o
(if shapes are equal) and the rows of up before down. Then each group of weights but those of q and
k is clipped to the share 1 - i/20, i < 10, of its largest weight that least disturbs the outputs of
512 tokens. Asymmetric grid, groups of 128; 128 x 512 calibration tokens are usual. The searches are
in `awq_search`.

As in the authors' code, all of a block is searched on its original weights and the next block is
calibrated on original outputs. Two errors are not measured by running the data 20 and 10 times but
by an equal sum: sum ||E x||^2 = tr(E (sum x x^T) E^T) for a linear's error E, and likewise inside
a clipping group. Nothing is random.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.errors import BenchsuiteError
from benchsuite.models.architecture import InputGroup
from benchsuite.models.replicas import Reading
from benchsuite.quantizers import awq_search
from benchsuite.quantizers.awq_search import (
    Call,
    Heard,
    best_clip,
    channel_scales,
    linear_errors,
    module_errors,
)
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.layers import Progress, divide_norm
from benchsuite.quantizers.linear import QuantizedLinear, quantized_linear
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.finite import infinite_inputs
from benchsuite.quantizers.walking.hessian import Hessian, error_norms
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.walking.visit import Visit
from benchsuite.quantizers.walking.walk import walk_blocks

CLIP_TOKENS = 512
NOT_CLIPPED = ("q_proj", "k_proj", "qkv_proj")
"""Their outputs multiply each other, so that an error of one alone says little (authors' code)."""


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
        self._tokens.append(inputs[start :: self._stride].to(torch.float32, copy=True))
        self._size += inputs.abs().sum(0, dtype=torch.float32)
        self.hessian.update(inputs)

    def merge(self, later: "Inputs") -> None:
        """Take in what another one was given of later tokens, on whatever device."""
        self._size += later._size.to(self._size.device)
        self._tokens += [tokens.to(self._size.device) for tokens in later._tokens]
        self.hessian.merge(later.hessian)

    def to(self, device: torch.device) -> "Inputs":
        """Return the same on another device."""
        moved = copy(self)
        moved.hessian, moved._size = self.hessian.to(device), self._size.to(device)
        moved._tokens = [tokens.to(device) for tokens in self._tokens]
        return moved

    def mean_size(self) -> Tensor:
        """Return mean |x| by channel, float32 [features]."""
        return self._size / self.hessian.n_vectors

    def tokens(self) -> Tensor:
        """Return the kept inputs, float32 [about 512, features]."""
        return torch.cat(self._tokens)


@dataclass(frozen=True)
class Choice:
    """A group's scales [features], whether its source divides by them (else they are 1), and how
    they were found."""

    group: InputGroup
    scales: Tensor
    folded: bool
    details: Mapping[str, float]


class AwqBlocks:
    """AWQ as the walk drives it, block by block; adds one line per linear to the account."""

    def __init__(
        self, account: Account, model: nn.Module, n_tokens: int, grid: QuantizationGrid, clip: bool
    ) -> None:
        self.account, self.grid, self.clip, self._n_tokens = account, grid, clip, n_tokens
        config: Any = model.config
        # A positive factor passes a ReLU; no other activation of an ungated MLP lets it through.
        self._relu = getattr(config, "activation_function", "relu") == "relu"

    def visit(self, here: Visit) -> None:
        """Quantize one block: listen to it, choose all scales, fold them, round its linears."""
        linears = {group.name: here.linears(group) for group in here.groups}
        fresh = {}
        for group in here.groups:
            n_features = linears[group.name][group.linears[0]].in_features
            fresh[group.name] = partial(Inputs, n_features, n_tokens=self._n_tokens)
        lanes: dict[int, Heard] = {}
        inputs = here.collect(fresh, advance=True, around=partial(_recorded, here, lanes))
        heard = [lanes[number] for number in sorted(lanes)]
        hessians = {name: statistic.hessian.mean() for name, statistic in inputs.items()}
        searches = []
        for group in here.groups:
            own = (linears[group.name], inputs[group.name], hessians[group.name])
            searches.append(self._search(here, group, *own, heard))
        choices = {choice.group.name: choice for choice in (search() for search in searches)}
        del heard, lanes, searches
        folded = {c.group.source: c for c in choices.values() if c.group.source and c.folded}
        for source, choice in folded.items():
            if not isinstance(here.block.get_submodule(source), nn.Linear):
                scales = divide_norm(
                    here.block, choice.group, choice.scales.to(here.devices[0])
                ).to(choice.scales.device)
                choices[choice.group.name] = dataclasses.replace(choice, scales=scales)
        made = []
        for group in here.groups:
            choice = choices[group.name]
            tokens = inputs.pop(group.name).tokens() / choice.scales
            hessian = hessians.pop(group.name)
            for path, linear in linears[group.name].items():
                rows = None
                if path in folded:
                    reader = choices[folded[path].group.name]
                    rows = _rows(reader.scales.to(hessian.device), reader.group.source_parts)
                packed = self._rounded(here, path, linear, choice, rows, tokens, hessian)
                made.append((group, path, packed))
        for group, path, packed in made:
            here.put(group, path, packed)

    def _can_fold(self, here: Visit, group: InputGroup, linears: Mapping[str, nn.Linear]) -> bool:
        """Tell whether what writes the group's input can be divided by the scales."""
        if group.source is None:
            return False
        source = here.block.get_submodule(group.source)
        if not isinstance(source, nn.Linear):
            return source.weight is not None  # Galactica's norms have none
        parts = group.source_parts
        ungated = parts == 1 and any(g.linears == (group.source,) for g in here.groups)
        same_width = source.out_features == parts * linears[group.linears[0]].in_features
        return same_width and (self._relu or not ungated)

    def _search(
        self,
        here: Visit,
        group: InputGroup,
        linears: Mapping[str, nn.Linear],
        inputs: Inputs,
        hessian: Tensor,
        heard: Sequence[Heard],
    ) -> Callable[[], Choice]:
        """Start the search of a group's scales, on the block's original weights.

        What is returned waits for it, so that all groups' searches are started before.
        """
        where, mean_size = f"{here.name}.{group.name}", inputs.mean_size()
        foldable = self._can_fold(here, group, linears)
        errors = torch.zeros(len(awq_search.EXPONENTS), device=mean_size.device)
        with here.clock.measure("scales", here.device_of(group)):
            if foldable and group.module is None:
                (linear,) = linears.values()
                errors = linear_errors(linear, hessian, mean_size, self.grid)
            elif foldable and group.module is not None:
                errors = module_errors(heard, group.module, list(linears), mean_size, self.grid)
        told = Reading(torch.cat([mean_size.sum(dtype=torch.float64)[None], errors.double()]))

        def choose() -> Choice:
            size, *found = told.get()
            if not math.isfinite(size):
                raise infinite_inputs(where)
            if not foldable:
                return Choice(group, torch.ones_like(mean_size), False, {})
            best = min(range(len(found)), key=found.__getitem__)
            if found[best] == float("inf"):
                raise BenchsuiteError(
                    "no scaling leaves a finite output error",
                    where,
                    "the model's activations overflow on this calibration data: load it in "
                    "bfloat16 or float32",
                )
            exponent = awq_search.EXPONENTS[best]
            details = {
                "exponent": exponent,
                "search_gain": found[best] / max(found[0], 1e-30),
            }
            return Choice(group, channel_scales(mean_size, exponent), True, details)

        return choose

    def _rounded(
        self,
        here: Visit,
        path: str,
        linear: nn.Linear,
        choice: Choice,
        rows: Tensor | None,
        tokens: Tensor,
        hessian: Tensor,
    ) -> QuantizedLinear:
        """Scale, clip and round one linear; ``rows`` [out] are divided by what its readers took."""
        device = hessian.device
        original, bias = linear.weight.float(), linear.bias
        weight: Tensor = original * choice.scales
        if rows is not None:
            weight /= rows[:, None]
            bias = None if bias is None else nn.Parameter((bias.float() / rows).to(bias.dtype))
        details: dict[str, Tensor | float] = dict(choice.details)
        if self.clip and path.rpartition(".")[2] not in NOT_CLIPPED:
            with here.clock.measure("clip", device):
                weight, share = best_clip(weight, tokens, self.grid)
                details["clipped_groups"] = (share < 1).float().mean()
        with here.clock.measure("pack", device):
            parts = self.grid.round_weight(weight)
            packed = quantized_linear(linear, self.grid, *parts, bias=bias)
        with here.clock.measure("error", device):
            effective = packed.dequantize(torch.float32) / choice.scales
            if rows is not None:
                effective *= rows[:, None]
            norms = error_norms(original, effective, hessian)
        self.account.add(f"{here.name}.{path}", norms=norms, details=details)
        return packed


@contextmanager
def _recorded(
    here: Visit, lanes: dict[int, Heard], number: int, block: nn.Module
) -> Iterator[None]:
    """Record the calls of the modules that contain the block's input groups, for one lane."""
    parents = {group.module for group in here.groups if group.module is not None}
    calls: dict[str, list[Call]] = {parent: [] for parent in parents}
    lanes[number] = Heard(block, here.lanes[number].device, calls)
    handles = [
        block.get_submodule(parent).register_forward_pre_hook(
            lambda module, args, kwargs, heard=heard: heard.append((args, kwargs)),
            with_kwargs=True,
        )
        for parent, heard in calls.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(scales: Tensor, parts: int) -> Tensor:
    """Return what the rows [parts x n] of a source are divided by: the last part by scales [n]."""
    return torch.cat([*[torch.ones_like(scales)] * (parts - 1), scales])


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
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Quantize every block linear of ``model`` with AWQ, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len]. ``clip`` searches clipping
    ranges. Norms (and biases of rescaled linears) are replaced by rescaled copies. Each layer's
    ``details`` hold the ``exponent`` r, the ``search_gain`` (output error at r over that at 0) and
    the share of ``clipped_groups``; its error is that of the scaled and rescaled weight.
    """
    grid = QuantizationGrid(bits, group_size, sym, scale_dtype=scale_dtype)
    account = Account(model)
    method = AwqBlocks(account, model, batch.numel(), grid, clip)
    return account.close(walk_blocks(model, batch, method.visit, memory=memory, progress=progress))
