"""Our checkpoints in vLLM against our own model of the same weights, on one GPU.

    python benchmarks/speed/vllm_cuda.py --python vllm/bin/python --out agreement.json
    python benchmarks/speed/vllm_cuda.py --engine transformers --device cpu \\
        --model tiny_llama_4m --methods gptq_w4 awq_w4

A model of true shapes with random weights, its logits brought to a standard deviation of 4 (a
random head's are 1, almost a uniform choice; at 4 the entropy is some 4 nats, like a trained
model's), is quantized and saved in AutoGPTQ's, AutoAWQ's or compressed-tensors' format, and not at
all. Each is loaded by vLLM and stays here. Compared are log-probabilities of random tokens,
teacher-forced, and greedy completions up to the first open choice; for scale, what float16 does to
our own against the same integers in float32, and our kernel for few tokens against the unpacked
weight. Ends with status 1 where a tolerance (``benchsuite.engines.agreement``) is not kept.
"""

import argparse
import copy
import json
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchsuite import catalog, quantizers
from benchsuite.engines import EngineError, EngineProcess, agreement, engine, serving
from benchsuite.evaluation.forced import greedy_choices, teacher_forced
from benchsuite.models import random_weights
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers.linear import FEW_TOKENS

METHODS = (
    *("fp16", "gptq_w4", "awq_w4", "smoothquant_w8a8"),
    *("rotated_gptq_w4", "mixed_w5"),
    *("fp8_static", "fp8_dynamic", "fp8_block"),
    *("nvfp4_w4a16", "nvfp4_gptq_w4a16", "mxfp4_w4a16"),
    "kv_fp8_plain",
)
ROUNDS_INPUTS = ("fp8_", "smoothquant_")
"""How the names of methods begin whose layers round what they read."""
LOGIT_STD = 4.0
SEED = 42


def main() -> int:
    """Compare every method and print the table."""
    arguments = parsed()
    entry = catalog.model(arguments.model)
    prompts, batch = tokens(entry.shape["vocab_size"], arguments)
    rows = []
    with tempfile.TemporaryDirectory() as root:
        # All import at once: that takes longer than anything else at start-up.
        processes = {name: started(name, arguments, Path(root)) for name in arguments.methods}
        for name, process in processes.items():
            with process:
                row = {"method": name}
                # vLLM's attention over a cache in FP8 writes bfloat16 alone.
                dtype = "bfloat16" if name == "kv_fp8_plain" else "float16"
                model = network(entry, arguments.device, dtype)
                try:
                    row |= compared(name, model, batch, prompts, process, arguments, Path(root))
                except EngineError as error:
                    row["error"] = str(error)
            rows.append(row)
            print(line(row), flush=True)
            del model
    facts = {"device": device_name(arguments.device), "torch": torch.__version__}
    facts |= {"model": arguments.model, "logit_std": LOGIT_STD, "python": platform.python_version()}
    if arguments.out:
        arguments.out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    print(*(f"{key} {value}" for key, value in facts.items()), sep=", ")
    return 0 if all(row.get("holds") for row in rows) else 1


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="llama3_2_1b_instruct")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--python", default=sys.executable, help="the engine's interpreter")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--calibration", type=int, nargs=2, default=(32, 512))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def tokens(vocabulary: int, arguments: argparse.Namespace) -> tuple[list[list[int]], Tensor]:
    """Return the prompts and the calibration batch: random ids."""
    generator = torch.Generator().manual_seed(SEED)

    def draw(n: int, length: int) -> Tensor:
        return torch.randint(0, vocabulary, (n, length), generator=generator)

    return draw(arguments.prompts, arguments.length).tolist(), draw(*arguments.calibration)


def network(entry: Any, device: str, dtype: str) -> Any:
    """Return the random model, its logits of standard deviation ``LOGIT_STD``."""
    model = random_weights.build(entry, device=device, dtype=dtype, seed=SEED)
    final: Any = model.get_submodule(architecture_of(model).final_norm)
    final.weight.mul_(LOGIT_STD)
    return model.eval()


def started(name: str, arguments: argparse.Namespace, root: Path) -> EngineProcess:
    """Return a process of the engine, which imports its libraries meanwhile."""
    (root / name).mkdir()
    log, which = root / f"{name}.log", arguments.engine
    return EngineProcess(which, engine(which), log=log, python=arguments.python)


def compared(
    name: str,
    model: Any,
    batch: Tensor,
    prompts: list[list[int]],
    process: EngineProcess,
    arguments: argparse.Namespace,
    root: Path,
) -> dict[str, Any]:
    """Quantize, save, load in the engine and compare; a row of the table."""
    folder, steps = root / name, arguments.steps
    if name != "fp16":
        batch = batch.to(arguments.device)
        quantizers.apply(name, model, batch, seed=SEED, progress=None, group_size=128)
    cache = {"kv_cache_dtype": "fp8"} if name == "kv_fp8_plain" else {}
    refused = serving.write(model, folder, quantized=name != "fp16" and not cache)
    if refused:
        raise EngineError(refused)
    ours = teacher_forced(model, prompts)
    with quantizers.using_kernel(model, "few_tokens"):
        # The packed codes are read for so many at once and no more.
        parts = [prompts[i : i + FEW_TOKENS] for i in range(0, len(prompts), FEW_TOKENS)]
        chosen = [row for part in parts for row in greedy_choices(model, part, steps)]
    settings = serving.settings_for(model, len(prompts[0]) + steps, samples=len(prompts))
    source = {"source": {"entry": asdict(catalog.model(arguments.model))}}
    own = {**source, "device": arguments.device} if arguments.engine == "transformers" else {}
    told = process.load(checkpoint_folder=str(folder), **settings, **own, **cache)
    scored = process.score(prompts)
    made = process.generate(prompts, steps)
    rounds = name.startswith(ROUNDS_INPUTS) or bool(cache)
    tolerance = agreement.ROUNDED_INPUTS if rounds else agreement.WEIGHT_ONLY
    found = agreement.agreement(
        ours, scored["logprobs"], scored["best"], chosen, made.tokens, tolerance=tolerance
    )
    return {
        **asdict(found),
        "holds": found.holds,
        **for_scale(model, prompts, ours, chosen, scored["logprobs"]),
        "using": told.get("using", []),
        "engine": {k: told[k] for k in ("vllm", "torch", "device") if k in told},
    }


def for_scale(
    model: nn.Module, prompts: list[list[int]], ours: Any, chosen: Any, theirs: Any
) -> dict[str, float]:
    """Return how far float16 is from the same integers in float32, and kernel from kernel."""
    completed = [[*prompt, *row.best.tolist()] for prompt, row in zip(prompts, chosen, strict=True)]
    again = teacher_forced(model, completed)
    few = [
        np.abs(a.log_probs[-len(c.best) :] - c.log_probs)
        for a, c in zip(again, chosen, strict=True)
    ]
    exact = teacher_forced(copy.deepcopy(model).float(), prompts)
    mine = agreement.distance(exact, [row.log_probs.tolist() for row in ours])
    other = agreement.distance(exact, theirs)
    return {
        "ours_to_float32": float(mine.max()),
        "ours_to_float32_mean": float(mine.mean()),
        "theirs_to_float32": float(other.max()),
        "theirs_to_float32_mean": float(other.mean()),
        "few_tokens_to_unpacked": float(np.concatenate(few).max()),
        "median_margin": float(np.median(np.concatenate([row.margins for row in exact]))),
    }


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    if "error" in row:
        return f"{row['method']:<17} not compared: {row['error']}"
    parts = (
        "holds" if row["holds"] else "DOES NOT HOLD",
        f"{row['n_tokens']} log-probs: mean {row['mean']:.4f}, largest {row['largest']:.4f} apart "
        f"(tolerance {row['tolerance']})",
        f"best alike at {row['n_alike']} of {row['n_decided']} decided",
        f"greedy {row['greedy_alike']} of {row['greedy_decided']} decided",
        f"to float32 ours {row['ours_to_float32_mean']:.4f} / {row['ours_to_float32']:.4f}",
        f"theirs {row['theirs_to_float32_mean']:.4f} / {row['theirs_to_float32']:.4f}",
        f"few tokens to unpacked {row['few_tokens_to_unpacked']:.4f}",
        *row["using"],
    )
    return f"{row['method']:<17} {'; '.join(parts)}"


def device_name(device: str) -> str:
    """Return the GPU's name, or the processor's kind."""
    return torch.cuda.get_device_name() if device == "cuda" else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
