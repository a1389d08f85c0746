"""The embedded-size GPTQ cell, ours against gptqmodel's, on one CPU with equal data and threads.

    python benchmarks/speed/gptq_cpu.py [--model tiny_llama_4m] [--rounds 3]

Both quantize fresh copies of one model from the same token batch (W4 g128, symmetric, no ordering,
damping .01), in turn within one process that may use one core only; the better of the rounds counts
for each, so that neither pays for a first call. The time of gptqmodel is that of its own
``quantize`` call, without loading or saving. Bar: ours 5 times faster.
"""

import argparse
import contextlib
import os
import platform
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # fewer are refused; one core is all there is

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from benchsuite import catalog
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import checkpoint, gptq

EMBEDDED = Path(__file__).parents[2] / "benchsuite" / "embedded" / "models"
BAR = 5.0


def fresh_model(name: str) -> nn.Module:
    """Return the embedded model, or one of its shape with random weights where it is not there."""
    folder = EMBEDDED / name
    if (folder / "config.json").exists():
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.bfloat16, trust_remote_code=False
        ).eval()
    entry = catalog.model(name)
    config = AutoConfig.for_model(entry.model_type, **entry.shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return (
            AutoModelForCausalLM.from_config(config, trust_remote_code=False)
            .to(torch.bfloat16)
            .eval()
        )


def save_with_tokenizer(model: nn.Module, folder: str) -> None:
    """Save the model for gptqmodel, which wants a tokenizer beside it even for tokenized data."""
    model.save_pretrained(folder)
    words = {f"w{i}": i for i in range(model.config.vocab_size)}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")),
        unk_token="w0",
        pad_token="w0",
        eos_token="w1",
    ).save_pretrained(folder)


def ours(model: nn.Module, batch: Tensor) -> tuple[float, nn.Module]:
    """Return the seconds of our GPTQ and the model it quantized."""
    began = time.perf_counter()
    gptq.quantize(model, batch)
    return time.perf_counter() - began, model


def theirs(folder: Path, batch: Tensor) -> tuple[float, nn.Module]:
    """Return the seconds of gptqmodel's GPTQ and its model, read back from its own checkpoint."""
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

    config = QuantizeConfig(
        bits=4, group_size=128, sym=True, desc_act=False, act_group_aware=False, damp_percent=0.01
    )
    model = GPTQModel.load(str(folder), config, device="cpu", dtype=torch.bfloat16)
    samples = [
        {"input_ids": row[None], "attention_mask": torch.ones_like(row[None])} for row in batch
    ]
    began = time.perf_counter()
    model.quantize(samples, batch_size=16, backend=BACKEND.TORCH)
    seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as saved:
        model.save(saved)
        return seconds, checkpoint.load(saved)


def output_error(quantized: nn.Module, original: nn.Module, batch: Tensor) -> float:
    """Return the mean squared difference of the logits over the original's mean square."""
    with torch.no_grad():
        goal = original(input_ids=batch[:8]).logits.float()
        got = quantized(input_ids=batch[:8]).logits.float()
    return ((got - goal).square().mean() / goal.square().mean()).item()


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny_llama_4m")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    original = fresh_model(arguments.model)
    generator = torch.Generator().manual_seed(1)
    shape = (arguments.samples, arguments.seq_len)
    batch = torch.randint(3, original.config.vocab_size, shape, generator=generator)
    n_linears = len(list(architecture_of(original).named_linears(original)))
    times: dict[str, list[float]] = {"benchsuite": [], "gptqmodel": []}
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        save_with_tokenizer(original, folder)
        for _ in range(arguments.rounds):
            for name in times:
                with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
                    if name == "benchsuite":
                        seconds, model = ours(fresh_model(arguments.model), batch)
                    else:
                        seconds, model = theirs(Path(folder), batch)
                times[name].append(seconds)
                errors[name] = output_error(model, original, batch)
    print(
        f"{arguments.model}: {n_linears} linears, {shape[0]} x {shape[1]} tokens, W4 g128, "
        f"one core, torch {torch.__version__}, {platform.machine()}"
    )
    print(f"{'':12} {'best s':>8} {'all rounds':>24} {'logit error':>12}")
    for name, seconds in times.items():
        rounds = " ".join(f"{s:.2f}" for s in seconds)
        print(f"{name:12} {min(seconds):8.2f} {rounds:>24} {errors[name]:12.2e}")
    ratio = min(times["gptqmodel"]) / min(times["benchsuite"])
    print(f"ratio {ratio:.1f} (bar: at least {BAR:.0f})")


if __name__ == "__main__":
    main()
