"""Does the choice of calibration text change the quality of a GPTQ model?

After the multi-seed COLA-Zero study: three selection methods, five seeds, GPTQ at 4 bits with
group size 128 on 128 sequences of 2,048 tokens, perplexity on the WikiText-2 test split.
"""

from collections.abc import Sequence

from benchsuite.calibration.registry import sampler_module
from benchsuite.study import Study, Tour, cv_below, identical, lower, register
from benchsuite.study.cell import Cell

METHODS = ("gptq_default", "random", "cola_zero")
FURTHER_METHODS = ("cola_balanced", "stratified", "activation_clusters", "self_generated")
# A study that cannot tell these from real calibration cannot tell anything.
CONTROLS = ("noise_tokens", "shuffled_hessian")
# What quantization costs at all, and what rounding without calibration costs.
REFERENCES = ("fp16", "rtn")

TINY = (
    "tiny_llama_1m",
    "tiny_llama_4m",
    "tiny_qwen_1m",
    "tiny_qwen_4m",
    "tiny_mistral_1m",
    "tiny_mistral_4m",
    "tiny_opt_4m",
)


def _code(cell: Cell) -> Sequence[str]:
    sampler = () if cell.method in REFERENCES else (sampler_module(cell.method),)
    return (
        *sampler,
        "benchsuite.fixtures.calibration",
        "benchsuite.fixtures.models",
        "benchsuite.fixtures.tasks",
        "benchsuite.models.pool",
        "benchsuite.corpora.text",
        "benchsuite.quantizers.rtn" if cell.method == "rtn" else "benchsuite.quantizers.gptq",
        "benchsuite.evaluation.perplexity",
    )


register(
    Study(
        name="calibration_selection",
        question="Does the choice of calibration text change the quality of a GPTQ model?",
        axes={
            "model": (*TINY, "llama2_7b", "llama2_13b", "opt_6_7b", "mistral_7b"),
            "method": (*METHODS, *FURTHER_METHODS, *CONTROLS, *REFERENCES),
        },
        seeds=(42, 43, 44, 45, 46),
        parameters={
            "n_calibration_samples": 128,
            "seq_len": 2048,
            "quant_bits": 4,
            "group_size": 128,
            "desc_act": False,
            "sym": True,
            "damp_percent": 0.01,
            "calibration_corpus": "wikitext2",
            "pool_documents": 0,
            "scoring_model": "gpt2",
            "evaluation_corpus": "wikitext2",
            "evaluation_tokens": 0,
            "downstream_tasks": False,
        },
        embedded={
            "n_calibration_samples": 32,
            "seq_len": 256,
            "calibration_corpus": "embedded_text",
            "pool_documents": 2000,
            "scoring_model": "tiny_llama_1m",
            "evaluation_corpus": "embedded_text",
            "evaluation_tokens": 32768,
        },
        only={"scoring_model": ("cola_zero",)},
        once=REFERENCES,
        allowed={"quant_bits": (2, 3, 4, 5, 6, 7, 8)},
        tour=Tour(
            axes={"model": ("tiny_llama_1m",)},
            seeds=(42, 43),
            parameters={"n_calibration_samples": 16, "evaluation_tokens": 16384},
        ),
        claims=(
            lower("perplexity", "cola_zero", than="random"),
            lower("perplexity", "cola_zero", than="gptq_default"),
            lower("perplexity", "random", than="gptq_default"),
            identical("weights_sha256", "gptq_default"),
            cv_below("perplexity", "cola_zero", 2.0),
            cv_below("perplexity", "random", 2.0),
            lower("perplexity", "random", than="noise_tokens", control=True),
            lower("perplexity", "random", than="shuffled_hessian", control=True),
        ),
        code=_code,
        models=("model", "scoring_model"),
        corpora={"calibration_corpus": "train", "evaluation_corpus": "test"},
        controls=CONTROLS,
        unranked=REFERENCES,
    )
)
