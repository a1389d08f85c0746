"""The variants: one entry each, plain data, naming the model, the engine and the forced kernel.

A further variant is one entry more, here or by ``register_variant`` in a user's own conftest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchsuite.registry import Registry


@dataclass(frozen=True)
class Variant:
    """One way to run a quantized model.

    ``hub`` is the published checkpoint of the model ``published_of``, at ``revision``. For other
    models, and where the hub's weights are not what is run (embedded models, ``--weights random``,
    ``--local``), the model is quantized here, by ``checkpoint``: ``gptq`` and ``awq`` save in
    AutoGPTQ's and AutoAWQ's format, ``openvino`` converts, ``gguf_*`` writes for llama.cpp,
    ``plain`` saves the model as it is, "" loads the original and quantizes on load if at all.
    ``kernel`` says which kernel is forced and how; ``expects`` is what its name on the device must
    match, "" where the choice is left to the engine. ``settings`` go to the engine's ``load``.
    ``dtypes`` are those that the forced kernels compute in, where they are not all.
    """

    engine: str
    quantization: str
    kernel: str
    description: str
    expects: str = ""
    checkpoint: str = ""
    hub: str = ""
    published_of: str = "qwen3_8b"
    revision: str = "main"
    note: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ()

    def published(self, model: str) -> tuple[str, str] | None:
        """Return the hub repository and revision that is run as a hub model, if there is one."""
        return (self.hub, self.revision) if self.hub and model == self.published_of else None


_AWQ: dict[str, Any] = {"checkpoint": "awq", "hub": "Qwen/Qwen3-8B-AWQ"}
_GPTQ: dict[str, Any] = {"checkpoint": "gptq", "hub": "JunHowie/Qwen3-8B-GPTQ-Int4"}


def _vllm(quantization: str, kernel: str, description: str, **rest: Any) -> Variant:
    settings = {"quantization": quantization, **rest.pop("settings", {})}
    return Variant("vllm", quantization, kernel, description, settings=settings, **rest)


_SHIPPED: dict[str, Variant] = {
    "awq_marlin": _vllm(
        "awq_marlin",
        'Marlin, by linear_backend="marlin"',
        "AWQ INT4 with Marlin kernel",
        expects="marlin",
        settings={"linear_backend": "marlin"},
        **_AWQ,
    ),
    "awq": _vllm(
        "awq",
        "AWQ's own GEMM, by making Marlin's support check answer no",
        "AWQ INT4 with the plain AWQ kernels",
        expects=r"gemm_forward_4bit|awq_gemm",
        note="below 256 tokens awq_gemm with split K, from there on dequantize and matmul; the "
        "name alone would run Machete or Marlin",
        settings={"plain_awq": True},
        dtypes=("float16",),
        **_AWQ,
    ),
    "awq_auto": _vllm(
        "awq",
        "none: what vLLM chooses for the name",
        "AWQ INT4 with vLLM's own choice of kernel",
        note="in batch-invariant mode vLLM dequantizes and multiplies, only where none is forced",
        **_AWQ,
    ),
    "gptq_marlin": _vllm(
        "gptq_marlin",
        'Marlin, by linear_backend="marlin"',
        "GPTQ INT4 with Marlin kernel",
        expects="marlin",
        settings={"linear_backend": "marlin"},
        **_GPTQ,
    ),
    "gptq": _vllm(
        "gptq",
        "none: what vLLM chooses for the name",
        "GPTQ INT4 with vLLM's own choice of kernel",
        note="Machete on Hopper; the exllama kernel that the name once meant is gptq_exllama",
        **_GPTQ,
    ),
    "openvino": Variant(
        "openvino",
        "openvino",
        "OpenVINO's CPU plugin with int4 weights of nncf",
        "OpenVINO INT4 on its own runtime",
        expects="FullyConnectedCompressed",
        checkpoint="openvino",
        hub="OpenVINO/Qwen3-8B-int4-ov",
        note="a hub model keeps its KV cache as state; our conversion recomputes the prefix",
    ),
    "pytorch_int4": Variant(
        "transformers",
        "pytorch_int4",
        "PyTorch's _weight_int4pack_mm, called directly",
        "PyTorch INT4 with PyTorch's own kernels",
        expects="int4pack_mm|tinygemm",
        note="rounded on load in groups of 128, as torchao rounds for these kernels; the published "
        "pytorch/Qwen3-8B-INT4 is stored as pickled tensors, which are never opened here",
        settings={"kernel": "int4"},
    ),
    "gptq_machete": _vllm(
        "gptq",
        'Machete, by linear_backend="machete" (Hopper)',
        "GPTQ INT4 with Machete kernel",
        expects="machete",
        settings={"linear_backend": "machete"},
        **_GPTQ,
    ),
    "gptq_exllama": _vllm(
        "gptq",
        'exllama, by linear_backend="exllama"',
        "GPTQ INT4 with exllama kernel",
        expects=r"gemm_half_q_half|exllama",
        note="the kernel of the document's gptq",
        settings={"linear_backend": "exllama"},
        **_GPTQ,
    ),
    "packed_gptq": Variant(
        "transformers",
        "gptq",
        "ours: dequantize in every call, then matmul",
        "GPTQ INT4, our packed linears under transformers",
        settings={"kernel": "dequantize"},
        **_GPTQ,
    ),
    "packed_awq": Variant(
        "transformers",
        "awq",
        "ours: dequantize in every call, then matmul",
        "AWQ INT4, our packed linears under transformers",
        settings={"kernel": "dequantize"},
        **_AWQ,
    ),
    "torchao": Variant(
        "torchao",
        "torchao",
        "none: what torchao chooses",
        "torchao int4 weights under transformers",
        note="IntxWeightOnlyConfig(torch.int4), groups of 128",
    ),
    "fp16": Variant(
        "transformers",
        "none",
        "none: the original in its own dtype",
        "Not quantized, under transformers",
        note="the reference; embedded models run in float32 on a CPU",
    ),
    "vllm_half": Variant(
        "vllm",
        "none",
        "none: the original in half precision",
        "Not quantized, under vLLM",
        checkpoint="plain",
        hub="Qwen/Qwen3-8B",
        note="the reference; its deterministic mode is vLLM's batch-invariant kernels alone",
    ),
    "sglang_half": Variant(
        "sglang",
        "none",
        "none: the original in half precision",
        "Not quantized, under SGLang",
        checkpoint="plain",
        hub="Qwen/Qwen3-8B",
        note="its deterministic mode is --enable-deterministic-inference",
    ),
    "sglang_gptq": Variant(
        "sglang",
        "gptq_marlin",
        "none: what SGLang runs for gptq_marlin",
        "GPTQ INT4 under SGLang",
        settings={"quantization": "gptq_marlin"},
        **_GPTQ,
    ),
    "llama_f16": Variant(
        "llama_server",
        "none",
        "none: what llama.cpp chooses for F16",
        "Not quantized, GGUF in F16 under llama-server",
        checkpoint="gguf_f16",
    ),
    "llama_q4_0": Variant(
        "llama_server",
        "gguf_q4_0",
        "none: what llama.cpp chooses for Q4_0",
        "Rounded to nearest in Q4_0, GGUF under llama-server",
        checkpoint="gguf_q4_0",
        note="blocks of 32 weights; embeddings and head stay in F16",
    ),
}

VARIANTS = Registry("variant", _SHIPPED)
"""Every variant by its name, the method of its cells."""


def register_variant(name: str, variant: Variant) -> None:
    """Add a variant under ``name``; a name that stands for another one is a usage error."""
    VARIANTS.add(name, variant)


def variant(name: str) -> Variant:
    """Return a variant's entry; an unknown name is a usage error naming the nearest."""
    return VARIANTS.find(name)


def describe(name: str) -> str:
    """Return a variant's entry in lines: what ``benchsuite list determinism`` shows."""
    entry = variant(name)
    made = {"": "the original", "plain": "the original", "gguf_f16": "the original"}.get(
        entry.checkpoint, "quantized here"
    )
    lines = [
        entry.description,
        f"model: {entry.hub or made}; with embedded, local or random weights: {made}",
        f"quantization: {entry.quantization}; engine: {entry.engine}",
        f"kernel: {entry.kernel}",
    ]
    return "\n".join([*lines, *([f"note: {entry.note}"] if entry.note else [])])
