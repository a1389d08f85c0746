"""Which quantizer costs a model least, at which size?

After the comparison of six quantizers on one small instruction model: GPTQ, AWQ, HQQ, SmoothQuant,
AdaRound and QuaRot at the widths that each is made for, beside rounding to nearest and the model
itself, and other people's libraries by the same measures. Calibration text is drawn at random by
the seed, the same for every method.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchsuite import catalog
from benchsuite.quantizers.registry import LIBRARIES, OWN, QUANTIZERS, quantizer
from benchsuite.studies.calibration_selection.declaration import TINY
from benchsuite.study import Study, Tour, equivalent, lower, register
from benchsuite.study.cell import Cell

REFERENCE = "fp16"
# The model's first block without its MLP: a study that does not see this sees nothing.
CONTROL = "zeroed_layer"
OTHER_KINDS = tuple(n for n, entry in QUANTIZERS.items() if entry.ranking != "weight-only")
# llm-compressor knows no OPT in these: it looks for norms by other names and fails. AutoAWQ asks
# every model for rotary embeddings, which OPT has none of, and clips weights of 64 rows and more:
# the keys of tiny_mistral_1m have 32.
NOT_FOR_OPT = ("llmcompressor_awq", "llmcompressor_spinquant", "autoawq_awq")
TOO_NARROW = ("tiny_mistral_1m", "autoawq_awq")
DATA_FREE = tuple(name for name, entry in QUANTIZERS.items() if not entry.calibrated)


def _code(cell: Cell) -> Sequence[str]:
    own = () if cell.method in (REFERENCE, CONTROL) else (quantizer(cell.method).module,)
    return (
        *own,
        "benchsuite.fixtures.calibration",
        "benchsuite.fixtures.models",
        "benchsuite.fixtures.tasks",
        "benchsuite.models.pool",
        "benchsuite.calibration.random_chunks",
        "benchsuite.evaluation.perplexity",
        "benchsuite.evaluation.divergence",
        "benchsuite.evaluation.answers",
        "benchsuite.evaluation.speed",
        "benchsuite.engines.serving",
        "benchsuite.engines.vllm_engine",
    )


def _possible(axes: Mapping[str, Any]) -> bool:
    if catalog.model(axes["model"]).model_type == "opt":
        return axes["method"] not in NOT_FOR_OPT
    return (axes["model"], axes["method"]) != TOO_NARROW


def _packages(cell: Cell) -> Sequence[str]:
    return () if cell.method in (REFERENCE, CONTROL) else quantizer(cell.method).packages


register(
    Study(
        name="quantizers",
        question="Which quantizer costs a model least, at which size?",
        axes={
            "model": (*TINY, "llama3_2_1b_instruct"),
            "method": (REFERENCE, *QUANTIZERS, CONTROL),
        },
        seeds=(42, 43, 44),
        parameters={
            "n_calibration_samples": 128,
            "seq_len": 2048,
            "group_size": 128,
            "iterations": 15_000,
            "alpha": None,  # what is best for the model's family
            "calibration_corpus": "wikitext2",
            "pool_documents": 0,
            "evaluation_corpus": "wikitext2",
            "evaluation_tokens": 0,
            "arc_task": "arc_challenge",
            "arc_form": "letters",
            "squad_task": "squad_v2",
            "maths_task": "openmath",
            "n_questions": 400,
            "shots": 0,
            "maths_new_tokens": 256,
        },
        embedded={
            "n_calibration_samples": 32,
            "seq_len": 256,
            "iterations": 300,
            "calibration_corpus": "embedded_text",
            "pool_documents": 2000,
            "evaluation_corpus": "embedded_text",
            "evaluation_tokens": 16384,
            "arc_task": "four_choices",
            "arc_form": "listed",
            "squad_task": "passages",
            "maths_task": "word_problems",
            "n_questions": 200,
            "maths_new_tokens": 96,
        },
        only={"iterations": ("adaround_w4", "adaround_w8"), "alpha": ("smoothquant_w8a8",)},
        # Libraries are there to be compared with, not to be varied: one seed each.
        once=(REFERENCE, CONTROL, *DATA_FREE, *LIBRARIES),
        tour=Tour(
            axes={"model": ("tiny_llama_1m",), "method": (REFERENCE, *OWN, CONTROL)},
            seeds=(42, 43),
            parameters={
                "n_calibration_samples": 16,
                "evaluation_tokens": 8192,
                "n_questions": 64,
            },
        ),
        claims=(
            lower("perplexity", "gptq_w4", than="rtn_w4"),
            lower("perplexity", "gptq_w3", than="rtn_w3"),
            lower("perplexity", "awq_w4", than="rtn_w4"),
            lower("perplexity", "hqq_w4", than="rtn_w4"),
            lower("perplexity", "adaround_w4", than="rtn_w4"),
            lower("perplexity", "quarot_w4a16", than="rtn_w4"),
            equivalent("perplexity", "gptq_w8", to=REFERENCE, within=0.05),
            lower("perplexity", "gptq_w3", than=CONTROL, control=True),
        ),
        code=_code,
        packages=_packages,
        includes=_possible,
        reporter="benchsuite.studies.quantizers.report:write",
        corpora={"calibration_corpus": "train", "evaluation_corpus": "test"},
        tasks=("arc_task", "squad_task", "maths_task"),
        controls=(CONTROL,),
        unranked=(REFERENCE, *OTHER_KINDS),
    )
)
