"""Weight quantizers: one file per method, to be read beside its paper.

Whoever writes one needs ``grid`` (weights to codes), ``layers`` (the linears of a model),
``linear`` (the packed layer), ``result`` (the account that a method keeps) and ``registry`` (its
name). The rest that methods share has rooms of its own: ``walking`` takes calibration data through
a model, ``formats`` are numbers of other kinds and what multiplies by them, ``checkpoint`` is how a
model lies on disk, ``external`` other people's libraries. No method imports another, but for those
that end in GPTQ: GPTAQ, Qronos, QuaRot, ``rotated``, ``mixed`` and FP4's.
"""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "LayerResult": "result",
        "QuantizationGrid": "grid",
        "QuantizationResult": "result",
        "QuantizedLinear": "linear",
        "QUANTIZERS": "registry",
        "Quantizer": "registry",
        "WorkingMemory": "walking.hidden_states",
        "adaround": "adaround",
        "apply": "registry",
        "awq": "awq",
        "cache": "cache",
        "checkpoint": "checkpoint",
        "fp4": "fp4",
        "fp4_gptq": "fp4_gptq",
        "fp8": "fp8",
        "gguf": "gguf",
        "given": "result",
        "gptaq": "gptaq",
        "gptq": "gptq",
        "hqq": "hqq",
        "loaded": "loaded",
        "method": "registry",
        "mixed": "mixed",
        "model_digest": "linear",
        "quantized_linears": "linear",
        "qronos": "qronos",
        "quarot": "quarot",
        "rotated": "rotated",
        "rtn": "rtn",
        "signround": "signround",
        "quantizer": "registry",
        "register_quantizer": "registry",
        "smoothquant": "smoothquant",
        "sparsegpt": "sparsegpt",
        "stored_bytes": "linear",
        "using_kernel": "kernels",
        "wanda": "wanda",
        "widened_bytes": "linear",
        "zero_first_mlp": "control",
    },
)
