"""Which quantizer costs a model least, at which size?

After the comparison of six quantizers on one small instruction model: GPTQ, AWQ, HQQ, SmoothQuant,
AdaRound and QuaRot at the widths that each is made for, beside rounding to nearest and the model
itself, and other people's libraries by the same measures. Calibration text is drawn at random by
the seed, the same for every method.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchsuite import catalog
from benchsuite.calibration.registry import sampler_module
from benchsuite.engines.registry import engine
from benchsuite.evaluation import forms
from benchsuite.quantizers.registry import (
    LIBRARIES,
    OWN,
    QUANTIZERS,
    REFERENCE,
    VARIANTS,
    quantizer,
)
from benchsuite.studies import parameters as shared
from benchsuite.studies.quantizers.columns import COLUMNS
from benchsuite.study import (
    KL,
    PERPLEXITY,
    Cell,
    Cost,
    Metric,
    Parameter,
    Study,
    Tour,
    equivalent,
    lower,
    register_study,
)

# The model's first block without its MLP: a study that does not see this sees nothing.
CONTROL = "zeroed_layer"
OTHER_KINDS = tuple(n for n, entry in QUANTIZERS.items() if entry.ranking != "weight-only")
# llm-compressor knows no OPT in these: it looks for norms by other names and fails. AutoAWQ asks
# every model for rotary embeddings, which OPT has none of, and clips weights of 64 rows and more:
# the keys of tiny_mistral_1m have 32.
NOT_FOR_OPT = ("llmcompressor_awq", "llmcompressor_spinquant", "autoawq_awq")
TOO_NARROW = ("tiny_mistral_1m", "autoawq_awq")
TOURED = tuple(name for name in OWN if name not in VARIANTS)
_SIMULATED = "latency_simulated"
WITHOUT_RANDOMNESS = tuple(
    name for name, entry in QUANTIZERS.items() if not (entry.calibrated or entry.seeded)
)


def _code(cell: Cell) -> Sequence[str]:
    own = () if cell.method in (REFERENCE, CONTROL) else (quantizer(cell.method).module,)
    return (*own, sampler_module("random"), engine("vllm").module)


def _score(name: str, **kind: Any) -> Metric:
    return Metric(name, unit="%", format=".1f", margin="1", **{"better": "higher", **kind})


def _taking(option: str) -> Callable[[str], bool]:
    """Return which methods hand a parameter on to their quantizer."""
    return lambda method: method in QUANTIZERS and option in QUANTIZERS[method].options


def _possible(axes: Mapping[str, Any]) -> bool:
    if catalog.model(axes["model"]).model_type == "opt":
        return axes["method"] not in NOT_FOR_OPT
    return (axes["model"], axes["method"]) != TOO_NARROW


def _packages(cell: Cell) -> Sequence[str]:
    return () if cell.method in (REFERENCE, CONTROL) else quantizer(cell.method).packages


register_study(
    Study(
        name="quantizers",
        question="Which quantizer costs a model least, at which size?",
        axes={
            "model": (*catalog.EMBEDDED_MODELS, *catalog.SMALL_MODELS, "llama3_2_1b_instruct"),
            "method": (REFERENCE, *QUANTIZERS, CONTROL),
        },
        seeds=(42, 43, 44),
        parameters={
            "n_calibration_samples": shared.N_CALIBRATION_SAMPLES,
            "seq_len": shared.SEQ_LEN,
            "group_size": shared.GROUP_SIZE,
            "iterations": Parameter(
                15_000, embedded=300, only=_taking("iterations"), help="AdaRound's steps a layer"
            ),
            "steps": Parameter(
                200, embedded=100, only=_taking("steps"), help="SignRound's steps a block"
            ),
            "alpha": Parameter(
                None,
                only=_taking("alpha"),
                help="SmoothQuant's strength; None is the model family's",
            ),
            "calibration_corpus": shared.CALIBRATION_CORPUS,
            "pool_documents": shared.POOL_DOCUMENTS,
            "evaluation_corpus": shared.EVALUATION_CORPUS,
            "evaluation_tokens": replace(shared.EVALUATION_TOKENS, embedded=16384),
            "arc_task": Parameter(
                "arc_challenge",
                embedded="four_choices",
                reads="task",
                help="the four-choice questions",
            ),
            "arc_form": Parameter(
                "letters",
                embedded="listed",
                choices=forms.CHOICES,
                help="how their options are shown and answered",
            ),
            "chat_template": shared.CHAT_TEMPLATE,
            "squad_task": Parameter(
                "squad_v2", embedded="passages", reads="task", help="the questions about passages"
            ),
            "maths_task": Parameter(
                "openmath", embedded="word_problems", reads="task", help="the word problems"
            ),
            "n_questions": Parameter(400, embedded=200, least=1, help="questions of each set"),
            "shots": Parameter(0, examples=True, help="worked examples before each question"),
            "most_left_out": shared.MOST_LEFT_OUT,
            "latency_tokens": Parameter(
                64, never=(1,), help="tokens generated to time the model; 0 leaves its speed out"
            ),
            "maths_new_tokens": Parameter(
                256, embedded=96, least=1, help="the longest answer to a word problem"
            ),
        },
        # Libraries are there to be compared with, not to be varied: one seed each.
        once=(REFERENCE, CONTROL, *WITHOUT_RANDOMNESS, *LIBRARIES),
        tour=Tour(
            axes={"model": ("tiny_llama_1m",), "method": (REFERENCE, *TOURED, CONTROL)},
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
            lower("perplexity", "rotated_gptq_w4", than="rtn_w4"),
            lower("kl", "mixed_w3", than="gptq_w3"),
            lower("kl", "mixed_w4", than="gptq_w4"),
            lower("perplexity", "signround_w4", than="gptq_w4"),
            lower("perplexity", "signround_w2", than="gptq_w2"),
            equivalent("perplexity", "gptq_w8", to=REFERENCE, within=0.05),
            lower("perplexity", "gptq_w3", than=CONTROL, control=True),
        ),
        code=_code,
        packages=_packages,
        includes=_possible,
        columns=COLUMNS,
        reporter="benchsuite.studies.quantizers.report:write",
        metrics=(
            PERPLEXITY,
            KL,
            _score("flipped", better="lower"),
            _score("arc_macro_f1", parse_rate="arc_parse_rate"),
            _score("arc_accuracy", parse_rate="arc_parse_rate"),
            _score("arc_accuracy_norm"),
            _score("arc_parse_rate"),
            _score("squad_f1"),
            _score("squad_exact"),
            _score("maths_accuracy", parse_rate="maths_parse_rate"),
            _score("maths_parse_rate"),
        ),
        making=("selection", "quant"),
        controls=(CONTROL,),
        unranked=(REFERENCE, *OTHER_KINDS),
        original=REFERENCE,
        costs=(
            Cost(Metric("size_after_mb", unit="MB", label="size")),
            Cost(Metric("token_seconds", unit="ms", scale=1000, label="time a token"), _SIMULATED),
        ),
    )
)
