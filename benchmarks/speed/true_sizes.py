"""Methods side by side at the sizes that they really have: the GGUF table of docs/quantizers.md.

Each registered method quantizes the same model from the same calibration text, drawn at random by
the seed. Perplexity and KL divergence from the original are of the same test text. Bits are those
of a weight with all that is stored beside it: of the blocks' matrices, and of all matrices, where
what a method leaves alone counts 16 bits (a table of embeddings that is the head counts once).

    python benchmarks/speed/true_sizes.py [--model tiny_llama_4m] [--device cpu] [--methods rtn_w4]
"""

import argparse
import sys
import time
import traceback
from typing import Any

import machine
from rounding import calibration, quality

from benchsuite.comparing.subject import open_subject
from benchsuite.corpora import load_text
from benchsuite.evaluation.perplexity import perplexity, tokenize_protocol
from benchsuite.quantizers.linear import quantized_linears
from benchsuite.quantizers.registry import GGUF, QUANTIZERS, apply

BESIDE = ("rtn_w8", "gptq_w8", "rtn_w4", "gptq_w4", "awq_w4", "hqq_w4", "rtn_w3", "gptq_w3")


def bits(original: Any, model: Any) -> tuple[float, float]:
    """Return the bits per weight of the blocks' matrices, and of all."""
    layers = {name: m for name, m in model.named_modules() if hasattr(m, "packed")}
    linears = {n: m for n, m in quantized_linears(model).items() if "layers." in n}
    weights = sum(m.in_features * m.out_features for m in linears.values())
    of_blocks = 8 * sum(m.packed_bytes for m in linears.values()) / weights
    matrices = {id(p): (n, p) for n, p in original.named_parameters() if p.dim() > 1}
    stored = 0
    for name, parameter in matrices.values():
        layer = layers.get(name.removesuffix(".weight"))
        packed = 0 if layer is None else getattr(layer, "packed_bytes", layer.packed.numel())
        stored += 8 * packed if packed else 16 * parameter.numel()
    return of_blocks, stored / sum(p.numel() for _, p in matrices.values())


def main() -> int:
    """Run every method and print the table; status 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny_llama_4m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--methods", nargs="*", default=[*BESIDE, *GGUF])
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32_768)
    options = parser.parse_args()
    base, failed = open_subject(options.model, device=options.device), 0
    test, train = (
        tokenize_protocol(base.tokenizer, load_text("embedded_text", split).joined)
        for split in ("test", "train")
    )
    test = test[: options.tokens]
    batch = calibration(train, options.samples, options.seq_len, options.seed).to(options.device)
    value = perplexity(base.model, test, seq_len=options.seq_len).value
    print("| method | bits, blocks | all | perplexity | KL | seconds |\n|---|---|---|---|---|---|")
    print(f"| original | 16 | 16 | {value:.3f} | | |", flush=True)
    for name in options.methods:
        try:
            model = open_subject(options.model, device=options.device).model
            data = batch if QUANTIZERS[name].calibrated else None
            begun = time.perf_counter()
            apply(name, model, data, seed=options.seed, progress=None, group_size=128)
            seconds = time.perf_counter() - begun
            of_blocks, of_all = bits(base.model, model)
            found, kl = quality(base.model, model, test, options.seq_len)
        except Exception:
            traceback.print_exc()
            failed = 1
            continue
        row = f"{of_blocks:.2f} | {of_all:.2f} | {found:.3f} | {kl:.4f} | {seconds:.1f}"
        print(f"| `{name}` | {row} |", flush=True)
    print(
        f"\n{options.model}, {options.samples} x {options.seq_len} calibration tokens, groups of "
        f"128, {len(test):,} tokens of test text, seed {options.seed}; "
        f"{machine.line(options.device)}"
    )
    return failed


if __name__ == "__main__":
    sys.exit(main())
