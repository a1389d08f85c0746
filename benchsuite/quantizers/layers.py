"""The linears of a model's blocks: found by group, visited in order, replaced."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.models.architecture import Architecture, InputGroup, architecture_of
from benchsuite.models.progress import Progress
from benchsuite.models.streaming import Blocks
from benchsuite.quantizers.walking.finite import refuse_infinite_weights


def replace(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put ``module`` at ``path`` under ``root``, leaving the module that was there untouched."""
    parent, _, child = path.rpartition(".")
    setattr(root.get_submodule(parent), child, module)


def group_linears(block: nn.Module, group: InputGroup, where: str) -> dict[str, nn.Linear]:
    """Return a group's linears by path in the block that the model has at ``where``.

    What is no linear is an error that names it.
    """
    linears: dict[str, nn.Linear] = {}
    for path in group.linears:
        module = block.get_submodule(path)
        if not isinstance(module, nn.Linear):
            raise UsageError(
                f"{where}.{path} is a {type(module).__name__}, not a linear layer",
                fix="quantize a freshly leased, unquantized model",
            )
        linears[path] = module
    return linears


def refuse_infinite_linears(
    named_blocks: Iterable[tuple[str, nn.Module]], architecture: Architecture
) -> None:
    """Raise an error naming the first linear that is none, or has weights not finite.

    All of the blocks, each with its path in the model, are looked at before the host waits once.
    """
    linears = {}
    for where, block in named_blocks:
        for group in architecture.groups:
            for path, linear in group_linears(block, group, where).items():
                linears[f"{where}.{path}"] = linear
    refuse_infinite_weights(linears)


def divide_norm(block: nn.Module, group: InputGroup, scales: Tensor) -> Tensor:
    """Divide what the norm before a group puts out by ``scales`` [features], in fresh parameters.

    What else reads the norm takes the scales up in its columns; the group's own linears are left to
    the caller. Returns the scales that the norm as it is stored, rounded, was really divided by.
    """
    assert group.source is not None
    norm: Any = block.get_submodule(group.source)
    gain = norm.weight.float() + group.source_offset
    weight = (gain / scales - group.source_offset).to(norm.weight.dtype)
    exact = gain / (weight.float() + group.source_offset)
    exact = torch.where(torch.isfinite(exact) & (exact > 0), exact, scales)
    norm.weight = nn.Parameter(weight, requires_grad=False)
    if getattr(norm, "bias", None) is not None:
        bias = (norm.bias.float() / exact).to(norm.bias.dtype)
        norm.bias = nn.Parameter(bias, requires_grad=False)
    for path in group.also:
        reader: Any = block.get_submodule(path)
        taken = (reader.weight.float() * exact).to(reader.weight.dtype)
        reader.weight = nn.Parameter(taken, requires_grad=False)
    return exact


def stacked_rows(linears: Mapping[str, nn.Linear]) -> Iterator[tuple[str, nn.Linear, slice]]:
    """Yield (path, linear, its rows) of linears whose weights lie one below the other."""
    start = 0
    for path, linear in linears.items():
        yield path, linear, slice(start, start + linear.out_features)
        start += linear.out_features


def block_linears(
    model: nn.Module, progress: Progress | None = None
) -> Iterator[tuple[str, nn.Linear]]:
    """Yield (path in the model, linear) of every block, as `block_groups` visits them."""
    for _, linears in block_groups(model, progress):
        yield from linears.items()


def block_groups(
    model: nn.Module, progress: Progress | None = None
) -> Iterator[tuple[str, dict[str, nn.Linear]]]:
    """Yield each input group of every block and its linears by their paths in the model.

    They come in the order in which they run, and whoever iterates may replace them. ``progress``
    hears of every block. Raises a usage error at a linear that is none any more: the model is
    quantized already.
    """
    architecture, blocks = architecture_of(model), Blocks(model)
    for index, block in blocks.each():
        if progress is not None:
            progress("quantize", index, len(blocks))
        where = architecture.block_name(index)
        for group in architecture.groups:
            found = group_linears(block, group, where)
            linears = {f"{where}.{path}": linear for path, linear in found.items()}
            refuse_infinite_weights(linears)
            yield f"{where}.{group.name}", linears
        blocks.put_away(index)
    if progress is not None:
        progress("quantize", len(blocks), len(blocks))
