"""GPTQ on one GPU at true layer shapes with random weights: seconds per layer by stage.

    python benchmarks/speed/gptq_cuda.py [--model llama2_7b] [--layers 2] [--samples 128]

Prints the machine's measured rates beside the stages, so that the distance from the limit can be
read off. The last layer needs no forward after it; the stages of an inner layer are those of n + 1
layers less those of n.
"""

import argparse
import time

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from benchsuite import catalog
from benchsuite.quantizers import gptq


def fresh_model(name: str, n_layers: int) -> nn.Module:
    """Return the catalogued model with fewer layers and random weights, on the GPU."""
    entry = catalog.model(name)
    shape = dict(entry.shape) | {"num_hidden_layers": n_layers}
    config = AutoConfig.for_model(entry.model_type, **shape)
    with torch.device("cuda"), torch.random.fork_rng(devices=[0]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, entry.dtype)).eval()


def rates() -> dict[str, float]:
    """Return measured TFLOP/s of half and single precision products and the copy rate in TB/s."""
    half = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    single = torch.randn(4096, 4096, device="cuda")
    big = torch.empty(2**31, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(big)

    def seconds(run) -> float:
        run()
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(5):
            run()
        torch.cuda.synchronize()
        return (time.perf_counter() - began) / 5

    return {
        "bf16 TFLOP/s": 2 * 8192**3 / seconds(lambda: half @ half) / 1e12,
        "fp32 TFLOP/s": 2 * 4096**3 / seconds(lambda: single @ single) / 1e12,
        "copy TB/s": 2 * 2**31 / seconds(lambda: target.copy_(big)) / 1e12,
    }


def main() -> None:
    """Run a warm-up and two depths, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="llama2_7b")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--tokens-per-step", type=int)
    arguments = parser.parse_args()
    print(torch.cuda.get_device_name(), torch.__version__, rates())
    generator = torch.Generator().manual_seed(1)
    shape = (arguments.samples, arguments.seq_len)
    vocabulary = catalog.model(arguments.model).shape["vocab_size"]
    batch = torch.randint(0, vocabulary, shape, generator=generator)
    measured = []
    for n_layers in (1, arguments.layers, arguments.layers + 1):
        model = fresh_model(arguments.model, n_layers)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        result = gptq.quantize(model, batch, tokens_per_step=arguments.tokens_per_step)
        torch.cuda.synchronize()
        stages = result.stage_seconds | {"all": time.perf_counter() - began}
        measured.append(stages)
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(
            f"{n_layers} layers, peak {peak:.1f} GiB:", {k: round(v, 3) for k, v in stages.items()}
        )
        del model, result
    last, before = measured[-1], measured[-2]
    print("one more layer:", {k: round(last[k] - before[k], 3) for k in last})


if __name__ == "__main__":
    main()
