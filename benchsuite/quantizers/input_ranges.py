"""Formats whose scale of inputs is fixed beforehand, by the largest input on calibration data."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from benchsuite.quantizers.layers import Progress
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.finite import refuse_infinite_inputs
from benchsuite.quantizers.walking.hidden_states import WorkingMemory
from benchsuite.quantizers.walking.largest import Largest
from benchsuite.quantizers.walking.visit import Visit
from benchsuite.quantizers.walking.walk import walk_blocks


def by_largest_inputs(
    model: nn.Module,
    batch: Tensor,
    rounded: Callable[[Mapping[str, nn.Linear], Tensor], Mapping[str, nn.Module]],
    memory: WorkingMemory,
    progress: Progress | None,
) -> QuantizationResult:
    """Replace every block linear by what ``rounded`` makes of it, in place on the module tree.

    ``rounded(linears, largest)`` gets the linears that read one input, by path, with the greatest
    magnitude of that input, a float32 scalar; it returns their layers by the same paths. ``batch``
    is int64 [n_samples, seq_len]. The inputs are those of the unrounded model, so the forward that
    measures them makes the next block's inputs too.
    """
    account = Account(model)

    def visit(here: Visit) -> None:
        largest = here.collect({group.name: Largest for group in here.groups}, advance=True)
        made = []
        for group in here.groups:
            value = largest[group.name].value
            refuse_infinite_inputs(value, f"{here.name}.{group.name}")
            with here.clock.measure("round", here.device_of(group)):
                layers = rounded(here.linears(group), value)
            made += [(group, path, layer) for path, layer in layers.items()]
        for group, path, layer in made:
            here.put(group, path, layer)
            account.add(f"{here.name}.{path}")

    return account.close(walk_blocks(model, batch, visit, memory=memory, progress=progress))
