"""A training's step as a CUDA graph: batches gathered and cut on the device, losses the methods'.

The initial weights, the order of examples, the losses, the schedule and the optimizer are those of
``benchsuite.latent.training``. On a machine without CUDA the same steps are taken one by one.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchsuite.embedded.schema import Problem
from benchsuite.latent import decoding, losses, network, training
from benchsuite.latent.attention import Layout
from benchsuite.latent.attention import Rows as Packed
from benchsuite.latent.config import Config
from benchsuite.latent.examples import Batch, Example, Format, Tail
from benchsuite.latent.methods import coconut, icot
from benchsuite.latent.methods.base import Moment
from benchsuite.latent.methods.full_cot import answer_in_words
from benchsuite.latent.methods.registry import method
from benchsuite.latent.network import Reasoner, build

MAX_STEPS_OF_A_PROBLEM = 4
Span = tuple[Tensor, Tensor, int]


class Table:
    """Examples as padded tensors on the device, so that a graph can gather its batch itself."""

    def __init__(self, form: Format, examples: Sequence[Example], device: str) -> None:
        def right(rows: Sequence[Sequence[int]]) -> Tensor:
            longest = max(map(len, rows))
            return torch.tensor([[*r, *[0] * (longest - len(r))] for r in rows], device=device)

        batch = form.batch(examples)
        self.prefix, self.mask = batch.prefix.to(device), batch.prefix_mask.to(device)
        self.last, self.marker = batch.last.to(device), batch.marker[0].to(device)
        self.thought = right(batch.thoughts())
        self.answer = right([e.answer for e in examples])
        self.n_answer = torch.tensor([len(e.answer) for e in examples], device=device)
        # [N, 5]: tokens of the first k steps; of all steps where a problem has fewer.
        self.until = torch.tensor(
            [
                [sum(map(len, e.steps[:k])) for k in range(MAX_STEPS_OF_A_PROBLEM + 1)]
                for e in examples
            ],
            device=device,
        )
        self.but_last = torch.tensor([sum(map(len, e.steps[:-1])) for e in examples], device=device)
        self.widths = int(self.until.max()), int(self.but_last.max())


class Rows(Batch):
    """A batch gathered from a table; its tails are cut on the device, at a fixed width.

    A span says which of a thought's tokens a tail has: from ``begin`` [B] to ``end`` [B], at most
    ``width``. ``thoughts`` gives one where a method asks for steps, and a list (no thought at all,
    or Coconut's rest of the steps) stands for ``listed``.
    """

    def __init__(self, table: Table, index: Tensor, skip: int | None = None) -> None:
        self._table, self._index = table, index
        whole, none = table.until[index, -1], torch.zeros_like(index)
        self.listed: Span = (none, none, 0)
        if skip is not None:
            self.listed = (table.until[index, skip], whole, table.widths[0])
        marker = table.marker.expand(len(index), -1)
        super().__init__(table.prefix[index], table.mask[index], table.last[index], marker, ())

    def __len__(self) -> int:
        return len(self._index)

    @property
    def n_announced(self) -> int:
        """The longest marker and answer of the table."""
        return len(self._table.marker) + self._table.answer.shape[1]

    def thoughts(self, until: int | None = None) -> Any:
        """Return the span of all steps, or of all but the last."""
        table, index = self._table, self._index
        end = table.until[index, -1] if until is None else table.but_last[index]
        return torch.zeros_like(end), end, table.widths[until is not None]

    def tail(self, thoughts: Any) -> Tail:
        """Return the rows ``thought, marker, answer`` for a span of the thought."""
        begin, end, widest = self.listed if isinstance(thoughts, list) else thoughts
        table, index, n_marker = self._table, self._index, len(self._table.marker)
        at = torch.arange(widest + n_marker + table.answer.shape[1], device=index.device)
        n = (end - begin)[:, None]
        length = n + n_marker + table.n_answer[index][:, None]

        def taken(rows: Tensor, place: Tensor) -> Tensor:
            return rows.gather(1, place.clamp(0, rows.shape[1] - 1))

        ids = taken(table.thought[index], begin[:, None] + at)
        ids = torch.where(at < n, ids, taken(self.marker, at - n))
        answer = taken(table.answer[index], at - n - n_marker)
        ids = torch.where(at < n + n_marker, ids, answer) * (at < length)
        whole, thought, announced = at < length, at < n, at < n + n_marker
        return Tail(ids, whole.long(), thought, announced & ~thought, whole & ~announced)


class Dense(Layout):
    """The layout of masks on the device, padding read along: every shape is known beforehand."""

    @classmethod
    def of(cls, before: Tensor | None, mask: Tensor, device: torch.device) -> "Dense":
        """Return the layout of masks [B, n] and [B, L]."""
        whole = mask if before is None else torch.cat([before, mask], 1)
        positions = (whole.cumsum(1)[:, -mask.shape[1] :] - 1).clamp(min=0)
        return cls(Packed((mask.shape[0], mask.shape[1]), None), whole, positions.flatten())

    spans = None  # padding lies between the tokens: masked attention

    def rows(self, columns: Tensor) -> Tensor:
        """Return the rows int64 [B * W] of columns [B, W] of the new tokens."""
        n, length = self.new.shape
        return (torch.arange(n, device=columns.device)[:, None] * length + columns).flatten()


def dense_token_loss(
    head: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor, wanted: Tensor
) -> Tensor:
    """Return ``losses.token_loss`` with every position through the head, wanted or not."""
    logits = head(hidden.flatten(0, 1)).float()
    nll = F.cross_entropy(logits, targets.flatten(), reduction="none").view_as(targets) * wanted
    return (nll.sum(1) / wanted.sum(1).clamp(min=1)).mean()


@contextmanager
def known_shapes(device: torch.device) -> Iterator[None]:
    """Let the methods' losses work on the device alone, in shapes that no batch changes."""
    kept = network.Layout, losses.token_loss
    network.Layout, losses.token_loss = Dense, dense_token_loss  # type: ignore[misc]
    try:
        with torch.device(device):
            yield
    finally:
        network.Layout, losses.token_loss = kept  # type: ignore[misc]


class Run:
    """One training: its network, its optimizer, and its step as a graph on its own stream."""

    def __init__(
        self, name: str, seed: int, config: Config, lm: Any, table: Table, form: Format
    ) -> None:
        self.name, self.seed, self.config, self.form = name, seed, config, form
        self.table, self.device = table, table.prefix.device
        self.net: Reasoner = build(lm, config, seed=seed).train()
        how = config.training
        self.optimizer = training._optimizer(self.net, config)
        self.rate = torch.zeros((), device=self.device)
        if self.device.type == "cuda":
            for group in self.optimizer.param_groups:
                group.update(lr=self.rate, capturable=True)
        self.index = torch.arange(how.per_device_train_batch_size, device=self.device)
        self.removed = torch.zeros(2, device=self.device)  # iCoT: share, surplus
        self.stage = config.latent.max_latent_stage  # the longest, to measure by
        self.graph: Any = None
        self.stream = torch.cuda.Stream() if self.device.type == "cuda" else None
        self.parts: dict[str, Tensor] = {}
        self.log: list[tuple[int, dict[str, Tensor]]] = []
        self.curve: list[dict[str, float]] = []

    @property
    def method(self) -> str:
        """The first word of the name, which goes on with what is changed."""
        return self.name.split()[0]

    def loss(self) -> dict[str, Tensor]:
        """Return the method's own loss; iCoT's cut is made on the device."""
        stage = self.stage if self.method == "coconut" else None
        moment = Moment((self.stage - 0.5) / self.config.latent.max_latent_stage, Generator())
        with known_shapes(self.device):
            rows = Rows(self.table, self.index, stage)
            if self.method == "icot":
                return {"answer": self._icot(rows)}
            return method(self.method).loss(self.net, rows, self.config, moment)

    def _icot(self, rows: Rows) -> Tensor:
        _, end, width = rows.thoughts()
        removed = (self.removed[0] * end.max()).floor() + self.removed[1]
        tail = rows.tail((torch.minimum(removed.long(), end), end, width))
        return answer_in_words(self.net, rows, tail, tail.mask)

    def step(self) -> None:
        """Take one step; what a graph captures."""
        with training._autocast(self.device, self.config):
            parts = self.loss()
        torch.stack(list(parts.values())).sum().backward()
        weights = [p for group in self.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(weights, self.config.training.max_grad_norm)
        self.optimizer.step()
        self.parts = {name: value.detach() for name, value in parts.items()}

    def capture(self) -> None:
        """Make the step a graph, with the optimizer's state as it was before."""
        if self.stream is None:
            return
        torch.cuda.synchronize()  # a step may still be under way on the run's own stream
        self.graph, kept = None, self._state()
        rate = self.rate.clone()
        self.rate.zero_()  # the steps to warm up leave the weights as they are
        torch.cuda.synchronize()
        with torch.cuda.stream(self.stream):
            for _ in range(2):
                self.optimizer.zero_grad(set_to_none=True)
                self.step()
        torch.cuda.synchronize()
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            self.step()
        self.graph = graph
        self._put(kept)
        self.rate.copy_(rate)
        torch.cuda.synchronize()

    def advance(self, step: int, total: int, order: Tensor) -> None:
        """Take step ``step`` of ``total`` over the examples ``order`` [batch]."""
        how, progress = self.config.training, step / total
        stage = coconut.stage(self.config, Moment(progress, Generator()))
        if self.method == "coconut" and stage != self.stage:
            self.stage = stage
            self.capture()
        rate = how.learning_rate * training._schedule(progress, how.warmup_ratio)
        with torch.cuda.stream(self.stream):
            self.index.copy_(order)
            self.rate.fill_(rate)
            if self.method == "icot":
                seeded = Generator().manual_seed(training._mixed(self.seed, step, -1))
                surplus = icot.removed(0, self.config, Moment(progress, seeded))
                done = min(1.0, progress / self.config.latent.removed_at)
                self.removed[0].fill_(done)
                self.removed[1].fill_(surplus)
            if self.graph is not None:
                self.graph.replay()
            else:
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                self.optimizer.zero_grad(set_to_none=True)
                self.step()
            if step % 20 == 0 or total < 20:
                self.log.append((step, {n: v.clone() for n, v in self.parts.items()}))

    def scores(self, problems: Sequence[Problem]) -> decoding.Scores:
        """Return the scores as training stands."""
        chosen = method(self.method)
        found = decoding.evaluate(self.net, chosen, self.config, self.form, problems)
        self.net.train()
        return found

    def losses(self) -> list[dict[str, float]]:
        """Return the loss parts of every twentieth step."""
        return [{"step": s, **{n: float(v) for n, v in parts.items()}} for s, parts in self.log]

    def _state(self) -> dict[Any, dict[str, Tensor]]:
        state = self.optimizer.state
        return {p: {n: v.clone() for n, v in of.items()} for p, of in state.items()}

    def _put(self, kept: dict[Any, dict[str, Tensor]]) -> None:
        for parameter, tensors in self.optimizer.state.items():
            for name, value in tensors.items():
                old = kept.get(parameter)
                value.copy_(old[name]) if old else value.zero_()


def orders(runs: Sequence[Run], n: int, total: int, batch: int) -> dict[int, Tensor]:
    """Return each seed's endless order of examples, int64 [total, batch]."""
    epochs = math.ceil(total * batch / n)
    found = {}
    for seed in {run.seed for run in runs}:
        ids = [i for epoch in range(epochs) for i in training._permutation(n, seed, epoch)]
        flat = torch.tensor(ids[: total * batch], device=runs[0].device)
        found[seed] = flat.view(total, batch)
    return found
