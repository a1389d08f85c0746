"""The linears of a model, one after the other, for methods that need no data."""

from collections.abc import Iterator

from torch import nn

from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers.walk import Progress, group_linears


def block_linears(
    model: nn.Module, progress: Progress | None = None
) -> Iterator[tuple[str, nn.Linear]]:
    """Yield (path in the model, linear) of every block, in the order in which they run.

    Whoever iterates may replace what it is given. ``progress`` hears of every block. Raises a usage
    error at a linear that is none any more: the model is quantized already.
    """
    architecture = architecture_of(model)
    blocks = architecture.block_list(model)
    for index, block in enumerate(blocks):
        if progress is not None:
            progress("quantize", index, len(blocks))
        where = architecture.block_name(index)
        for group in architecture.groups:
            for path, linear in group_linears(block, group, where).items():
                yield f"{where}.{path}", linear
    if progress is not None:
        progress("quantize", len(blocks), len(blocks))
