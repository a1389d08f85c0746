"""One block as the walk stands at it: on every device, with its inputs shared out."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.errors import BenchsuiteError
from benchsuite.models.architecture import InputGroup
from benchsuite.models.experts import Experts, add_routed, calibrating
from benchsuite.models.fused import fused_forwards
from benchsuite.models.memory import available_bytes
from benchsuite.models.replicas import Counterparts, replica
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.layers import group_linears, replace
from benchsuite.quantizers.walking.clock import StageClock
from benchsuite.quantizers.walking.hidden_states import HiddenStates
from benchsuite.quantizers.walking.lanes import Kept, Merging, alternating
from benchsuite.quantizers.walking.remembered import Remembered

KEPT_SHARE = 0.25
"""Of a device's available memory that the original model's inputs of one block may take, and again
what its linears put out."""


class _Enough(Exception):
    """Raised by the last hook of a statistics pass: the rest of the block need not run."""


@dataclass
class Visit:
    """One block as the walk stands at it.

    ``lanes`` are the block's inputs until ``collect`` advances them; ``groups`` are the block's
    input groups in the order in which it runs them; ``clock`` takes the method's stages too.
    ``devices`` are those worked on, the model's own first: ``block`` is there, and each other one
    has a replica of it. ``places`` says which device quantizes which group. ``originals`` are what
    the model's own earlier blocks would have made of the same samples, lane by lane, or none: the
    block as it came then runs on them wherever the block as it is runs on ``lanes``.
    """

    name: str
    index: int
    block: nn.Module
    groups: tuple[InputGroup, ...]
    lanes: list[HiddenStates]
    devices: tuple[torch.device, ...]
    clock: StageClock
    originals: Sequence[HiddenStates] = ()
    advanced: bool = False
    places: dict[str, int] = field(init=False)
    copies: list[nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        self._to = [Counterparts(device) for device in self.devices[1:]]
        self.places = shared_out(self.block, self.groups, len(self.devices))
        self.refresh()
        # Trees of their own over the same tensors: linears are replaced in the block, not in them.
        to = [Counterparts(self.devices[0]), *self._to] if self.originals else []
        self._as_it_came = [replica(self.block, there) for there in to]
        self._kept: dict[int, dict[str, Tensor]] = {}
        self._remembered: Remembered | None = None
        self._came: dict[str, nn.Module] = {}

    def refresh(self) -> None:
        """Let the replicas have what the block has now."""
        self.copies = [self.block, *(replica(self.block, to) for to in self._to)]

    def device_of(self, group: InputGroup) -> torch.device:
        """Return the device that quantizes the group."""
        return self.devices[self.places[group.name]]

    def linears(self, group: InputGroup) -> dict[str, nn.Linear]:
        """Return the group's linears by path in the block, on the device that quantizes it.

        A usage error if one is replaced.
        """
        return group_linears(self.copies[self.places[group.name]], group, self.name)

    def put(self, group: InputGroup, path: str, module: nn.Module) -> None:
        """Put what the group's device made of the linear at ``path`` there, on the model's own."""
        place = self.places[group.name]
        if place:
            module = replica(module, self._to[place - 1].back(self.devices[0]))
        replace(self.block, path, module)

    def collect(
        self,
        fresh: Mapping[str, Callable[[torch.device], Kept]],
        *,
        advance: bool = False,
        around: Callable[[int, nn.Module], AbstractContextManager[Any]] | None = None,
    ) -> dict[str, Kept]:
        """Run the block as it is, feeding the inputs of the named groups to fresh statistics.

        A statistic is given the inputs [tokens, features] and, if there are ``originals``, what the
        original model has in their place. ``fresh`` makes one on a device. Each lane has its own;
        they are merged and come back by group, on the device that quantizes it. Every expert of a
        mixture is fed every token.
        ``advance`` makes the next block's inputs of this same forward: they come from the block as
        it is now, not from the one that the method is about to make of it. Each lane runs inside
        ``around(number of the lane, block on its device)``.
        """
        self.refresh()
        watched = [group for group in self.groups if group.name in fresh]
        merging: dict[str, Merging[Kept]] = {g.name: Merging(len(self.lanes)) for g in watched}
        with ExitStack() as stack:
            for block in (*self.copies, *self._as_it_came):
                stack.enter_context(calibrating(block))
            stack.enter_context(self._ready())
            stack.enter_context(self._answering())
            for number in alternating([lane.place for lane in self.lanes]):
                lane = self.lanes[number]
                of_lane = {group.name: fresh[group.name](lane.device) for group in watched}
                with around(number, self.copies[lane.place]) if around else nullcontext():
                    self._collect_lane(number, watched, of_lane, advance)
                for name in merging:
                    merging[name].add(number, of_lane.pop(name), lane.device)
        add_routed(self.block, self.copies[1:])
        self.advanced = self.advanced or advance
        return {g.name: merging[g.name].merged(self.device_of(g)) for g in watched}

    def keep_originals(self) -> None:
        """Run the block as it came over all ``originals`` once, where their inputs have room.

        What each group of linears is given, [samples, seq_len, features] a lane, stays on its
        device, and the originals advance. Otherwise the block runs anew for each ``collect``, to
        the same bits.
        """
        linears: list[Any] = [self.block.get_submodule(group.linears[0]) for group in self.groups]
        if not self.originals or not self._fit(sum(linear.in_features for linear in linears)):
            return
        with ExitStack() as stack:
            for block in self._as_it_came:
                stack.enter_context(calibrating(block))
            stack.enter_context(self._ready())
            for number in alternating([lane.place for lane in self.originals]):
                self._kept[number] = self._keep_lane(self.originals[number])

    def keep_outputs(self) -> None:
        """From now on let what linears that were replaced put out stay, where it has room.

        The block then runs on from there, to the same bits. A mixture's experts, which run over
        other tokens each time, are called anew.
        """
        paths = [path for group in self.groups[:-1] for path in group.linears]
        linears: list[Any] = [self.block.get_submodule(path) for path in paths]
        mixed = any(isinstance(module, Experts) for module in self.block.modules())
        if not mixed and self._fit(sum(linear.out_features for linear in linears)):
            self._remembered, self._came = Remembered(), dict(zip(paths, linears, strict=True))

    def _fit(self, width: int) -> bool:
        """Return whether ``width`` numbers of each token fit on the token's device."""
        needed: Counter[torch.device] = Counter()
        for lane in self.lanes:
            tokens = lane.states.shape[0] * lane.states.shape[1]
            needed[lane.device] += tokens * width * lane.states.itemsize
        return all(n <= KEPT_SHARE * available_bytes(device) for device, n in needed.items())

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Let the linears that were replaced answer what they answered before."""
        final = [p for p, came in self._came.items() if self.block.get_submodule(p) is not came]
        with ExitStack() as stack:
            if self._remembered is not None:
                for block in self.copies:
                    stack.enter_context(self._remembered.answering(block, final))
            yield

    def _keep_lane(self, lane: HiddenStates) -> dict[str, Tensor]:
        """Advance a lane of the originals; return what each group of linears was given."""
        came, kept = self._as_it_came[lane.place], dict[str, Tensor]()
        samples, seq_len = lane.states.shape[:2]

        def keep(name: str, inputs: Tensor) -> None:
            if name not in kept:
                kept[name] = inputs.new_empty(samples, seq_len, inputs.shape[-1])
            kept[name][part] = inputs.view(-1, seq_len, inputs.shape[-1])

        with _heard(came, self.groups, keep, stop=False):
            for part in lane.slices():
                with self.clock.measure("forward", lane.device):
                    outputs = lane.run(came, self.index, part)
                    lane.states[part].copy_(outputs, non_blocking=True)
        return kept

    def advance(self) -> None:
        """Overwrite the hidden states by the block's outputs."""
        self.refresh()
        with self._ready(), self._answering():
            for number in alternating([lane.place for lane in self.lanes]):
                self._advance_lane(number, self.lanes[number], self.copies)
                if self.originals and not self._kept:
                    self._advance_lane(number, self.originals[number], self._as_it_came)

    def _advance_lane(self, number: int, lane: HiddenStates, blocks: Sequence[nn.Module]) -> None:
        with self.clock.measure("forward", lane.device):
            for part in lane.slices():
                if self._remembered is not None:
                    self._remembered.begin(number, part)
                outputs = lane.run(blocks[lane.place], self.index, part)
                lane.states[part].copy_(outputs, non_blocking=True)

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Let the block, its replicas and the block as it came run as fast as they can."""
        with ExitStack() as stack:
            for block in (*self.copies, *self._as_it_came):
                stack.enter_context(using_kernel(block, "held"))
                stack.enter_context(fused_forwards(block))
            yield

    def _collect_lane(
        self,
        number: int,
        watched: Sequence[InputGroup],
        statistics: Mapping[str, Any],
        advance: bool,
    ) -> None:
        """Run the block over one lane, feeding each group's input to its statistic."""
        lane, kept = self.lanes[number], self._kept.get(number)
        original = self.originals[number] if self.originals and kept is None else None
        block, beside = self.copies[lane.place], dict[str, Tensor]()

        def feed(name: str, inputs: Tensor) -> None:
            others = [beside.pop(name)] if original is not None else []
            if kept is not None:
                others = [kept[name][part].flatten(0, 1)]
            with self.clock.measure("statistics", lane.device):
                statistics[name].update(inputs, *others)

        with ExitStack() as stack:
            stack.enter_context(_heard(block, watched, feed, stop=not advance))
            if original is not None:
                came = self._as_it_came[lane.place]
                stack.enter_context(_heard(came, watched, beside.__setitem__, stop=not advance))
            for part in lane.slices():
                if self._remembered is not None:
                    self._remembered.begin(number, part)
                with self.clock.measure("forward and statistics", lane.device):
                    if original is not None:
                        self._listen(original, came, part, watched, advance)
                    self._listen(lane, block, part, watched, advance)

    def _listen(
        self,
        lane: HiddenStates,
        block: nn.Module,
        part: slice,
        watched: Sequence[InputGroup],
        advance: bool,
    ) -> None:
        """Run a block that is heard over a micro-batch, whole if its outputs are to be kept."""
        try:
            outputs = lane.run(block, self.index, part)
        except _Enough:
            return
        if not advance:
            raise BenchsuiteError(
                f"block {self.index} never called {watched[-1].linears[0]}",
                "layer-by-layer walk",
                "the architecture map names a linear that this model does not run",
            )
        lane.states[part].copy_(outputs, non_blocking=True)


@contextmanager
def _heard(
    block: nn.Module,
    watched: Sequence[InputGroup],
    hear: Callable[[str, Tensor], None],
    *,
    stop: bool,
) -> Iterator[None]:
    """Let ``hear`` have (group's name, its inputs [tokens, features]) whenever the block runs.

    ``stop`` ends each run at the last of the groups.
    """

    def hook_for(group: InputGroup) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            hear(group.name, args[0].reshape(-1, args[0].shape[-1]))
            if stop and group is watched[-1]:
                raise _Enough

        return hook

    handles = [
        block.get_submodule(group.linears[0]).register_forward_pre_hook(hook_for(group))
        for group in watched
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def shared_out(block: nn.Module, groups: Sequence[InputGroup], n_places: int) -> dict[str, int]:
    """Return which of the devices quantizes each group: the longest work first, to the least busy.

    With c columns and r rows in all, a factorisation takes about c^3 and rounding r c^2.
    """
    work = {}
    for group in groups:
        linears: list[Any] = [block.get_submodule(path) for path in group.linears]
        columns = linears[0].in_features
        work[group.name] = columns**2 * (columns + sum(linear.out_features for linear in linears))
    busy, places = [0] * n_places, {}
    for name in sorted(work, key=lambda name: -work[name]):
        places[name] = busy.index(min(busy))
        busy[places[name]] += work[name]
    return places
