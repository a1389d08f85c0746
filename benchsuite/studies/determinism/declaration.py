"""Is INT4 inference deterministic, along which axis not, and which kernel is the cause?

After the unified quantization experiment: one prompt of 2,048 tokens, 50 greedy tokens, five
repetitions of Qwen3-8B in six INT4 variants, bitwise. Beyond it the kernels forced by name, the
model itself, and our packed linears.
"""

from collections.abc import Sequence

from benchsuite.catalog import EMBEDDED_MODELS, SMALL_MODELS
from benchsuite.determinism.variants import VARIANTS, describe, variant
from benchsuite.engines.registry import engine
from benchsuite.studies import parameters as shared
from benchsuite.studies.determinism.columns import COLUMNS
from benchsuite.study import Cell, Metric, Parameter, Study, Tour, register_study, true

# Known to add in varying order: nothing is expected of it, and nothing is claimed.
NOT_EXPECTED = ("gptq_exllama",)
REPEATS = "gives the same bits when the identical batch is repeated"
SAME_CODES = "has the same weights_sha256 when quantized twice"


def _code(cell: Cell) -> Sequence[str]:
    chosen = variant(cell.method)
    # Our own quantizes and is the reference that served tokens are held against.
    names = (chosen.engine, "transformers")
    return [engine(name).module for name in dict.fromkeys(names)]


def _engine(cell: Cell) -> str:
    return variant(cell.method).engine


def _published(cell: Cell) -> tuple[str, str] | None:
    return variant(cell.method).published(cell.model)


register_study(
    Study(
        name="determinism",
        question="Is INT4 inference deterministic, and if not, along which axis and why?",
        axes={"model": (*EMBEDDED_MODELS, *SMALL_MODELS, "qwen3_8b"), "method": tuple(VARIANTS)},
        seeds=(42,),
        parameters={
            "repetitions": Parameter(5, least=1, help="how often the identical batch is asked"),
            "max_tokens": Parameter(50, embedded=16, least=1, help="tokens generated"),
            "prompt_length": Parameter(2048, embedded=96, least=1, help="tokens of a prompt"),
            "max_model_len": Parameter(
                8192, embedded=512, least=1, help="the engine's longest sequence, in tokens"
            ),
            "temperature": Parameter(0.0, help="0 is greedy"),
            "dtype": Parameter(
                "float16",
                choices=("float16", "bfloat16"),
                help="in which vLLM and SGLang compute",
            ),
            "tensor_parallel": Parameter(
                1, least=1, help="GPUs that share the model, at most --gpus-per-cell"
            ),
            "gpu_memory_utilization": Parameter(0.9, help="vLLM's share of a GPU's memory"),
            "kv_cache_gib": Parameter(
                0.0, help="a fixed cache for vLLM, in GiB, instead of that share; 0 is none"
            ),
            "kv_cache_dtype": Parameter(
                "auto",
                choices=("auto", "fp8"),
                help="of vLLM's cache; auto is the computation's, fp8 wants bfloat16 on Hopper",
            ),
            "others": Parameter(
                (1, 7, 31), help="further prompts in the batch, one batch for each"
            ),
            "served_prompts": Parameter(
                64,
                least=0,
                help="prompts whose served tokens the original is asked about; 0 is none",
            ),
            "served_tokens": Parameter(64, embedded=32, least=1, help="tokens served after each"),
            "threads": Parameter(2, least=1, help="CPU threads of the other process"),
            "layers": Parameter(0, help="cut a rehearsal to its first blocks; 0 is all"),
            "group_size": shared.GROUP_SIZE,
            "n_calibration_samples": Parameter(16, least=1, help="calibration sequences"),
            "calibration_length": Parameter(
                512, embedded=128, least=2, help="tokens of a calibration sequence"
            ),
            "prompt_corpus": Parameter(
                "wikitext2",
                embedded="embedded_text",
                reads="corpus:test",
                help="its test split gives the prompts",
            ),
            "calibration_corpus": shared.CALIBRATION_CORPUS,
        },
        tour=Tour(
            axes={"model": ("tiny_llama_1m",), "method": ("pytorch_int4", "packed_gptq")},
            seeds=(42,),
            parameters={"others": (1, 7), "repetitions": 3, "served_prompts": 16},
        ),
        claims=(
            *(true("bit_exact", v, REPEATS) for v in VARIANTS if v not in NOT_EXPECTED),
            *(true("same_codes", v, SAME_CODES) for v in ("packed_gptq", "packed_awq")),
        ),
        code=_code,
        engine=_engine,
        published=_published,
        describe=describe,
        metrics=(Metric("l2_max", better="lower", unit="nats", format=".2g"),),
        columns=COLUMNS,
        reporter="benchsuite.studies.determinism.report:write_files",
        unranked=tuple(VARIANTS),
    )
)
