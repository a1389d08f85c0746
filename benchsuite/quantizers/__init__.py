"""Weight quantizers: one file per method, to be read beside its paper, and what they share.

``walk`` takes calibration data through a model, block by block (``hidden_states`` is what goes into
a block, ``layers`` the linears in it); ``hessian`` is what a layer's inputs say, ``grid`` turns
weights into codes, ``linear`` is the packed layer, ``result`` the account that a method keeps. No
method imports another, but for those that end in GPTQ: GPTAQ, Qronos, QuaRot, ``rotated``,
``mixed`` and FP4's.
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
        "WorkingMemory": "hidden_states",
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
        "using_kernel": "linear",
        "wanda": "wanda",
        "widened_bytes": "linear",
        "zero_first_mlp": "control",
    },
)
