"""Weight quantizers: one file per method, the walk they share, and the packed layer they make."""

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
        "checkpoint": "checkpoint",
        "gptq": "gptq",
        "hqq": "hqq",
        "loaded": "loaded",
        "model_digest": "linear",
        "quantized_linears": "linear",
        "quarot": "quarot",
        "rtn": "rtn",
        "quantizer": "registry",
        "register_quantizer": "registry",
        "smoothquant": "smoothquant",
        "stored_bytes": "linear",
        "using_kernel": "linear",
        "zero_first_mlp": "control",
    },
)
