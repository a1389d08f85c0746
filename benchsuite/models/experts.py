"""Experts as modules: what transformers keeps as one tensor of all experts, taken apart.

A block's experts are one parameter [experts, 2 x inner, hidden] for gate and up, and one
[experts, hidden, inner] for down. Quantizers replace linear layers, so each expert becomes a small
MLP whose linears are views of those tensors: no byte is copied and the function stays the same.

To calibrate, every expert is shown every token, as llm-compressor does by default
(``moe_calibrate_all_experts``): an expert to which the calibration data sends few tokens, or none,
would otherwise be rounded blindly. The block's output stays the routed one, and how many tokens
each expert was really sent is counted.

A GPU multiplies what is sent to all experts at once (``at_once``), by one grouped product for each
of the three projections: one by one they are some ten launches an expert, which Python starts more
slowly than a GPU runs them.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPED = (torch.bfloat16, torch.float16, torch.float32)
"""What PyTorch's grouped product takes. On Hopper and later the first is one kernel; others, and
older GPUs, are a loop over the experts in C++."""


class Expert(nn.Module):
    """One expert: down(act(gate(x)) * up(x)), its weights views of the tensors of all experts."""

    def __init__(self, gate_up: Tensor, down: Tensor, activation: nn.Module) -> None:
        """Take gate_up [2 x inner, hidden] and down [hidden, inner]."""
        super().__init__()
        gate, up = gate_up.chunk(2)
        self.gate_proj, self.up_proj, self.down_proj = map(_linear, (gate, up, down))
        self.act_fn = activation

    def forward(self, x: Tensor) -> Tensor:
        """Return [tokens, hidden] for [tokens, hidden]."""
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


def _linear(weight: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return linear


class Experts(nn.ModuleList):
    """The experts of one block, called as transformers calls its own.

    ``routed`` counts the tokens that each expert was sent while they were last calibrated; it is
    None if they never were. ``separate`` runs them one by one, whatever they are sent.
    """

    def __init__(self, experts: list[Expert]) -> None:
        super().__init__(experts)
        self.calibrated = self.separate = False
        self.routed: list[int] | None = None

    def forward(self, hidden: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Return [tokens, hidden]: of each token's k experts the weighted sum of outputs.

        ``top_k_index`` and ``top_k_weights`` are [tokens, k].
        """
        top_k_index, ascending = top_k_index.sort(-1)
        weights = top_k_weights.gather(-1, ascending).flatten()
        # What is sent to one expert lies together.
        sent, order = top_k_index.flatten().sort(stable=True)
        token = order // top_k_index.shape[1]
        outputs = self.at_once(hidden, sent, token) if self._many(hidden, sent) else None
        if outputs is None:
            outputs = self.one_by_one(hidden, sent, token)
        outputs = (outputs * weights[order, None]).to(hidden.dtype)
        back = torch.empty_like(outputs)
        back[order] = outputs
        # In the order of the experts, as they would be added one after the other.
        total = torch.zeros_like(hidden)
        for of_each in back.view(*top_k_index.shape, -1).unbind(1):
            total += of_each
        return total

    def _many(self, hidden: Tensor, sent: Tensor) -> bool:
        """Whether to run all experts at once: if they are sent a token each, on average.

        Of fewer many experts are sent none, and their weights would be unpacked or read for
        nothing. On a CPU a launch costs nothing, and the weights of all would take memory.
        """
        fits = hidden.is_cuda and hidden.dtype in GROUPED and not torch.is_grad_enabled()
        return fits and not self.calibrated and not self.separate and len(sent) >= len(self)

    def one_by_one(self, hidden: Tensor, sent: Tensor, token: Tensor) -> Tensor:
        """Return [n, hidden], what expert ``sent[i]`` makes of token ``token[i]`` of ``hidden``.

        ``sent`` int64 [n] is in ascending order. While calibrated each expert is shown every token.
        """
        # The host asks once for all how much each is sent.
        counts = torch.bincount(sent, minlength=len(self)).tolist()
        if self.calibrated and self.routed is not None:
            # Counted first: who collects statistics may leave the block before its end.
            self.routed = [before + new for before, new in zip(self.routed, counts, strict=True)]
        return torch.cat(
            [
                self._outputs(number, hidden, part)
                for number, part in enumerate(token.split(counts))
                if len(part) or self.calibrated
            ]
        )

    def _outputs(self, number: int, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Return an expert's outputs for its tokens; while calibrated it is shown every one."""
        expert = self[number]
        return expert(hidden)[tokens] if self.calibrated else expert(hidden[tokens])

    def at_once(self, hidden: Tensor, sent: Tensor, token: Tensor) -> Tensor | None:
        """Return what `one_by_one` does, up to last bits, by one product for each projection.

        None where experts or linears are not alike, have hooks or do more than multiply by a
        weight: see `_weights`. In bfloat16 on Hopper the host waits for nothing.
        """
        if not all(_untouched(expert, Expert) for expert in self):
            return None
        numbers = torch.arange(len(self), device=sent.device)
        ends = torch.searchsorted(sent, numbers, right=True, out_int32=True)
        inputs = hidden[token]
        gate = self._product("gate_proj", inputs, ends)
        up = None if gate is None else self._product("up_proj", inputs, ends)
        if gate is None or up is None:
            return None
        first: Any = self[0]
        return self._product("down_proj", first.act_fn(gate) * up, ends)

    def _product(self, name: str, inputs: Tensor, ends: Tensor) -> Tensor | None:
        """Return inputs [n, in] times the experts' weights, each up to its end: [n, out]."""
        weights = _weights([getattr(expert, name) for expert in self], inputs)
        if weights is None or weights.stride(1) * weights.itemsize % 16:  # which the product wants
            return None
        return F.grouped_mm(inputs, weights.transpose(1, 2), offs=ends)


def _weights(linears: Sequence[Any], inputs: Tensor) -> Tensor | None:
    """Return the weights [linears, out, in] that all of ``inputs`` are multiplied by, or None.

    A class of linears has them at once if it has ``stacked``, as packed ones do, or is PyTorch's.
    """
    kind = type(linears[0])
    stacked = _stacked if kind is nn.Linear else getattr(kind, "stacked", None)
    if stacked is None or not all(_untouched(linear, kind) for linear in linears):
        return None
    if any(linear.bias is not None for linear in linears):
        return None
    return stacked(linears, inputs)


def _untouched(module: nn.Module, kind: type) -> bool:
    """Whether a call of the module is the forward of its class ``kind``, and no hook's."""
    held = module.__dict__
    hooks = held["_forward_hooks"] or held["_forward_pre_hooks"]
    return type(module) is kind and not hooks and "forward" not in held


def _stacked(linears: Sequence[nn.Linear], inputs: Tensor) -> Tensor | None:
    weights = [linear.weight for linear in linears]
    if any(w.shape != weights[0].shape or w.dtype != inputs.dtype for w in weights):
        return None
    whole = lying_together(weights)
    return torch.stack(weights) if whole is None else whole


def lying_together(tensors: Sequence[Tensor]) -> Tensor | None:
    """Return tensors of one shape and dtype as one, [n, *shape], without a copy.

    None unless they lie in one storage at equal distances, as parts of a whole do.
    """
    first, n_bytes = tensors[0], tensors[0].nbytes
    places = [tensor.data_ptr() for tensor in tensors]
    step = places[1] - places[0] if len(places) > 1 else n_bytes
    if step < n_bytes or places != list(range(places[0], places[0] + step * len(places), step)):
        return None
    if tensors[-1].untyped_storage().data_ptr() != first.untyped_storage().data_ptr():
        return None
    strides = {tensor.stride() for tensor in tensors}
    if len(strides) > 1 or step % first.itemsize:
        return None
    return first.as_strided((len(tensors), *first.shape), (step // first.itemsize, *strides.pop()))


def unfuse_experts(model: nn.Module) -> None:
    """Take all experts of a transformers model apart, in place on its module tree.

    The model's tensors are shared and only read. What has been taken apart stays as it is.
    """
    for module in list(model.modules()):
        experts = getattr(module, "experts", None)
        if isinstance(experts, nn.Module) and not isinstance(experts, Experts):
            module.experts = _apart(experts)


def _apart(fused: Any) -> Experts:
    pairs = zip(fused.gate_up_proj.detach(), fused.down_proj.detach(), strict=True)
    return Experts([Expert(*pair, fused.act_fn) for pair in pairs])


def n_experts(mlp: nn.Module) -> int:
    """Return how many experts an MLP has that was taken apart, 0 for an ordinary one."""
    experts = getattr(mlp, "experts", None)
    return len(experts) if isinstance(experts, Experts) else 0


def routed_tokens(model: nn.Module, path: str) -> int | None:
    """Return how many calibration tokens were sent to the expert that ``path`` lies in.

    None where it lies in none, or in one that was not calibrated.
    """
    parts = path.split(".")
    for length in range(1, len(parts)):
        module = model.get_submodule(".".join(parts[:length]))
        if isinstance(module, Experts):
            return None if module.routed is None else module.routed[int(parts[length])]
    return None


def add_routed(block: nn.Module, others: Iterable[nn.Module]) -> None:
    """Add to a block's counts of routed tokens those of its replicas, which saw other tokens."""
    for other in others:
        for mine, theirs in zip(block.modules(), other.modules(), strict=True):
            if isinstance(mine, Experts) and isinstance(theirs, Experts):
                assert mine.routed is not None
                assert theirs.routed is not None
                mine.routed = [a + b for a, b in zip(mine.routed, theirs.routed, strict=True)]


@contextmanager
def calibrating(block: nn.Module) -> Iterator[None]:
    """Show every expert of the block every token, and count the tokens that each is sent."""
    every = [module for module in block.modules() if isinstance(module, Experts)]
    for experts in every:
        experts.calibrated = True
        experts.routed = [0] * len(experts)
    try:
        yield
    finally:
        for experts in every:
            experts.calibrated = False


@contextmanager
def separate_experts(model: nn.Module) -> Iterator[None]:
    """Run experts one by one inside the block, whether or not all are alike: to the same bits."""
    every = [module for module in model.modules() if isinstance(module, Experts)]
    for experts in every:
        experts.separate = True
    try:
        yield
    finally:
        for experts in every:
            experts.separate = False
