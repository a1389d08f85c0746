"""What replaced linears put out, kept while their block runs again and again over the same samples.

A walk that quantizes the input groups of a block one after the other runs the block once for each.
What comes before a group is final by then, so its linears answer from memory: to the same bits.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class _Answer:
    outputs: Tensor
    version: int  # PyTorch's count of what was written to them
    run: int


class Remembered:
    """Outputs of the linears of one block, by lane, micro-batch and path."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int, str], _Answer] = {}
        self._anew: set[str] = set()
        self._lane, self._start, self._run = 0, 0, 0

    def begin(self, lane: int, part: slice) -> None:
        """Say that the block is about to run over a micro-batch of a lane."""
        self._lane, self._start, self._run = lane, part.start, self._run + 1

    @contextmanager
    def answering(self, block: nn.Module, paths: Iterable[str]) -> Iterator[None]:
        """Let the linears at ``paths`` of the block remember and answer inside the ``with`` block.

        What a block calls more than once in a run, and outputs that it writes to, are made anew, as
        are those of a linear whose forward another library has replaced.
        """
        with ExitStack() as undo:
            for path in paths:
                linear = block.get_submodule(path)
                if "forward" in vars(linear):
                    continue
                linear.forward = self._answer(path, linear.forward)
                undo.callback(delattr, linear, "forward")
            yield

    def _answer(self, path: str, own: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def forward(inputs: Tensor) -> Tensor:
            if path in self._anew:
                return own(inputs)
            key = self._lane, self._start, path
            kept = self._kept.get(key)
            if kept is None:
                outputs = own(inputs)
                self._kept[key] = _Answer(outputs, outputs._version, self._run)
                return outputs
            if kept.run == self._run or kept.outputs._version != kept.version:
                self._forget(path)
                return own(inputs)
            return kept.outputs

        return forward

    def _forget(self, path: str) -> None:
        self._anew.add(path)
        self._kept = {key: kept for key, kept in self._kept.items() if key[2] != path}
