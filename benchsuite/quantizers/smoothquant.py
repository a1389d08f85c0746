"""SmoothQuant (Xiao et al. 2023, arXiv 2211.10438): W8A8 with outliers moved into the weights.

A few channels of a norm's output are far larger than the rest, and a scale per token must cover
them. Dividing channel j by

    s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)

and multiplying column j of the weights that read it by s_j leaves their product as it was and both
sides easier to round. The division is free: it goes into the norm's own weight (and bias). It is
applied where a norm feeds linears: before q/k/v and before fc1, or gate and up.

Then every linear of every block runs in 8-bit integers: weights per output channel, activations per
token with scales taken from the token itself, both symmetric. Defaults are the paper's and its
repository's: max|W_j| and s_j at least 1e-5, and the alphas of `ALPHA`. A channel that is silent
in the calibration data has no outlier to move and keeps s_j = 1; where the norm's own weight could
not be divided by s_j in its dtype, s_j is the least that it can be divided by.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.models.architecture import InputGroup, architecture_of
from benchsuite.quantizers.formats.int8 import Int8Linear
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.layers import Progress, divide_norm
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.finite import refuse_infinite_inputs
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.walking.largest import Largest
from benchsuite.quantizers.walking.visit import Visit
from benchsuite.quantizers.walking.walk import walk_blocks

ALPHA = {"opt": 0.5, "opt_post_norm": 0.5, "mistral": 0.8, "mixtral": 0.8, "llama": 0.85}
"""Smoothing strength by architecture, from the paper (OPT) and its repository's table."""

LARGE_LLAMA_ALPHA, LARGE_LLAMA_BLOCKS = 0.9, 80
"""What the repository's table has for Llama-2-70B, known by its number of blocks."""

OTHER_ALPHA = 0.85
"""For architectures that the source does not name: our choice, Llama's value."""

SMALLEST = 1e-5


class ChannelMaximum(Largest):
    """max|X_j| over all tokens seen, float32 [features]."""

    def __init__(self, n_features: int, device: torch.device) -> None:
        self.value = torch.zeros(n_features, device=device)

    def update(self, inputs: Tensor) -> None:
        """Take in inputs [tokens, features]."""
        torch.maximum(self.value, inputs.abs().amax(0).float(), out=self.value)


def smoothing_scale(maximum: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    """Return s, float32 [features], for inputs of ``maximum`` [features], weights [out, features].

    The weights share the input, so that max|W_j| is taken over all of them.
    """
    largest = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0).float()
    scale = maximum.pow(alpha) / largest.clamp(min=SMALLEST).pow(1 - alpha)
    return scale.clamp_(min=SMALLEST).masked_fill_(maximum == 0, 1)


def _norm(block: nn.Module, group: InputGroup) -> Any:
    """Return the norm that feeds the group and can take up its scale, or None."""
    source = None if group.source is None else block.get_submodule(group.source)
    has_weight = getattr(source, "weight", None) is not None
    return None if isinstance(source, nn.Linear) or not has_weight else source


def smooth_group(block: nn.Module, group: InputGroup, maximum: Tensor, alpha: float) -> None:
    """Divide what the group's norm puts out by s and multiply the columns that read it by s.

    ``maximum`` [columns] is max|X_j| of the calibration inputs; s [columns] is `smoothing_scale`'s.
    Norm and linears get new parameters; the old ones are only read.
    """
    norm = _norm(block, group)
    assert norm is not None
    linears: list[Any] = [block.get_submodule(path) for path in group.linears]
    scale = smoothing_scale(maximum, [linear.weight for linear in linears], alpha)
    for own in (norm.weight, getattr(norm, "bias", None)):
        if own is not None:
            scale = scale.maximum(own.detach().float().abs() / torch.finfo(own.dtype).max)
    scale = divide_norm(block, group, scale)
    for linear in linears:
        linear.weight = _parameter(linear.weight.float() * scale, linear.weight)


def _parameter(tensor: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.to(like.dtype), requires_grad=False)


def _smooth_block(here: Visit, alpha: float) -> None:
    """Smooth one block with the maxima of its unquantized inputs.

    Smoothing does not change what the block computes, and the next block is to see unquantized
    inputs too: so the forward that collects the maxima also makes the next block's inputs.
    """
    groups = [group for group in here.groups if _norm(here.block, group) is not None]
    fresh = {
        group.name: partial(ChannelMaximum, here.linears(group)[group.linears[0]].in_features)
        for group in groups
    }
    maxima = here.collect(fresh, advance=True)
    for group in groups:
        maximum = maxima[group.name].to(here.devices[0]).value
        refuse_infinite_inputs(maximum, f"{here.name}.{group.name}")
        with here.clock.measure("smooth"):
            smooth_group(here.block, group, maximum, alpha)


def default_alpha(model: nn.Module) -> float:
    """Return the smoothing strength for the model's family: the source's, where it has one."""
    architecture = architecture_of(model)
    is_large = len(architecture.block_list(model)) >= LARGE_LLAMA_BLOCKS
    if architecture.model_type == "llama" and is_large:
        return LARGE_LLAMA_ALPHA
    return ALPHA.get(architecture.model_type, OTHER_ALPHA)


def smooth(model: nn.Module, batch: Tensor, alpha: float) -> None:
    """Move the outliers of every block into its weights; the model computes what it did before.

    ``batch`` is int64 [n_samples, seq_len]. Norms and linears of the module tree get new
    parameters; tensors of the model are only read.
    """
    walk_blocks(model, batch, lambda here: _smooth_block(here, alpha))


@torch.no_grad()
def int8_linear(linear: nn.Linear) -> Int8Linear:
    """Return the W8A8 layer that replaces ``linear``, sharing its bias."""
    grid = QuantizationGrid(bits=8, group_size=-1, sym=True)
    codes, scales, _ = grid.round_weight(linear.weight)
    return Int8Linear(
        codes, scales.to(grid.scale_dtype), bias=linear.bias, dtype=linear.weight.dtype
    )


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor,
    *,
    alpha: float | None = None,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Make every block linear of ``model`` W8A8, smoothed, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len]; ``alpha`` (None: the family's
    default) is the share of an outlier that goes into the weights. Layer errors are not measured:
    activations are rounded anew on every input.
    """
    strength = default_alpha(model) if alpha is None else alpha
    if not (isinstance(strength, float | int) and 0 <= strength <= 1):
        raise UsageError(
            f"SmoothQuant's alpha is a share, from 0 to 1, not {strength!r}",
            fix="alpha=0.5 is the paper's for most models, None the family's own",
        )
    account = Account(model)

    def visit(here: Visit) -> None:
        _smooth_block(here, strength)
        here.refresh()
        made = []
        for group in here.groups:
            with here.clock.measure("round", here.device_of(group)):
                rounded = ((path, int8_linear(m)) for path, m in here.linears(group).items())
                made += [(group, path, linear) for path, linear in rounded]
        for group, path, linear in made:
            here.put(group, path, linear)
            account.add(f"{here.name}.{path}")

    return account.close(walk_blocks(model, batch, visit, memory=memory, progress=progress))
