"""What a rounded cache costs by the length of what is read: a table of docs/quantizers.md.

The same text is read in windows of each length; perplexity and KL divergence from the model as it
is are of all its tokens. Fixed scales are found on training text in windows of the first length.

    python benchmarks/speed/cache_lengths.py [--model tiny_llama_4m] [--lengths 128 256 512]
"""

import argparse
import sys

import machine
from rounding import calibration

from benchsuite.comparing.subject import open_subject
from benchsuite.corpora import load_text
from benchsuite.evaluation.divergence import divergence
from benchsuite.evaluation.perplexity import perplexity, tokenize_protocol
from benchsuite.quantizers.registry import CACHES, QUANTIZERS, apply


def main() -> int:
    """Round the cache in every way, read at every length, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny_llama_4m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lengths", type=int, nargs="*", default=[128, 256, 512])
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    base = open_subject(options.model, device=options.device)
    test, train = (
        tokenize_protocol(base.tokenizer, load_text("embedded_text", split).joined)
        for split in ("test", "train")
    )
    test = test[: options.tokens]
    batch = calibration(train, options.samples, options.lengths[0], options.seed)
    shown = [f"{length}: perplexity, KL" for length in options.lengths]
    print(f"| cache | bits | {' | '.join(shown)} |\n|---|---|{'---|' * len(shown)}")
    plain = [perplexity(base.model, test, seq_len=n).value for n in options.lengths]
    print(f"| as it is | 16 | {' | '.join(f'{value:.3f}' for value in plain)} |", flush=True)
    for name in CACHES:
        model = open_subject(options.model, device=options.device).model
        data = batch.to(options.device) if QUANTIZERS[name].calibrated else None
        result = apply(name, model, data, seed=options.seed, progress=None)
        cells = []
        for length in options.lengths:
            found = perplexity(model, test, seq_len=length).value
            change = divergence(base.model, model, test, seq_len=length).value
            cells.append(f"{found:.3f}, {change:.4f}")
        print(f"| `{name}` | {result.recorded['cache_bits']:g} | {' | '.join(cells)} |", flush=True)
    print(
        f"\n{options.model}, {len(test):,} tokens of test text, {options.samples} windows for "
        f"fixed scales, seed {options.seed}; {machine.line(options.device)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
