"""Is INT4 inference deterministic, along which axis not, and which kernel is the cause?

After the unified quantization experiment: one prompt of 2,048 tokens, 50 greedy tokens, five
repetitions of Qwen3-8B in six INT4 variants, bitwise. Beyond it the kernels forced by name, the
model itself, and our packed linears.
"""

from collections.abc import Sequence

from benchsuite.determinism.variants import VARIANTS, describe, variant
from benchsuite.engines.registry import engine
from benchsuite.studies.calibration_selection.declaration import TINY
from benchsuite.study import Study, Tour, register, true
from benchsuite.study.cell import Cell

# Known to add in varying order: nothing is expected of it, and nothing is claimed.
NOT_EXPECTED = ("gptq_exllama",)
REPEATS = "gives the same bits when the identical batch is repeated"
SAME_CODES = "has the same weights_sha256 when quantized twice"


def _code(cell: Cell) -> Sequence[str]:
    return (
        "benchsuite.fixtures.engines",
        "benchsuite.determinism.axes",
        "benchsuite.determinism.document",
        engine(variant(cell.method).engine).module,
    )


def _engine(cell: Cell) -> str:
    return variant(cell.method).engine


register(
    Study(
        name="determinism",
        question="Is INT4 inference deterministic, and if not, along which axis and why?",
        axes={"model": (*TINY, "qwen3_8b"), "method": tuple(VARIANTS)},
        seeds=(42,),
        parameters={
            "repetitions": 5,
            "max_tokens": 50,
            "prompt_length": 2048,
            "max_model_len": 8192,
            "temperature": 0.0,
            "tensor_parallel": 1,
            "gpu_memory_utilization": 0.9,
            "kv_cache_gib": 0.0,
            "others": (1, 7, 31),
            "threads": 2,
            "layers": 0,
            "group_size": 128,
            "n_calibration_samples": 16,
            "calibration_length": 512,
            "prompt_corpus": "wikitext2",
            "calibration_corpus": "wikitext2",
        },
        embedded={
            "max_tokens": 16,
            "prompt_length": 96,
            "max_model_len": 512,
            "calibration_length": 128,
            "prompt_corpus": "embedded_text",
            "calibration_corpus": "embedded_text",
        },
        tour=Tour(
            axes={"model": ("tiny_llama_1m",), "method": ("pytorch_int4", "packed_gptq")},
            seeds=(42,),
            parameters={"others": (1, 7), "repetitions": 3},
        ),
        claims=(
            *(true("bit_exact", v, REPEATS) for v in VARIANTS if v not in NOT_EXPECTED),
            *(true("same_codes", v, SAME_CODES) for v in ("packed_gptq", "packed_awq")),
        ),
        code=_code,
        engine=_engine,
        describe=describe,
        corpora={"prompt_corpus": "test", "calibration_corpus": "train"},
        metric="l2_max",
        reporter="benchsuite.studies.determinism.report:write_files",
        unranked=tuple(VARIANTS),
    )
)
