"""The cache alone: keys and values rounded, weights and everything else as they are.

What an attention reads of its cache is rounded: of every token by itself, so that generating with a
cache and without gives the same numbers. Keys are rounded behind the rotary embedding, where caches
hold them.

| numbers | what shares a scale | bits |
|---|---|---|
| ``fp8_plain`` | nothing: keys and values as they are in E4M3, vLLM's ``kv_cache_dtype=fp8`` | 8 |
| ``fp8_tensor`` | all keys of a layer, and all its values, fixed by calibration data | 8 |
| ``fp8_head`` | those of a head, fixed likewise | 8 |
| ``int8`` | a head's numbers of one token, symmetric | 8 and a scale |
| ``int4`` | 32 of them, asymmetric | 4, a scale and a zero point |

E4M3's scales are max|x| / 448. What later lies beyond them is cut off. Rounding is a simulation:
the cache in memory has the model's own dtype.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.decoding.rounded import round_in_attention
from benchsuite.errors import UsageError
from benchsuite.models.architecture import architecture_of
from benchsuite.models.streaming import is_streamed
from benchsuite.quantizers.formats.activations import fake_quantize_groups, fake_quantize_per_token
from benchsuite.quantizers.layers import Progress, refuse_infinite_linears
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.finite import refuse_infinite_inputs
from benchsuite.quantizers.walking.walk import GIVE_BATCH, check_batch

NUMBERS = ("fp8_plain", "fp8_tensor", "fp8_head", "int8", "int4")
FIXED = ("fp8_tensor", "fp8_head")
"""The numbers whose scales calibration data fix."""
GROUP = 32
_E4M3, _LARGEST = torch.float8_e4m3fn, 448.0


class Rounder(nn.Module):
    """Rounds keys or values [batch, heads, tokens, width] of one layer to one of `NUMBERS`.

    ``scale`` float32 [1 or heads, 1, 1] is E4M3's where it is fixed. While ``measuring`` it is
    found, and nothing is rounded.
    """

    scale: Tensor | None

    def __init__(self, numbers: str) -> None:
        super().__init__()
        self.numbers, self.measuring = numbers, numbers in FIXED
        self.register_buffer("scale", None)

    def forward(self, x: Tensor) -> Tensor:
        """Return x, rounded, of its dtype."""
        if self.measuring:
            self._measure(x)
            return x
        if self.numbers == "int8":
            return fake_quantize_per_token(x, 8)
        if self.numbers == "int4":
            return fake_quantize_groups(x, 4, GROUP)
        scale = torch.ones((), device=x.device) if self.scale is None else self.scale.to(x.device)
        held = (x.float() / scale).clamp_(-_LARGEST, _LARGEST).to(_E4M3)
        return (held.float() * scale).to(x.dtype)

    def _measure(self, x: Tensor) -> None:
        dims = (0, 2, 3) if self.numbers == "fp8_head" else (0, 1, 2, 3)
        found = x.abs().amax(dims).float().view(-1, 1, 1) / _LARGEST
        found = torch.where(found == 0, torch.ones_like(found), found)
        self.scale = found if self.scale is None else torch.maximum(self.scale, found)

    def _apply(self, fn: Any, recurse: bool = True) -> "Rounder":
        """Move like any module, but keep the scale in float32."""
        scale = self.scale
        super()._apply(fn, recurse)
        if scale is not None and self.scale is not None:
            self.scale = scale.to(self.scale.device)
        return self

    def extra_repr(self) -> str:
        """Return the kind of numbers, for the module's repr."""
        return self.numbers


class CacheRounding(nn.Module):
    """Rounds the keys and values of one attention; ``decoding.rounded`` has who uses it."""

    def __init__(self, numbers: str) -> None:
        super().__init__()
        self.keys, self.values = Rounder(numbers), Rounder(numbers)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query as it is, and key and value [batch, heads, tokens, width] rounded."""
        return query, self.keys(key), self.values(value)


def bits(numbers: str, width: int) -> float:
    """Return the bits of one number of a head of ``width``: scales of tokens are float16."""
    if numbers == "int4":
        return 4 + 2 * 16 / min(GROUP, width)
    return 8 + (16 / width if numbers == "int8" else 0)


@torch.no_grad()
def quantize(
    model: Any,
    batch: Tensor | None = None,
    *,
    numbers: str,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Let every attention of ``model`` read a cache of `NUMBERS`, in place on its module tree.

    ``batch``, int64 [n_samples, seq_len], is what fixed scales are found on, in the model as it is.
    The result's ``recorded`` has ``cache_bits`` per number, and ``cache_bytes_per_token`` of a
    token's keys and values in all layers. Raises ``UsageError`` for an unknown cache, a streamed
    model, and fixed scales without data.
    """
    if numbers not in NUMBERS:
        raise UsageError(f"unknown cache {numbers!r}", fix=f"Known: {', '.join(NUMBERS)}")
    if is_streamed(model):
        raise UsageError(
            "the cache of a model whose blocks come and go is not rounded",
            fix="use a device that holds it whole",
        )
    if numbers in FIXED and batch is None:
        raise UsageError("a cache with fixed scales needs calibration data", "cache", GIVE_BATCH)
    account, architecture = Account(model), architecture_of(model)
    refuse_infinite_linears(architecture.named_blocks(model), architecture)
    (path,) = next(group.linears for group in architecture.groups if group.name == "o")
    attentions: list[Any] = [
        block.get_submodule(path.rpartition(".")[0]) for block in architecture.block_list(model)
    ]
    round_in_attention(model, ((each, CacheRounding(numbers)) for each in attentions))
    if numbers in FIXED:
        assert batch is not None
        with account.timed("calibration"):
            _calibrate(model, batch, progress)
    config = model.config.get_text_config()
    width = attentions[0].head_dim
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    per_number = bits(numbers, width)
    in_all = 2 * len(attentions) * heads * width
    return dataclasses.replace(
        account.close(),
        latency_simulated=True,
        recorded={"cache_bits": per_number, "cache_bytes_per_token": in_all * per_number / 8},
    )


def _calibrate(model: Any, batch: Tensor, progress: Progress | None) -> None:
    """Fix the scales to what the unrounded model's keys and values become."""
    check_batch(batch)
    device = next(model.parameters()).device
    for number, sample in enumerate(batch):
        if progress is not None:
            progress("calibrate", number, len(batch))
        model.base_model(input_ids=sample[None].to(device), use_cache=False)
    for name, module in model.named_modules():
        if isinstance(module, Rounder):
            assert module.scale is not None
            refuse_infinite_inputs(module.scale, name)
            module.measuring = False
