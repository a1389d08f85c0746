"""Weight quantizers: one file per method, to be read beside its paper.

What methods share has rooms of its own: ``walking`` takes calibration data through a model,
``formats`` is what a quantized weight is and multiplies as, ``checkpoint`` how it lies on disk,
``external`` other people's libraries. ``registry`` names the methods, ``result`` is the account
that each keeps. No method imports another, but for those that end in GPTQ: GPTAQ, Qronos, QuaRot,
``rotated``, ``mixed`` and FP4's.
"""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "LayerResult": "result",
        "QuantizationGrid": "formats.grid",
        "QuantizationResult": "result",
        "QuantizedLinear": "formats.linear",
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
        "gptaq": "gptaq",
        "gptq": "gptq",
        "hqq": "hqq",
        "loaded": "loaded",
        "method": "registry",
        "mixed": "mixed",
        "model_digest": "formats.linear",
        "quantized_linears": "formats.linear",
        "qronos": "qronos",
        "quarot": "quarot",
        "rotated": "rotated",
        "rtn": "rtn",
        "signround": "signround",
        "quantizer": "registry",
        "register_quantizer": "registry",
        "smoothquant": "smoothquant",
        "sparsegpt": "sparsegpt",
        "stored_bytes": "formats.linear",
        "using_kernel": "formats.linear",
        "wanda": "wanda",
        "widened_bytes": "formats.linear",
        "zero_first_mlp": "control",
    },
)
