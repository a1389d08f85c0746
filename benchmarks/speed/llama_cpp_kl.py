"""Our KL beside llama.cpp's own, of the same two files over the same tokens.

Both files are written here in float32, so that neither engine rounds what its layers read: the
values of a GGUF, and those rounded once more to another type. llama.cpp keeps the base's logits in
16 bits and counts the second half of each chunk; the same half of ours stands beside it.

    python benchmarks/speed/llama_cpp_kl.py MODEL.gguf --tool llama-perplexity
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

from benchsuite.comparing import measure
from benchsuite.comparing.subject import open_subject
from benchsuite.corpora import load_text
from benchsuite.evaluation.perplexity import tokenize_protocol

LENGTH = 512
FOUND = re.compile(
    r"(Mean\s+KLD|Maximum KLD|Median\s+KLD|Same top p):\s+([\d.-]+)\s*(?:±\s*([\d.]+))?"
)


def written(path: Path, out: Path, kind: str = "") -> Path:
    """Write a GGUF's tensors in float32, matrices rounded to the type ``kind`` first, if told."""
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            value = 0 if field.name == "general.file_type" else field.contents()
            writer.add_key_value(field.name, value, field.types[0], sub_type=sub)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if kind and values.ndim == 2:
            wanted = gguf.GGMLQuantizationType[kind]
            values = gguf.quants.dequantize(gguf.quants.quantize(values, wanted), wanted)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def theirs(tool: str, base: Path, other: Path, text: Path, chunks: int) -> dict[str, list[float]]:
    """Return llama.cpp's numbers with their errors, by the name that it prints."""
    logits = text.with_suffix(".kld")
    common = ["-c", str(LENGTH), "-b", str(LENGTH), "--chunks", str(chunks), "-f", str(text)]
    common += ["--kl-divergence-base", str(logits)]
    said = ""
    for model, more in ((base, []), (other, ["--kl-divergence"])):
        words = [tool, "-m", str(model), *common, *more]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return {
        " ".join(name.split()): [float(value), float(error or 0)]
        for name, value, error in FOUND.findall(said)
    }


def main() -> int:
    """Print both; status 1 where the means differ by more than llama.cpp's own error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--tool", default="llama-perplexity")
    parser.add_argument("--type", default="Q5_0", help="what the candidate is rounded to")
    parser.add_argument("--chunks", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / "text.txt"
        text.write_text(load_text("embedded_text", "test").joined[: 8 * LENGTH * options.chunks])
        base = written(options.model, folder / "base.gguf")
        other = written(options.model, folder / "other.gguf", options.type)
        told = theirs(options.tool, base, other, text, options.chunks)
        one, two = (open_subject(str(path)) for path in (base, other))
        ids = tokenize_protocol(one.tokenizer, text.read_text())[: LENGTH * options.chunks]
        found = measure.read(one.model, two.model, ids, seq_len=LENGTH, floor=False).tokens
    half = found.kl[:, LENGTH // 2 :]
    ours = {
        "Mean KLD": half.mean(),
        "Maximum KLD": half.max(),
        "Median KLD": np.median(half),
        "Same top p": 100 * found.same[:, LENGTH // 2 :].mean(),
    }
    print("| number | llama.cpp | benchsuite |\n|---|---|---|")
    for label, value in ours.items():
        there, error = told[label]
        print(f"| {label} | {there:.6f} ± {error:.6f} | {value:.6f} |")
    there, error = told["Mean KLD"]
    return int(abs(there - ours["Mean KLD"]) > error)


if __name__ == "__main__":
    sys.exit(main())
