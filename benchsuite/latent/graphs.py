"""Forward and backward of a training as CUDA graphs: the host launches one thing, not thousands.

A graph repeats the kernels of the batch it was captured with, on what another batch of the same
shape sends (``transfer``). What a batch sends, and so its shape, is learnt by reading it with an
outline of the network, which has shapes and no numbers.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchsuite.latent.attention import Layout
from benchsuite.latent.decoder import Decoded
from benchsuite.latent.examples import Batch
from benchsuite.latent.losses import Parts
from benchsuite.latent.methods.base import Moment
from benchsuite.latent.network import Reasoner
from benchsuite.latent.transfer import Route, taken
from benchsuite.models.replay import nothing_collected

KEPT = 64  # graphs, of the shapes used last; one memory serves all of them
ALIGNED = 64  # bytes

Shape = tuple[tuple[tuple[int, ...], torch.dtype], ...]


class Feed:
    """Tensors on a device, of fixed shapes, that one copy fills: what a graph reads."""

    def __init__(self, like: Iterable[Tensor], device: torch.device) -> None:
        self._spans: list[tuple[int, int]] = []
        begin, like = 0, list(like)
        for tensor in like:
            self._spans.append((begin, begin + tensor.nbytes))
            begin += -(-tensor.nbytes // ALIGNED) * ALIGNED
        self._bytes = torch.zeros(begin, dtype=torch.uint8, device=device)
        self.tensors = [
            self._bytes[slice(*span)].view(tensor.dtype).view(tensor.shape)
            for tensor, span in zip(like, self._spans, strict=True)
        ]

    def fill(self, sent: Iterable[Tensor]) -> None:
        """Copy tensors of the same shapes in; the device need not be waited for."""
        there = self._bytes.device
        here = torch.zeros_like(self._bytes, device="cpu", pin_memory=there.type == "cuda")
        for tensor, span in zip(sent, self._spans, strict=True):
            here[slice(*span)] = tensor.contiguous().flatten().view(torch.uint8)
        self._bytes.copy_(here, non_blocking=True)

    def route(self, multiple: int) -> Route:
        """Return the route on which, in their order, these tensors are taken for what is sent."""
        each = iter(self.tensors)
        return Route(lambda *_: next(each), multiple)


class _Graph(NamedTuple):
    graph: Any
    feed: Feed
    parts: Parts


class Graphs:
    """A micro-batch's gradients, added to those that are there, by a graph for each shape.

    ``accumulate(batch, moment)`` does it kernel by kernel and returns the parts of the loss: so
    the first batch of a shape is taken, and the second one is captured. ``read(batch, moment)``
    is the loss of the network's ``outline``. Numbers of packed rows are rounded up to a multiple
    of ``rounding``. Gradients must stay where they are from step to step.
    """

    def __init__(
        self,
        accumulate: Callable[[Batch, Moment], Parts],
        read: Callable[[Batch, Moment], Parts],
        rounding: int,
        device: torch.device,
    ) -> None:
        self._accumulate, self._read = accumulate, read
        self._rounding, self._device = rounding, device
        self._seen: set[Shape] = set()
        self._graphs: OrderedDict[Shape, _Graph] = OrderedDict()
        self._pool: Any = None

    def __call__(self, batch: Batch, moment: Moment) -> Parts:
        """Add a micro-batch's gradients; return the detached parts of its loss."""
        drawn = moment.generator.get_state()
        tensors = sent(self._read, batch, moment, self._rounding)
        shape = tuple((tuple(t.shape), t.dtype) for t in tensors)
        if shape not in self._seen:
            moment.generator.set_state(drawn)
            self._seen.add(shape)
            with taken(Route(multiple=self._rounding)):
                return self._accumulate(batch, moment)
        if shape not in self._graphs:
            moment.generator.set_state(drawn)
            self._graphs[shape] = self._captured(batch, moment, tensors)
        self._graphs.move_to_end(shape)
        while len(self._graphs) > KEPT:
            self._graphs.popitem(last=False)
        graph, feed, parts = self._graphs[shape]
        feed.fill(tensors)
        graph.replay()
        return {name: value.clone() for name, value in parts.items()}

    def _captured(self, batch: Batch, moment: Moment, like: Sequence[Tensor]) -> _Graph:
        feed, graph = Feed(like, self._device), torch.cuda.CUDAGraph()
        with (
            taken(feed.route(self._rounding)),
            nothing_collected(),
            torch.cuda.graph(graph, pool=self._pool),
        ):
            parts = self._accumulate(batch, moment)
        self._pool = graph.pool()
        return _Graph(graph, feed, parts)


def sent(
    read: Callable[[Batch, Moment], Parts], batch: Batch, moment: Moment, rounding: int
) -> list[Tensor]:
    """Return what the loss of a batch sends to the device, in order; ``read`` is an outline's."""
    found: list[Tensor] = []

    def carry(host: Tensor, device: torch.device) -> Tensor:
        found.append(host)
        return host.to(device)

    with taken(Route(carry, rounding)), torch.no_grad():
        read(batch, moment)
    return found


def outline(net: Reasoner) -> Reasoner:
    """Return a copy of a network that has all shapes and no numbers, its blocks left out."""
    tensors = [*net.parameters(), *net.buffers()]
    memo: dict[int, Any] = {
        id(t): nn.Parameter(t.detach().to("meta"), requires_grad=False) for t in tensors
    }
    for each in (net, net.auxiliary):
        if each is not None:
            memo[id(each.decoder)] = _Outline(each)
    found = copy.deepcopy(net, memo)
    found.projection = None  # keeps the shape
    return found


class _Outline(nn.Module):
    """In the place of a decoder: tensors of the shapes that it gives."""

    def __init__(self, net: Reasoner) -> None:
        super().__init__()
        config = net.lm.config
        self._layers = config.num_hidden_layers
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._width = net.decoder.model.layers[0].self_attn.head_dim

    def forward(self, tokens: Tensor, layout: Layout, past: Any, watched: Tensor | None) -> Decoded:
        def cache() -> tuple[Tensor, ...]:
            shape = *layout.mask.shape, self._kv_heads, self._width
            return tuple(tokens.new_empty(shape) for _ in range(self._layers))

        if watched is None:
            return Decoded(tokens, cache(), cache())
        each = self._layers, len(watched)
        layers = tokens.new_empty(*each, tokens.shape[-1])
        queries = tokens.new_empty(*each, self._heads, self._width)
        return Decoded(tokens, cache(), cache(), layers, queries)
