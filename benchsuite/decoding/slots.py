"""A decoding core for GPUs: rows of unlike length go on together, each step one CUDA graph.

A *slot* is a row of the key-value cache with a length of its own. A prompt is read into a slot, the
slot's answer grows a token a step, and when it has ended another prompt takes the slot while the
others go on (continuous batching: Yu et al. 2022, Orca). There is no padding, so that an answer
does not depend on its neighbours' lengths beyond the last bits of a matrix product. The plain loop
of ``loop.decode`` is what this is compared with, see the tests.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Cache

from benchsuite.decoding.loop import Heat, drawn, entropy, heat_at
from benchsuite.decoding.rounded import roundings_of
from benchsuite.errors import out_of_memory
from benchsuite.models.fused import fused_forwards
from benchsuite.models.replay import nothing_collected

# Tokens read at once when prompts take slots, and keys that they see, those of a prefix included.
_READ_TOKENS, _SEEN_TOKENS = 16_384, 65_536
_IMPLEMENTATION = "benchsuite_slots"


class Attend(Protocol):
    """Attention of one new token a row over the cache; see ``slot_kernel.attend``."""

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        keys: Tensor,
        values: Tensor,
        places: Tensor,
        *,
        scaling: float,
        window: int | None = None,
        softcap: float | None = None,
        prefix: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return the attention [rows, heads, width]; ``keys`` and ``values`` take the token in."""


class Slots(Cache):  # type: ignore[misc]
    """Slots of ``length`` tokens each, and the model that goes on in them.

    ``prefix`` are tokens that every prompt begins with, see ``ways.shared_prefix``: they are read
    once and lie in memory once, and a slot's ``length`` counts what comes after them.
    ``tokens`` int64 and ``log_probs`` float64 [slots, steps] hold what was generated since a slot
    was taken; ``entropies`` keeps the entropy of each step's distribution beside them. With a
    ``temperature`` tokens are drawn by the numbers that ``take`` is given, none
    of the ``banned`` ones (bool [vocabulary]) among them; without one the most probable is taken.
    ``attend`` is ``kernel()`` unless told. To be used inside ``running``, which also puts the
    model's attention back.
    """

    def __init__(
        self,
        model: nn.Module,
        n_slots: int,
        length: int,
        steps: int,
        *,
        attend: Attend | None = None,
        temperature: Heat | None = None,
        banned: Tensor | None = None,
        entropies: bool = False,
        prefix: Sequence[int] = (),
    ) -> None:
        super().__init__(layers=[])
        device = next(model.parameters()).device
        self._model, self._attend = model, attend or kernel()
        self._banned = None if banned is None else banned.to(device)
        self._heat: float | Tensor | None = None
        if temperature is not None and not isinstance(temperature, float | int):
            each = [heat_at(temperature, step) for step in range(steps)]
            self._heat = torch.tensor(each, device=device)
        else:
            self._heat = temperature
        self._prefix, self._reads_prefix = list(prefix), False
        self._prefixes: dict[int, tuple[Tensor, Tensor]] = {}
        self._length, self._reading = length, torch.zeros(0)
        self._roundings = roundings_of(model)
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._ids = torch.zeros(n_slots, 1, dtype=torch.int64, device=device)
        # The steps that a capture makes come after the prefix, as all do.
        self._places = torch.full_like(self._ids[:, 0], len(prefix))
        self._made = torch.zeros(n_slots, dtype=torch.int64, device=device)
        self.tokens = torch.zeros(n_slots, steps, dtype=torch.int64, device=device)
        self.log_probs = torch.zeros(n_slots, steps, dtype=torch.float64, device=device)
        self.entropies = torch.zeros_like(self.log_probs) if entropies else None
        self._uniform = torch.zeros_like(self.log_probs)
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def n_slots(self) -> int:
        """How many answers grow side by side."""
        return len(self._ids)

    @property
    def made(self) -> list[Tensor]:
        """What was generated, [slots, steps] each: tokens, log-probabilities, entropies if kept."""
        return [x for x in (self.tokens, self.log_probs, self.entropies) if x is not None]

    @property
    def by_graph(self) -> bool:
        """Whether a step is one CUDA graph; to be asked inside ``running``."""
        return self._graph is not None

    # --- the cache, as transformers' modules see it

    def update(  # type: ignore[override]
        self, key: Tensor, value: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep the keys and values [prompts, kv heads, tokens, width] of prompts being read.

        A step's own are kept by the attention, which is told where. Rounded ones are kept rounded;
        the prompts' own attention rounds what is returned.
        """
        if self._reads_prefix:
            self._prefixes[layer_idx] = (key[0].contiguous(), value[0].contiguous())
        elif len(self._reading):
            kept = (key, value)
            if layer_idx in self._roundings:
                _, *kept = self._roundings[layer_idx](key, key, value)
            if layer_idx not in self._keys:
                shape = (len(self._ids), key.shape[1], self._length, key.shape[3])
                self._keys[layer_idx] = key.new_zeros(shape)
                self._values[layer_idx] = value.new_zeros(shape)
            copies = len(self._reading) // len(key)
            for cache, new in zip((self._keys, self._values), kept, strict=True):
                new = new.repeat_interleave(copies, 0) if copies > 1 else new
                cache[layer_idx][self._reading, :, : new.shape[2]] = new
            if layer_idx in self._prefixes:
                before = (x.expand(len(key), -1, -1, -1) for x in self._prefixes[layer_idx])
                pairs = zip(before, (key, value), strict=True)
                key, value = (torch.cat(pair, 2) for pair in pairs)
        return key, value

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return what prompts that are being read come after; steps bring their positions."""
        return len(self._prefix) if len(self._reading) and self._prefixes else 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Return the same."""
        return self.get_seq_length()

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Return the tokens that a mask covers, the prefix among them, and the first: 0."""
        return self.get_seq_length() + query_length, 0

    def attention(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, **how: Any
    ) -> tuple[Tensor, None]:
        """Return a step's attention [slots, 1, heads, width], as a transformers interface does."""
        layer = module.layer_idx
        if layer in self._roundings:
            query, key, value = self._roundings[layer](query, key, value)
        out = self._attend(
            query[:, :, 0],
            key[:, :, 0],
            value[:, :, 0],
            self._keys[layer],
            self._values[layer],
            self._places,
            scaling=how["scaling"],
            window=how.get("sliding_window"),
            softcap=how.get("softcap"),
            prefix=self._prefixes.get(layer),
        )
        return out[:, None], None

    # --- prompts and steps

    @contextmanager
    def running(self) -> Iterator["Slots"]:
        """Prepare the step, as a CUDA graph where it can be one, and let steps be made inside."""
        with torch.no_grad(), fused_forwards(self._model):
            if self._prefix:
                self._read_prefix()
            # One token is read for the cache to have its shapes.
            self._read([[0]], torch.zeros(1, dtype=torch.int64, device=self._ids.device))
            if self._ids.is_cuda:
                self._capture()
            try:
                yield self
            finally:
                self._graph = None

    def take(
        self, prompts: Sequence[Sequence[int]], slots: Sequence[int], uniform: Tensor | None = None
    ) -> None:
        """Read prompts into slots: each into as many that follow each other as there are for it.

        ``uniform`` float64 [slots, steps] are the numbers that its tokens are drawn by. A prompt's
        last token is left to the first step.
        """
        device, copies = self._ids.device, len(slots) // len(prompts)
        where, first = torch.tensor(slots, device=device), len(self._prefix)
        for start, stop in _parts([len(prompt) - first for prompt in prompts], first):
            rows = [prompt[first:-1] for prompt in prompts[start:stop]]
            if max(map(len, rows)):
                self._read(rows, where[start * copies : stop * copies])
        ends = torch.tensor([[prompt[-1], len(prompt) - 1] for prompt in prompts], device=device)
        ends = ends.repeat_interleave(copies, 0)
        self._ids[where, 0], self._places[where] = ends[:, 0], ends[:, 1]
        self._made[where] = 0
        if uniform is not None:
            self._uniform[where, : uniform.shape[1]] = uniform.to(device)

    def step(self) -> None:
        """Let every slot go on by one token; those that nobody waits for make some, too."""
        if self._graph is not None:
            self._graph.replay()
        else:
            with _attending(self._model, self):
                self._step()

    def _read_prefix(self) -> None:
        self._reads_prefix = True
        ids = torch.tensor([self._prefix], device=self._ids.device)
        try:
            self._model(input_ids=ids, past_key_values=self, use_cache=True, logits_to_keep=1)
        finally:
            self._reads_prefix = False

    def _read(self, rows: Sequence[Sequence[int]], where: Tensor) -> None:
        """Read rows of tokens into slots; what is filled up on the right, nothing ever sees."""
        longest = max(map(len, rows))
        ids = torch.tensor([list(row) + [0] * (longest - len(row)) for row in rows])
        self._reading = where
        try:
            self._model(
                input_ids=ids.to(where.device),
                past_key_values=self,
                use_cache=True,
                logits_to_keep=1,
            )
        finally:
            self._reading = torch.zeros(0)

    def _step(self) -> None:
        out = self._model(
            input_ids=self._ids,
            position_ids=self._places[:, None],
            past_key_values=self,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = out.logits[:, -1].float()
        at = self._made[:, None]
        tokens = self._chosen(logits, at)
        picked = logits.gather(-1, tokens)[:, 0] - logits.logsumexp(-1)
        self.tokens.scatter_(1, at, tokens)
        self.log_probs.scatter_(1, at, picked.double()[:, None])
        if self.entropies is not None:
            self.entropies.scatter_(1, at, entropy(logits)[:, None])
        self._ids.copy_(tokens)
        # A slot whose answer has ended goes on in its last place until another prompt takes it.
        self._places.add_(1).clamp_(max=len(self._prefix) + self._length - 1)
        self._made.add_(1).clamp_(max=self.tokens.shape[1] - 1)

    def _chosen(self, logits: Tensor, at: Tensor) -> Tensor:
        """Return the next tokens [slots, 1] under logits [slots, vocabulary] in fp32."""
        if self._heat is None:
            return logits.argmax(-1, keepdim=True)
        heat = self._heat[at] if isinstance(self._heat, Tensor) else self._heat
        return drawn(logits, self._uniform.gather(1, at), heat, self._banned)

    def _capture(self) -> None:
        """Make the step a CUDA graph; a model that waits for the device in it runs without one."""
        with _attending(self._model, self):
            stream = _capturing_stream(self._ids.device)
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):
                    self._step()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            try:
                with (
                    nothing_collected(),
                    torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
                ):
                    self._step()
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                torch.cuda.synchronize()
            else:
                self._graph = graph


def kernel() -> Attend:
    """Return the attention of a GPU, imported where it is asked for: it needs Triton."""
    from benchsuite.decoding.slot_kernel import attend

    return attend


@cache
def _capturing_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of all captures: cuBLAS keeps a workspace for every stream it has seen."""
    return torch.cuda.Stream(device)


_CURRENT: list[Slots] = []


@contextmanager
def _attending(model: nn.Module, slots: Slots) -> Iterator[None]:
    """Let the model attend over the slots: transformers finds an interface by its name alone."""
    config: Any = model.config
    own = config._attn_implementation
    config._attn_implementation = _IMPLEMENTATION
    _CURRENT.append(slots)
    try:
        yield
    finally:
        _CURRENT.pop()
        config._attn_implementation = own


def _interface(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **how: Any
) -> tuple[Tensor, None]:
    return _CURRENT[-1].attention(module, query, key, value, **how)


AttentionInterface.register(_IMPLEMENTATION, _interface)


def _parts(lengths: Sequence[int], before: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of prompts that are read together, by the tokens that they fill and see.

    ``before`` are the tokens of the prefix.
    """
    start, longest = 0, 0
    for i, length in enumerate(lengths):
        longest, n = max(longest, length), i + 1 - start
        too_many = longest * n > _READ_TOKENS or (before + longest) * n > _SEEN_TOKENS
        if i > start and too_many:
            yield start, i
            start, longest = i, length
    yield start, len(lengths)
