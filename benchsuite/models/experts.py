"""Experts as modules: what transformers keeps as one tensor of all experts, taken apart.

A block's experts are one parameter [experts, 2 x inner, hidden] for gate and up, and one
[experts, hidden, inner] for down. Quantizers replace linear layers, so each expert becomes a small
MLP whose linears are views of those tensors: no byte is copied and the function stays the same.

To calibrate, every expert is shown every token, as llm-compressor does by default
(``moe_calibrate_all_experts``): an expert to which the calibration data sends few tokens, or none,
would otherwise be rounded blindly. The block's output stays the routed one, and how many tokens
each expert was really sent is counted.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


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
    None if they never were.
    """

    def __init__(self, experts: list[Expert]) -> None:
        super().__init__(experts)
        self.calibrated = False
        self.routed: list[int] | None = None

    def forward(self, hidden: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Return [tokens, hidden]: of each token's k experts the weighted sum of outputs.

        ``top_k_index`` and ``top_k_weights`` are [tokens, k].
        """
        top_k_index, ascending = top_k_index.sort(-1)
        weights = top_k_weights.gather(-1, ascending).flatten()
        # What is sent to one expert lies together, and the host asks once for all how much it is.
        sent, order = top_k_index.flatten().sort(stable=True)
        counts = torch.bincount(sent, minlength=len(self)).tolist()
        if self.calibrated and self.routed is not None:
            # Counted first: who collects statistics may leave the block before its end.
            self.routed = [before + new for before, new in zip(self.routed, counts, strict=True)]
        token = order // top_k_index.shape[1]
        outputs = torch.cat(
            [
                self._outputs(number, hidden, part)
                for number, part in enumerate(token.split(counts))
                if len(part) or self.calibrated
            ]
        )
        outputs = (outputs * weights[order, None]).to(hidden.dtype)
        back = torch.empty_like(outputs)
        back[order] = outputs
        # In the order of the experts, as they would be added one after the other.
        total = torch.zeros_like(hidden)
        for of_each in back.view(*top_k_index.shape, -1).unbind(1):
            total += of_each
        return total

    def _outputs(self, number: int, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Return an expert's outputs for its tokens; while calibrated it is shown every one."""
        expert = self[number]
        return expert(hidden)[tokens] if self.calibrated else expert(hidden[tokens])


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
