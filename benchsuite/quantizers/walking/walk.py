"""The layer-by-layer walk that every calibrated method stands on.

Calibration inputs go once through the embeddings. Then, block by block: one forward collects the
statistics that the method asks for, the method replaces the block's linears, one forward of the
replaced block makes the next block's inputs. Hidden states stay on the device while they fit in a
budget, in (pinned) host memory otherwise. The same code runs on CPU and CUDA, and on any number of
devices. One device and eight give the same bits: samples are shared out by lanes, which fixes the
order of sums (`lanes`), and each input group is quantized whole by one device.

`walk_blocks` hands a method each block, `walk` each input group of each block.

``beside_original`` takes the samples through the model's own blocks as well, so that a statistic is
given what the original model has in place of each input. That is twice the forwards, twice the
hidden states (n_samples x seq_len x width of the model's dtype) and, while a block is worked on,
the weights that it came with beside those that replace them.

Where a block is gone through for each input group, what the original model's linears are given is
kept meanwhile, if there is room, and so is what replaced linears put out (`remembered`).
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.models.architecture import Architecture, InputGroup, architecture_of
from benchsuite.models.replicas import devices_of
from benchsuite.models.streaming import Blocks, is_streamed
from benchsuite.quantizers.layers import Progress, refuse_infinite_linears
from benchsuite.quantizers.walking.clock import StageClock, longest
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory, capture
from benchsuite.quantizers.walking.lanes import Kept
from benchsuite.quantizers.walking.visit import Visit

Turns = Generator[None, None, Mapping[str, nn.Module]]
"""The work on one group: it yields where the host would now wait for a device, so that another
group's device can be given something to do, and returns the modules that replace the linears, by
path in the block."""


Made = TypeVar("Made")


class Method(Protocol[Kept]):
    """A quantizer that `walk` hands one input group after the other."""

    def statistic(self, here: Visit, group: InputGroup, device: torch.device) -> Kept:
        """Return a fresh statistic for the inputs of a group of the block."""

    def quantize(self, here: Visit, group: InputGroup, statistic: Kept) -> Turns:
        """Quantize the group's linears, where ``here.linears`` and the statistic are."""


GIVE_BATCH = (
    "give token ids as `batch`: in a cell calibrate(method, seed), elsewhere "
    "tokenizer(texts, return_tensors='pt').input_ids of texts of one length"
)
"""What to do about calibration data that a method lacks."""


def check_batch(batch: Tensor) -> None:
    """Raise a usage error unless ``batch`` is a non-empty int64 tensor [n_samples, seq_len]."""
    if batch.dim() != 2 or batch.dtype != torch.int64 or batch.numel() == 0:
        raise UsageError(
            f"a calibration batch is int64 [n_samples, seq_len], not {batch.dtype} "
            f"{list(batch.shape)}",
            "layer-by-layer walk",
            GIVE_BATCH,
        )


@torch.no_grad()
def walk_blocks(
    model: nn.Module,
    batch: Tensor,
    visit: Callable[[Visit], None],
    *,
    beside_original: bool = False,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
    architecture: Architecture | None = None,
) -> dict[str, float]:
    """Take calibration data through the model, calling ``visit`` at each block; seconds by stage.

    ``batch`` is int64 [n_samples, seq_len] without padding. The next block's inputs come from the
    block as ``visit`` leaves it, unless it advanced them itself. ``architecture`` says where the
    linears are in a model whose modules were moved. Tensors of the given model are only read. The
    devices that the model was given (`share_work`) share the work.
    """
    check_batch(batch)
    architecture = architecture or architecture_of(model)
    home = next(model.parameters()).device
    devices = devices_of(model)
    look_at = partial(_refuse_infinite_block, architecture)
    blocks = Blocks(model, architecture, look_at=look_at)
    if not is_streamed(model):
        refuse_infinite_linears(architecture.named_blocks(model), architecture)
    was_training = model.training
    model.eval()
    clock = StageClock(home)
    try:
        with clock.measure("embeddings"):
            lanes = capture(model, architecture, batch, memory, devices)
            originals = [lane.copied(memory) for lane in lanes] if beside_original else []
        for index, block in blocks.each():
            if progress is not None:
                progress("quantize", index, len(blocks))
            name = architecture.block_name(index)
            here = Visit(name, index, block, architecture.groups, lanes, devices, clock, originals)
            visit(here)
            if index + 1 < len(blocks) and not here.advanced:
                here.advance()
            blocks.put_away(index)
            del here  # and with it what it holds of the block on each device
        if progress is not None:
            progress("quantize", len(blocks), len(blocks))
    finally:
        model.train(was_training)
    return longest([_exclusive(of_device) for of_device in clock.by_device()])


def _refuse_infinite_block(architecture: Architecture, name: str, block: nn.Module) -> None:
    refuse_infinite_linears([(name, block)], architecture)


def walk(
    model: nn.Module,
    batch: Tensor,
    method: Method[Any],
    *,
    true_sequential: bool = False,
    beside_original: bool = False,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
    architecture: Architecture | None = None,
) -> dict[str, float]:
    """Quantize every block's linears in place on the module tree; returns seconds by stage.

    ``true_sequential`` collects each input group's statistics after the earlier groups of its block
    have been quantized, at one more forward per group. The rest is as in ``walk_blocks``.
    """

    def visit(here: Visit) -> None:
        if true_sequential:
            here.keep_originals()
            here.keep_outputs()
        for together in [[g] for g in here.groups] if true_sequential else [here.groups]:
            fresh = {group.name: partial(method.statistic, here, group) for group in together}
            statistics = here.collect(fresh)
            work = (
                (group, method.quantize(here, group, statistics.pop(group.name)))
                for group in together
            )
            for group, replaced in _in_turns(work, side_by_side=len(here.devices) > 1):
                for path, module in replaced.items():
                    here.put(group, path, module)

    return walk_blocks(
        model,
        batch,
        visit,
        beside_original=beside_original,
        memory=memory,
        progress=progress,
        architecture=architecture,
    )


def turn(work: Generator[None, None, Made]) -> Made | None:
    """Take one turn; return what the work returns when it is done, None until then."""
    try:
        next(work)
    except StopIteration as end:
        return end.value
    return None


def _in_turns(
    work: Iterable[tuple[InputGroup, Turns]], side_by_side: bool
) -> list[tuple[InputGroup, Mapping[str, nn.Module]]]:
    """Return what each group's work returns: all in turns, or one after the other."""
    done: dict[str, Mapping[str, nn.Module]] = {}
    order = []
    for together in [list(work)] if side_by_side else ([one] for one in work):
        order += [group for group, _ in together]
        while together:
            for group, turns in list(together):
                found = turn(turns)
                if found is not None:
                    done[group.name] = found
                    together.remove((group, turns))
    return [(group, done[group.name]) for group in order]


def _exclusive(seconds: dict[str, float]) -> dict[str, float]:
    """Take the statistics' time out of the forward pass in which they were collected."""
    both = seconds.pop("forward and statistics", 0.0)
    seconds["forward"] = seconds.get("forward", 0.0) + both - seconds.get("statistics", 0.0)
    return seconds
