"""One model beside its quantized copies in several formats: the table of docs/compare.md.

Each copy is made of the base here (GPTQ and AWQ by benchsuite, HQQ by hqq, FP8 by llm-compressor,
GGUF by the package gguf), written as its format has it, and read back by `benchsuite compare`. A
copy that is there is not made again, and what was measured is served from the record.

    python benchmarks/speed/compared_formats.py --base smollm2_135m_q4 --folder compared
    python benchmarks/speed/compared_formats.py --base tiny_llama_1m --folder small --tokens 2048
"""

import argparse
import contextlib
import io
import json
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchsuite import catalog
from benchsuite.commands.main import main as benchsuite
from benchsuite.comparing.subject import Subject, open_subject
from benchsuite.corpora import load_text
from benchsuite.evaluation.perplexity import tokenize_protocol
from benchsuite.quantizers import awq, checkpoint, gptq
from benchsuite.records import environment
from benchsuite.statistics.rounding import short, with_interval

SAMPLES, LENGTH, GROUP, SEED = 64, 512, 64, 0
# The rows of each candidate -> the head of its column.
ROWS = {"perplexity": "perplexity", "kl": "KL", "same top token": "same top token"}


def calibration(base: Subject) -> torch.Tensor:
    """Return the first chunks of the embedded training text, int64 [SAMPLES, LENGTH]."""
    text = load_text("embedded_text", "train").joined[: 16 * SAMPLES * LENGTH]
    ids = tokenize_protocol(base.tokenizer, text)
    length = min(LENGTH, getattr(base.model.config, "max_position_embeddings", LENGTH))
    return ids[: len(ids) // length * length].view(-1, length)[:SAMPLES]


def make_gptq(base: Subject, folder: Path) -> None:
    """Quantize to 4 bits by GPTQ with act order."""
    gptq.quantize(base.model, calibration(base), bits=4, group_size=GROUP, desc_act=True)
    checkpoint.save(base.model, folder, tokenizer=base.tokenizer)


def make_awq(base: Subject, folder: Path) -> None:
    """Quantize to 4 bits by AWQ."""
    awq.quantize(base.model, calibration(base), bits=4, group_size=GROUP)
    checkpoint.save(base.model, folder, tokenizer=base.tokenizer)


def make_hqq(base: Subject, folder: Path) -> None:
    """Quantize to 4 bits by the package hqq."""
    from hqq.core.quantize import BaseQuantizeConfig
    from hqq.models.hf.base import AutoHQQHFModel

    settings = BaseQuantizeConfig(nbits=4, group_size=GROUP)
    more = {"compute_dtype": torch.float32, "device": "cpu"}
    AutoHQQHFModel.quantize_model(base.model, quant_config=settings, **more)
    head = base.model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.clone())  # safetensors holds no tensor twice
    AutoHQQHFModel.save_to_safetensors(base.model, f"{folder}/", num_blocks_per_file=10_000)
    base.tokenizer.save_pretrained(folder)


def make_fp8(base: Subject, folder: Path) -> None:
    """Quantize weights and, at run time, activations to FP8 by llm-compressor."""
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier

    original = folder.with_name("original")
    base.model.save_pretrained(original)
    base.model.config._name_or_path = str(original)
    recipe = QuantizationModifier(targets="Linear", scheme="FP8_DYNAMIC", ignore=["lm_head"])
    with contextlib.chdir(folder.parent):
        oneshot(model=base.model, recipe=recipe)
    base.model.save_pretrained(folder, save_compressed=True)
    base.tokenizer.save_pretrained(folder)


def make_gguf(path: Path, kind: str) -> Callable[[Subject, Path], None]:
    """Return how to write a GGUF's matrices anew in another type, by gguf's own quantizers."""

    def make(base: Subject, out: Path) -> None:
        import gguf

        reader = gguf.GGUFReader(path)
        architecture = reader.fields["general.architecture"].contents()
        writer = gguf.GGUFWriter(out, architecture)
        wanted = gguf.GGMLQuantizationType[kind]
        for field in reader.fields.values():
            if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub)
        for tensor in reader.tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            if values.ndim == 2:
                packed = gguf.quants.quantize(values, wanted)
                writer.add_tensor(tensor.name, packed, raw_dtype=wanted)
            else:
                writer.add_tensor(tensor.name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return make


def candidates(folder: Path, gguf_file: Path | None) -> dict[str, tuple[Path, Any]]:
    """Return what is made, by its name in the table: where, and how."""
    found: dict[str, tuple[Path, Any]] = {
        f"GPTQ, 4 bits, groups of {GROUP}, act order": (folder / "gptq", make_gptq),
        f"AWQ, 4 bits, groups of {GROUP}": (folder / "awq", make_awq),
        f"HQQ, 4 bits, groups of {GROUP}": (folder / "hqq", make_hqq),
        "FP8 dynamic (compressed-tensors)": (folder / "fp8", make_fp8),
    }
    if gguf_file is not None:
        for kind in ("Q8_0", "Q5_0"):
            made = make_gguf(gguf_file, kind)
            found[f"GGUF {kind}"] = (folder / f"{kind}.gguf", made)
    return found


def make_whole(make: Callable[[Subject, Path], None], base: str, path: Path) -> None:
    """Make a copy, and leave none that is half made."""
    try:
        make(open_subject(base), path)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        raise


def measured(base: str, path: Path, folder: Path, tokens: int, seq_len: int) -> dict[str, Any]:
    """Compare one candidate by the command, and return its part of the JSON."""
    out = folder / f"{path.stem}.json"
    words = ["compare", base, str(path), "--tokens", str(tokens), "--seq-len", str(seq_len)]
    words += ["--json", str(out), "--reports-dir", str(folder / "reports"), "--device", "cpu"]
    with contextlib.redirect_stdout(io.StringIO()):
        status = benchsuite([*words, "--no-speed"])
    if status:
        raise RuntimeError(f"benchsuite compare ended with status {status}")
    found = json.loads(out.read_text())
    return {**found["candidates"][0], "base_facts": found["base"]}


def line(name: str, found: dict[str, Any]) -> str:
    """Return one row of the table: differences with their 95 % intervals, and the size."""
    rows = {row["label"]: row for row in found["rows"]}
    cells = [
        f"{with_interval(row['difference'], row['low'], row['high'])} {row['unit']}"
        for row in (rows[label] for label in ROWS)
    ]
    return f"| {name} | {' | '.join(cells)} | {found['disk_bytes'] / 1e6:,.0f} MB |"


def main() -> int:
    """Make the copies, compare them, print the table; status 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="smollm2_135m_q4")
    parser.add_argument("--gguf", type=Path, help="the base's own file, for the GGUF rows")
    parser.add_argument("--folder", type=Path, default=Path("compared"))
    parser.add_argument("--only", default="", help="as in gptq,awq,hqq,fp8,Q8_0,Q5_0")
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--seq-len", type=int, default=512)
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    folder, floor, failed = options.folder.resolve(), "", 0
    if options.gguf is None and options.base in catalog.MODELS:
        from benchsuite.models import source

        options.gguf = source.locate(catalog.model(options.base)).file
    print(f"| candidate | {' | '.join(ROWS.values())} | on disk |\n|---|---|---|---|---|")
    only = options.only.split(",") if options.only else []
    for name, (path, make) in candidates(folder, options.gguf).items():
        if only and path.stem not in only:
            continue
        try:
            if not path.exists():
                torch.manual_seed(SEED)
                begun = time.perf_counter()
                make_whole(make, options.base, path)
                print(f"{name}: made in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
            begun = time.perf_counter()
            found = measured(options.base, path, folder, options.tokens, options.seq_len)
            print(f"{name}: compared in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        except Exception:
            traceback.print_exc()
            failed = 1
            continue
        print(line(name, found), flush=True)
        floors = {row["label"]: f"{short(row['floor'])} {row['unit']}" for row in found["rows"]}
        disk = found["base_facts"]["disk_bytes"] or 0
        floor = f"| floor: the base beside itself | {' | '.join(floors[k] for k in ROWS)} | "
        floor += f"{disk / 1e6:,.0f} MB |"
    print(floor)
    cpu = environment.cpu().name
    print(f"\n{options.tokens:,} tokens in chunks of {options.seq_len}; {cpu}, ", end="")
    versions = ("torch", "transformers", "hqq", "llmcompressor", "compressed-tensors", "gguf")
    print(f"Python {platform.python_version()}, ", end="")
    print(", ".join(f"{each} {environment.version(each)}" for each in versions))
    return failed


if __name__ == "__main__":
    sys.exit(main())
