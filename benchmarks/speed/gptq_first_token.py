"""Where GPTQ's defaults lose to rounding: the values of each sequence's first token.

    python benchmarks/speed/gptq_first_token.py MODEL --train wiki.train.raw --test wiki.test.raw

Attention that finds nothing rests on the first token. Its value is then read by nearly all tokens,
while GPTQ's Hessian counts it once in a sequence. The script quantizes all linears of a Llama, or
some kinds of them alone, by rounding and by GPTQ with the first token counted so many times, and
prints the perplexity of each. Texts are files of lines, as WikiText-2's.
"""

import argparse
import copy
import dataclasses
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchsuite.evaluation.perplexity import perplexity
from benchsuite.models.architecture import Architecture, architecture_of
from benchsuite.models.gguf import model_folder
from benchsuite.quantizers import gptq
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.layers import group_linears, replace
from benchsuite.quantizers.linear import quantized_linear
from benchsuite.quantizers.result import Account
from benchsuite.quantizers.walking.hessian import Hessian
from benchsuite.quantizers.walking.walk import walk

PARTS = {
    "all": ("q", "k", "v", "o", "gate", "up", "down"),
    "q, k and v": ("q", "k", "v"),
    "o": ("o",),
    "gate and up": ("gate", "up"),
    "down": ("down",),
    "v": ("v",),
    "k": ("k",),
    "q": ("q",),
    "q and k": ("q", "k"),
}
TIMES = (0, 1, 64, 2048)


class Weighted(Hessian):
    """A Hessian in which the first token of every sequence counts so many ``times``."""

    times, seq_len = 1, 2048

    def update(self, inputs: Tensor) -> None:
        """Add inputs [sequences * seq_len, features]."""
        counted = inputs.float().unflatten(0, (-1, self.seq_len)).clone()
        counted[:, 0] *= self.times**0.5
        super().update(counted.flatten(0, 1))


class Gptq(gptq.GptqMethod):
    """GPTQ on such Hessians."""

    def statistic(self, here: Any, group: Any, device: torch.device) -> Hessian:
        """Return the Hessian that the group's linears share."""
        return Weighted(here.linears(group)[group.linears[0]].in_features, device, self.dtype)


def part_of(architecture: Architecture, kinds: tuple[str, ...]) -> Architecture:
    """Return the map of a model in which only the linears of these kinds are quantized."""
    names = {f"{kind}_proj" for kind in kinds}
    chosen = [
        dataclasses.replace(group, linears=kept)
        for group in architecture.groups
        if (kept := tuple(p for p in group.linears if p.rpartition(".")[2] in names))
    ]
    return dataclasses.replace(architecture, groups=tuple(chosen))


@torch.no_grad()
def by_gptq(model: Any, batch: Tensor, architecture: Architecture, group_size: int) -> None:
    """Quantize the linears of ``architecture`` at the calibration study's settings."""
    device = next(model.parameters()).device
    kernel = gptq.block_quantizer(device)
    grid = QuantizationGrid(4, group_size, True)
    method = Gptq(Account(model), grid, 0.01, False, kernel)
    walk(model, batch, method, architecture=architecture)


@torch.no_grad()
def by_rounding(model: Any, architecture: Architecture, group_size: int) -> None:
    """Round the linears of ``architecture`` to nearest."""
    grid = QuantizationGrid(4, group_size, True)
    for index, block in enumerate(architecture.block_list(model)):
        for group in architecture.groups:
            for path, linear in group_linears(block, group, str(index)).items():
                codes = grid.round_weight(linear.weight)
                replace(block, path, quantized_linear(linear, grid, *codes))


def main() -> None:
    """Print one line a run."""
    parser = options()
    parser.description = __doc__.splitlines()[0]
    told = parser.parse_args()
    base, batch, test = read_in(told, torch.float32)
    Weighted.seq_len = told.seq_len

    def report(name: str, model: Any, began: float) -> None:
        with using_kernel(model, "held"):
            found = perplexity(model, test, seq_len=told.seq_len).value
        print(f"{name:60s} {found:8.3f}  {time.perf_counter() - began:5.1f} s", flush=True)

    report("not quantized", base, time.perf_counter())
    for part, kinds in PARTS.items():
        architecture = part_of(architecture_of(base), kinds)
        began, model = time.perf_counter(), copy.deepcopy(base)
        by_rounding(model, architecture, told.group_size)
        report(f"{part}: rounding", model, began)
        for Weighted.times in TIMES:
            began, model = time.perf_counter(), copy.deepcopy(base)
            by_gptq(model, batch, architecture, told.group_size)
            report(f"{part}: GPTQ, first token counted {Weighted.times} times", model, began)


def read_in(told: argparse.Namespace, on_cpu: torch.dtype) -> tuple[Any, Tensor, Tensor]:
    """Return the model, the calibration batch and the test's ids; float16 on CUDA."""
    folder = model_folder(told.model) if told.model.is_file() else told.model
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    dtype = torch.float16 if told.device == "cuda" else on_cpu
    base = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False
    )
    base = base.to(told.device).eval().requires_grad_(False)
    train, test = (tokens(tokenizer, path) for path in (told.train, told.test))
    generator = torch.Generator().manual_seed(told.seed)
    starts = torch.randint(0, len(train) - told.seq_len, (told.samples,), generator=generator)
    batch = torch.stack([train[start : start + told.seq_len] for start in starts])
    return base, batch, test[: told.windows * told.seq_len]


def tokens(tokenizer: Any, path: Path) -> Tensor:
    """Return the ids of a file's lines, joined as WikiText-2's rows, which keep their line ends."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    text = "\n\n".join(line if line.strip() else "" for line in lines)
    return torch.tensor(tokenizer(text)["input_ids"])


def options(group_size: int = 128) -> argparse.ArgumentParser:
    """Return a parser of the model, the texts and the sizes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path, help="a GGUF file or a model's folder")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--group-size", type=int, default=group_size)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


if __name__ == "__main__":
    main()
