"""Answers on one GPU: slots and graphs beside the plain loop, vLLM, and the bytes that bound them.

    python benchmarks/speed/answers_cuda.py [--model llama3_2_1b_instruct] [--vllm-python PYTHON]
    python benchmarks/speed/answers_cuda.py --model tiny_llama_1m --device cpu --prompts 4   # smoke

Weights are random at a model's true shapes, prompts are random tokens of one length, every answer
has the same number of tokens. Each way answers once to warm up, then is timed: everything from
prompts to texts, reading the prompts and capturing the graph included. vLLM runs in a process of
its own with dummy weights, decoding by CUDA graphs, without detokenizing. The limit is what one
step must read at least: all weights once, and every row's keys and values at their mean length.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import machine
import torch

from benchsuite import catalog
from benchsuite.evaluation import generation
from benchsuite.models import random_weights

HBM_BYTES_PER_S = {"H100": 3.35e12, "H200": 4.8e12}

VLLM = """
import json, os, sys, time
os.environ |= {"VLLM_USE_FLASHINFER_SAMPLER": "0", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1"}
from vllm import LLM, SamplingParams
asked = json.load(open(sys.argv[1]))
llm = LLM(model=asked["folder"], skip_tokenizer_init=True, load_format="dummy", dtype="bfloat16",
          max_model_len=asked["length"], gpu_memory_utilization=0.5,
          max_num_seqs=len(asked["prompts"]), enable_prefix_caching=False,
          compilation_config={"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"})
how = SamplingParams(temperature=0, max_tokens=asked["new"], ignore_eos=True, detokenize=False)
times = []
for _ in range(4):
    began = time.perf_counter()
    out = llm.generate([{"prompt_token_ids": p} for p in asked["prompts"]], how, use_tqdm=False)
    times.append(time.perf_counter() - began)
    n = sum(len(o.outputs[0].token_ids) for o in out)
print("VLLM " + json.dumps([n, min(times[1:])]))
"""


class NeverEnding:
    """A tokenizer whose tokens are letters and none an end."""

    eos_token_id = None
    chat_template = None

    def decode(self, ids: list[int], **_: Any) -> str:
        """Return a letter a token."""
        return "".join(chr(0x100 + i % 500) for i in ids)


def wait() -> None:
    """Wait until the GPU, if there is one, has done what it was sent."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(run: Callable[[], int], repeats: int = 3) -> tuple[int, float]:
    """Return the tokens made and the least seconds, after one run that does not count."""
    run()
    times = []
    for _ in range(repeats):
        wait()
        began = time.perf_counter()
        n = run()
        wait()
        times.append(time.perf_counter() - began)
    return n, min(times)


def main() -> None:
    """Measure every way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="llama3_2_1b_instruct")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--length", type=int, default=247)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--vllm-python", help="an interpreter that has vLLM")
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    entry = catalog.model(told.model)
    model: Any = random_weights.build(entry, device=told.device, dtype=told.dtype, seed=42)
    model.eval().generation_config.eos_token_id = None
    rng = torch.Generator().manual_seed(42)
    drawn = torch.randint(5, model.config.vocab_size, (told.prompts, told.length), generator=rng)
    prompts = drawn.tolist()

    def ours(batch: int = told.prompts) -> int:
        made = generation.generate(
            model, NeverEnding(), prompts, max_new_tokens=told.new, batch_size=batch
        )
        return sum(map(len, made.token_ids))

    rows: dict[str, tuple[int, float]] = {"as it is": timed(ours)}
    with patch.object(generation, "grows_in_slots", return_value=False):
        for batch in {min(32, told.prompts), told.prompts}:
            rows[f"plain loop, batches of {batch}"] = timed(partial(ours, batch), 1)
    if told.vllm_python:
        rows["vLLM"] = vllm(model, prompts, told)
    best = rows.get("vLLM")
    for name, (n, seconds) in rows.items():
        beside = f"{n / seconds / (best[0] / best[1]):6.2f} of vLLM's" if best else ""
        print(f"{name:28s} {n:7d} tokens {seconds:8.3f} s {n / seconds:9.0f} tokens/s {beside}")
    facts = {
        **machine.facts(told.device),
        "model": f"{told.model}, random weights, {told.dtype}",
        "prompts": f"{told.prompts} of {told.length} tokens, {told.new} new",
        "limit_tokens_per_s": limit(model, told),
    }
    print(*(f"{key}: {value}" for key, value in facts.items()), sep="\n")
    if told.out:
        told.out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


def limit(model: Any, told: argparse.Namespace) -> float | None:
    """Return the tokens/s that reading weights, keys and values once a step would allow."""
    name = torch.cuda.get_device_name() if told.device == "cuda" else ""
    rate = next((rate for card, rate in HBM_BYTES_PER_S.items() if card in name), None)
    if rate is None:
        return None
    config, size = model.config, next(model.parameters()).element_size()
    weights = sum(p.numel() for p in model.parameters()) * size
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kept = 2 * config.num_hidden_layers * config.num_key_value_heads * width * size
    rows = told.prompts * (told.length + told.new / 2) * kept
    return round(told.prompts * rate / (weights + rows))


def vllm(model: Any, prompts: list[list[int]], told: argparse.Namespace) -> tuple[int, float]:
    """Return the tokens and seconds of vLLM on the same prompts and shapes."""
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        asked = Path(folder, "asked.json")
        length = told.length + told.new + 1
        asked.write_text(
            json.dumps({"folder": folder, "prompts": prompts, "new": told.new, "length": length})
        )
        ran = subprocess.run(
            [told.vllm_python, "-c", VLLM, str(asked)], capture_output=True, text=True, check=False
        )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("VLLM ")]
    if not lines:
        sys.exit(f"vLLM did not answer:\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}")
    n, seconds = json.loads(lines[-1].removeprefix("VLLM "))
    return n, seconds


if __name__ == "__main__":
    main()
