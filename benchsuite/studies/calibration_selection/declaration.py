"""Does the choice of calibration text change the quality of a GPTQ model?

After the multi-seed COLA-Zero study: three selection methods, five seeds, GPTQ at 4 bits with
group size 128 on 128 sequences of 2,048 tokens, perplexity on the WikiText-2 test split.
"""

from collections.abc import Sequence

from benchsuite.calibration.registry import sampler_module
from benchsuite.catalog import EMBEDDED_MODELS, SMALL_MODELS
from benchsuite.quantizers.registry import method_module
from benchsuite.studies import columns
from benchsuite.studies import parameters as shared
from benchsuite.studies.calibration_selection.published import PUBLISHED
from benchsuite.study import (
    PERPLEXITY,
    Cell,
    Document,
    Metric,
    Parameter,
    Study,
    Tour,
    cv_below,
    identical,
    lower,
    register_study,
)

DOCUMENT_MODELS = ("llama2_7b", "llama2_13b", "opt_6_7b", "mistral_7b")
METHODS = ("gptq_default", "random", "cola_zero")
FURTHER_METHODS = ("cola_balanced", "stratified", "activation_clusters", "self_generated")
# A study that cannot tell these from real calibration cannot tell anything.
CONTROLS = ("noise_tokens", "shuffled_hessian")
# What quantization costs at all, and what rounding without calibration costs.
ORIGINAL = "fp16"
REFERENCES = (ORIGINAL, "rtn")

DOCUMENT = Document(
    methods={
        "cola_zero": "COLA-Zero",
        "random": "random sampling",
        "gptq_default": "sequential (default) sampling",
        "cola_balanced": "the balanced COLA variant",
        "activation_clusters": "COLA activation clusters",
        "self_generated": "self-generated text",
    },
    conditions="{quant_bits}-bit GPTQ with {n_calibration_samples} calibration samples",
    published=PUBLISHED,
)


def _code(cell: Cell) -> Sequence[str]:
    if cell.method == "fp16":
        return ()
    if cell.method == "rtn":
        return (method_module("rtn"),)
    return (sampler_module(cell.method), method_module("gptq"))


def _streams(cell: Cell) -> bool:
    """Other methods ask the model itself for text or activations, and tasks ask it to answer."""
    read_as_it_is = ("random", "gptq_default", "stratified", "cola_zero", "cola_balanced")
    methods = (*read_as_it_is, *CONTROLS, *REFERENCES)
    return cell.method in methods and not cell["downstream_tasks"]


def _packages(cell: Cell) -> tuple[str, ...]:
    """Another version of what asks the downstream tasks may score them otherwise."""
    return ("lm_eval",) if cell["downstream_tasks"] else ()


register_study(
    Study(
        name="calibration_selection",
        question="Does the choice of calibration text change the quality of a GPTQ model?",
        axes={
            "model": (*EMBEDDED_MODELS, *SMALL_MODELS, *DOCUMENT_MODELS),
            "method": (*METHODS, *FURTHER_METHODS, *CONTROLS, *REFERENCES),
        },
        seeds=(42, 43, 44, 45, 46),
        parameters={
            "n_calibration_samples": shared.N_CALIBRATION_SAMPLES,
            "seq_len": shared.SEQ_LEN,
            "quant_bits": Parameter(
                4,
                choices=(2, 3, 4, 5, 6, 7, 8),
                help="bits per weight; checkpoints hold 2, 3, 4 and 8",
            ),
            "group_size": shared.GROUP_SIZE,
            "desc_act": Parameter(False, help="order columns by activation"),
            "sym": Parameter(True, help="symmetric grid"),
            "damp_percent": Parameter(
                0.01, help="damping of the Hessian, as a part of its mean diagonal"
            ),
            "calibration_corpus": shared.CALIBRATION_CORPUS,
            "pool_documents": shared.POOL_DOCUMENTS,
            "scoring_model": Parameter(
                "gpt2",
                embedded="tiny_llama_1m",
                only=("cola_zero",),
                reads="model",
                help="whose perplexity is a feature of the documents",
            ),
            "evaluation_corpus": shared.EVALUATION_CORPUS,
            "evaluation_tokens": shared.EVALUATION_TOKENS,
            "downstream_tasks": Parameter(
                False,
                formerly="downstream",
                adds_only=True,
                help="also answer the downstream tasks; set by `--downstream`",
            ),
        },
        once=REFERENCES,
        tour=Tour(
            axes={"model": ("tiny_llama_1m",)},
            seeds=(42, 43),
            parameters={"n_calibration_samples": 16, "evaluation_tokens": 16384},
        ),
        columns=columns.TEXT,
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
        packages=_packages,
        streams=_streams,
        metrics=(
            PERPLEXITY,
            Metric("downstream", better="higher", unit="%", margin="1", parts=True),
        ),
        making=("selection", "quant"),
        controls=CONTROLS,
        unranked=REFERENCES,
        original=ORIGINAL,
        document=DOCUMENT,
    )
)
