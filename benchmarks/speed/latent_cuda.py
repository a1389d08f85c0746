"""What a KaVa step costs at Llama-3.2-1B shapes with random weights, beside the machine limit.

    python benchmarks/speed/latent_cuda.py --graphs [--plain] [--compile] [--steps 20] [--batch 128]
    python benchmarks/speed/latent_cuda.py --graphs --steps 10 --micro-batches 2    # as shipped
    python benchmarks/speed/latent_cuda.py --small      # a smoke run, on a CPU too

Prints tokens per second, peak memory, the projected time of the whole configuration, and the share
of the bf16 matrix product's rate that this machine reached in the same run. What is timed are steps
over batches that were all trained on before, so that everything is compiled and captured; the host
waits for no loss in between, as a configuration's 30,000 steps do once in 600.

``--plain`` first takes the same steps by the plain operations, with nothing fused
(``benchsuite.latent.fused``): its figures stand in front, and the ratio of the two at the end.

``--profile`` prints the longest kernels of two steps.

Work is counted, not guessed, by reading the batches with an outline of the network: 2 operations
per weight and token forward and 2 backward through frozen weights (their own gradient is not
computed), 6 for LoRA's and the projection's; the head on the rows whose loss is taken. Only tokens
count: padding is no work. Attention's products and all that is not a product are left out of the
work, and in the time.
"""

import argparse
import datetime
import gc
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from benchsuite import catalog
from benchsuite.latent import fused
from benchsuite.latent.config import Config, load_config
from benchsuite.latent.examples import Example, Format
from benchsuite.latent.graphs import outline
from benchsuite.latent.methods.base import Moment
from benchsuite.latent.methods.registry import config_of, method
from benchsuite.latent.network import Reasoner, build
from benchsuite.latent.training import Steps
from benchsuite.models import random_weights

ROWS = 385_620  # of gsm8k-aug's train split


def draw(n: int, vocabulary: int) -> list[Example]:
    """Return rows of GSM8K-AUG's usual lengths, in random ids: about 64 + 30 + 4 tokens."""
    generator = torch.Generator().manual_seed(0)

    def ids(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high + 1, (), generator=generator))
        return torch.randint(3, vocabulary, (length,), generator=generator).tolist()

    def steps() -> tuple[list[int], ...]:
        return tuple(ids(8, 12) for _ in range(int(torch.randint(2, 5, (), generator=generator))))

    return [Example(ids(40, 88), steps(), ids(3, 5)) for _ in range(n)]


def ceiling(device: str, size: int) -> float:
    """Return the operations per second of a bf16 product of square matrices."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    for _ in range(5):
        a @ a
    _wait(device)
    begin = time.perf_counter()
    for _ in range(20):
        a @ a
    _wait(device)
    return 20 * 2 * size**3 / (time.perf_counter() - begin)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


class Work:
    """The tokens of some batches that pass the decoder, the head and the projection."""

    def __init__(self, net: Reasoner, config: Config) -> None:
        trained = {id(p) for p in net.parameters() if p.requires_grad}
        weights = [p for p in net.decoder.model.layers.parameters() if p.ndim > 1]
        self.lora = sum(p.numel() for p in weights if id(p) in trained)
        self.frozen = sum(p.numel() for p in weights if id(p) not in trained)
        self.head = net.lm.get_output_embeddings().weight.numel()
        self.projection = sum(p.numel() for p in net.projection.parameters() if p.ndim > 1)
        self.tokens = self.rows = self.latents = 0
        self._config, self._outline = config, outline(net)
        self._outline.decoder.register_forward_pre_hook(self._decoded)
        self._outline.lm.get_output_embeddings().register_forward_pre_hook(self._headed)

    def add(self, form: Format, examples: list[Example]) -> None:
        """Count a batch's tokens."""
        moment, latent = Moment(0.5, torch.Generator().manual_seed(0)), self._config.latent
        with torch.no_grad():
            method("kava").loss(self._outline, form.batch(examples), self._config, moment)
        self.latents += len(examples) * latent.n_latents * latent.passes

    def _decoded(self, module: torch.nn.Module, args: tuple) -> None:
        self.tokens += args[0].shape[0]  # packed: [N, hidden]

    def _headed(self, module: torch.nn.Module, args: tuple) -> None:
        self.rows += args[0].shape[0]

    def operations(self) -> float:
        """Return the products' operations, forward and backward, of all that was counted."""
        blocks = self.tokens * (4 * self.frozen + 6 * self.lora)
        return blocks + self.rows * 4 * self.head + self.latents * 6 * self.projection


Batches = list[list[list[Example]]]
"""A step's micro-batches, step by step."""


def timed(steps: Steps, batches: Batches, passes: int, device: str) -> float:
    """Return the seconds of one step over each batch, after so many passes over all of them."""
    parts, begin = {}, 0.0
    for _ in range(passes + 1):
        _wait(device)
        begin = time.perf_counter()
        for step, micro_batches in enumerate(batches):
            parts = steps(micro_batches, Moment(0.5, torch.Generator().manual_seed(step)))
    _wait(device)
    seconds = time.perf_counter() - begin
    assert all(torch.isfinite(part) for part in parts.values())
    return seconds


def profile(steps: Steps, batches: Batches) -> None:
    """Print what the kernels of a step over each batch take, the longest first."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        timed(steps, batches, 0, "cuda")
    found = sorted(seen.key_averages(), key=lambda each: -each.self_device_time_total)
    whole = sum(each.self_device_time_total for each in found)
    print(f"-- kernels, {whole / 1000:.1f} ms in {len(batches)} steps", flush=True)
    for each in found[:30]:
        print(f"{each.self_device_time_total / 1000:9.2f} ms {each.count:6} x {each.key[:110]}")


def options() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128, help="rows a step: the document's 128")
    parser.add_argument("--micro-batches", type=int, default=1, help="of one step, one by one")
    parser.add_argument("--compile", action="store_true", help="training.torch_compile")
    parser.add_argument("--graphs", action="store_true", help="training.cuda_graphs")
    parser.add_argument("--plain", action="store_true", help="the plain operations too, first")
    parser.add_argument("--profile", action="store_true", help="kernels' milliseconds in two steps")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, help="keep the figures here as JSON")
    chosen = parser.parse_args()
    if chosen.batch % chosen.micro_batches:
        parser.error("--batch must be a multiple of --micro-batches")
    return chosen


def main() -> None:
    """Measure and print."""
    chosen = options()
    found = {}
    if chosen.plain:
        with fused.plain_operations():
            found["plain"] = measured(chosen)
    found["fused" if not chosen.compile else "compiled"] = measured(chosen)
    for name, figures in found.items():
        print(f"-- {name}", flush=True)
        for key, value in figures.items():
            print(f"{key:28} {f'{value:.4g}' if isinstance(value, float) else value}", flush=True)
    if chosen.plain:
        before, after = (each["seconds_per_step"] for each in found.values())
        print(f"{'times as fast':28} {before / after:.3f}")
    if chosen.out:
        chosen.out.write_text(json.dumps(found, indent=1))


def measured(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a network that is built anew."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    entry = catalog.model("tiny_llama_1m" if chosen.small else "llama3_2_1b")
    batch, parts = 4 if chosen.small else chosen.batch, chosen.micro_batches
    config = config_of("kava", load_config("llama1b_aug")).changed(
        {
            "training": {
                "per_device_train_batch_size": batch // parts,
                "gradient_accumulation_steps": parts,
                "torch_compile": chosen.compile,
                "cuda_graphs": chosen.graphs,
            },
            "lora": {"r": 8} if chosen.small else {},
        }
    )
    lm = random_weights.build(entry, device=device, dtype="bfloat16", seed=0)
    net = build(lm, config, seed=0)
    del lm
    form = Format(random_weights.rehearsal_tokenizer(entry), config.data.marker)
    examples = draw(batch * chosen.steps, entry.shape["vocab_size"])
    several = [examples[n : n + batch // parts] for n in range(0, len(examples), batch // parts)]
    work = Work(net, config)
    for each in several:
        work.add(form, each)
    batches = [several[n : n + parts] for n in range(0, len(several), parts)]
    # The first batch of a shape is trained on as ever, the second is captured.
    passes = 2 if chosen.graphs else 1
    steps = Steps(net, method("kava"), config, form, examples)
    seconds = timed(steps, batches, passes, device)
    reserved = torch.cuda.max_memory_reserved() if device == "cuda" else 0
    if chosen.profile and device == "cuda":
        profile(steps, batches[:2])
    rate, limit = work.operations() / seconds, ceiling(device, 512 if chosen.small else 8192)
    epochs = config.training.num_train_epochs
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "model": entry.name,
        "batch": batch,
        "micro_batches": parts,
        "compiled": chosen.compile,
        "graphs": chosen.graphs,
        "seconds_per_step": seconds / chosen.steps,
        "decoder_tokens_per_second": work.tokens / seconds,
        "examples_per_second": batch * chosen.steps / seconds,
        "reserved_gib": reserved / 2**30,  # at most, capturing included
        "tflops": rate / 1e12,
        "ceiling_tflops": limit / 1e12,
        "share_percent": 100 * rate / limit,
        "whole_configuration_hours": ROWS * epochs / (batch * chosen.steps / seconds) / 3600,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": datetime.date.today().isoformat(),
    }


if __name__ == "__main__":
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    main()
