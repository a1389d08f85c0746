"""Published WikiText-2 perplexities at 2,048 tokens of context, with their sources.

A value read in primary code or text (``P``) stands beside a measured one where weights and protocol
match; everything else is context and never a bar to pass.
"""

from collections.abc import Mapping
from typing import Any

from benchsuite.study import Published

PROTOCOL = {"seq_len": 2048, "evaluation_corpus": "wikitext2", "evaluation_tokens": 0}
W4G128 = {"quant_bits": 4, "group_size": 128}


def _row(
    model: str,
    label: str,
    value: float,
    source: str,
    status: str,
    method: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Published:
    return Published(model, label, value, source, status, method, parameters or {}, PROTOCOL)


PUBLISHED = (
    _row("llama2_7b", "FP16", 5.47, "SmoothQuant README; QuaRot", "P", "fp16"),
    _row("llama2_7b", "RTN W4 g128", 5.73, "AWQ paper", "S", "rtn", W4G128),
    _row("llama2_7b", "GPTQ W4 g128", 5.69, "AWQ paper", "S", "gptq", W4G128),
    _row("llama2_7b", "GPTQ-R W4 g128", 5.63, "AWQ paper", "S"),
    _row(
        "llama2_7b",
        "GPTQ asymmetric W4 g128",
        5.623,
        "LightCompress align.md",
        "P",
        "gptq",
        {**W4G128, "sym": False},
    ),
    _row("llama2_7b", "AWQ W4 g128", 5.60, "AWQ paper", "S", "awq", W4G128),
    _row("llama2_7b", "SmoothQuant W8A8, a = .85", 5.515, "SmoothQuant README", "P"),
    _row("llama2_7b", "QuaRot W4A4KV4 per channel", 6.10, "QuaRot paper", "P"),
    _row("llama2_7b", "QuaRot W4A4KV4 g128", 5.93, "QuaRot paper", "P"),
    _row("llama2_7b", "QuaRot W4A4KV4 g64", 5.88, "QuaRot paper", "P"),
    _row("llama2_13b", "FP16", 4.88, "QuaRot paper", "P", "fp16"),
    _row("llama2_13b", "QuaRot W4A4KV4", 5.40, "QuaRot paper", "P"),
    _row("llama2_13b", "RTN W4 g128", 4.98, "AWQ paper", "S", "rtn", W4G128),
    _row("llama2_13b", "GPTQ W4 g128", 4.98, "AWQ paper", "S", "gptq", W4G128),
    _row("llama2_13b", "GPTQ-R W4 g128", 4.99, "AWQ paper", "S"),
    _row("llama2_13b", "AWQ W4 g128", 4.97, "AWQ paper", "S", "awq", W4G128),
    _row("opt_6_7b", "FP16", 10.86, "GPTQ paper", "S", "fp16"),
    _row("opt_6_7b", "GPTQ 4-bit per channel", 11.39, "GPTQ paper", "S"),
    _row("opt_6_7b", "RTN 4-bit per channel", 12.10, "GPTQ paper", "S"),
    _row("mistral_7b", "FP16", 5.253, "SmoothQuant README", "P", "fp16"),
    _row("mistral_7b", "SmoothQuant W8A8", 5.277, "SmoothQuant README", "P"),
)
