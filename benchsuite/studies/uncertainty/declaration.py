"""Do uncertainty scores tell right answers from wrong ones, over model families and sizes?

After the multi-model G-NLL study: three families, two models each, TriviaQA and SQuAD v2, 400
questions, greedy answers, the AUROC of wrong answers under G-NLL. Beside G-NLL stand its rivals,
beside each 8-bit model its twin in 16 bits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchsuite import catalog
from benchsuite.evaluation.uncertainty.registry import SCORES, entry
from benchsuite.studies import parameters as shared
from benchsuite.studies.uncertainty.columns import COLUMNS
from benchsuite.studies.uncertainty.metrics import AUROC, PR_AUC, REJECTION
from benchsuite.study import (
    ACCURACY,
    Cell,
    Parameter,
    Study,
    Tour,
    ranks_better,
    register_study,
)
from benchsuite.study.metric import itself

CONTROL = "shuffled"
GPTQ = "gptq_w4"

# Each model at the precisions that it is run in, in the G-NLL study's families.
FAMILIES: dict[str, dict[str, tuple[str, ...]]] = {
    "smollm2": {"smollm2_135m_q4": ("fp16", "8bit", "4bit", "gptq_w4")},
    "tiny_llama": {"tiny_llama_1m": ("fp16",), "tiny_llama_4m": ("fp16", "8bit")},
    "tiny_qwen": {"tiny_qwen_1m": ("fp16",), "tiny_qwen_4m": ("fp16", "8bit")},
    "tiny_mistral": {"tiny_mistral_1m": ("fp16",), "tiny_mistral_4m": ("fp16", "8bit")},
    "llama": {
        "llama3_2_1b": ("fp16",),
        "llama3_8b": ("8bit", "fp16"),
        "llama3_1_70b_instruct": ("4bit",),
    },
    "qwen": {
        "qwen2_5_1_5b": ("fp16",),
        "qwen2_5_7b": ("8bit", "fp16"),
        "qwen2_5_72b": ("4bit",),
    },
    "mistral": {
        "mistral_v0_3_base": ("8bit", "fp16"),
        "mistral_v0_3_instruct": ("8bit", "fp16"),
        "mixtral_8x7b_instruct": ("4bit",),
    },
}
PRECISIONS = {model: kinds for models in FAMILIES.values() for model, kinds in models.items()}
DATASETS = ("closed_book", "passages", "trivia_qa", "squad_v2", "nq", "bioasq", "svamp")


def family(model: str) -> str:
    """Return the family of a model of the grid; of another one its type in the catalogue.

    One that the catalogue does not know, or knows no type of, is a family by itself.
    """
    own = [name for name, models in FAMILIES.items() if model in models]
    known = catalog.MODELS.get(model)
    return own[0] if own else (known.model_type if known else "") or model


def _includes(point: Mapping[str, Any]) -> bool:
    embedded = catalog.model(point["model"]).embedded
    return (
        embedded == catalog.task(point["dataset"]).embedded
        and point["precision"] in PRECISIONS.get(point["model"], ("fp16",))
        # No model for natural-language inference is small enough to ship, and no embedded model
        # can be told to write a probability.
        and not (embedded and {"nli", "writer"} & set(entry(point["method"]).needs))
    )


def _code(cell: Cell) -> Sequence[str]:
    calibrating = ("benchsuite.calibration.random_chunks",) if cell["precision"] == GPTQ else ()
    return (entry(cell.method).module, *calibrating)


def _packages(cell: Cell) -> Sequence[str]:
    reduced = cell["precision"] != "fp16" and catalog.model(cell.model).from_hub
    return ("bitsandbytes",) if reduced else ()


def _needing(what: str) -> Callable[[str], bool]:
    return lambda method: what in entry(method).needs


register_study(
    Study(
        name="uncertainty",
        question="Do uncertainty scores tell right answers from wrong ones, over model families?",
        axes={
            "model": tuple(PRECISIONS),
            "precision": ("fp16", "8bit", "4bit", "gptq_w4"),
            "dataset": DATASETS,
            "method": tuple(SCORES),
        },
        seeds=(42,),
        parameters={
            "samples": Parameter(400, least=1, help="questions asked"),
            "examples": Parameter(
                5,
                examples=True,
                embedded=0,
                help="worked examples before each question, from the train split",
            ),
            "prompt": Parameter(
                "published",
                embedded="embedded",
                choices=("published", "embedded"),
                help="the published prompt, or the one that the embedded models were trained on: "
                "a blank line more",
            ),
            "protocol": Parameter(
                "document",
                choices=("document", "published"),
                help="published asks and grades as the authors' code of semantic entropy does",
            ),
            "chat_template": shared.CHAT_TEMPLATE,
            "most_left_out": shared.MOST_LEFT_OUT,
            "max_new_tokens": Parameter(50, embedded=16, least=1, help="the longest answer"),
            "draws": Parameter(10, help="sampled answers to each question"),
            "temperature": Parameter(
                1.0,
                never=(0,),
                help="of the sampled answers; log-probabilities are the model's own",
            ),
            "batch_size": Parameter(
                0,
                embedded=128,
                least=0,
                help="answers generated together; 0 is as many as the device's memory suggests",
            ),
            "correctness": Parameter(
                "f1",
                choices=("f1", "exact", "judge"),
                help="by what an answer is right",
            ),
            "judge_model": Parameter(
                "",
                reads="model",
                help="a catalogued model that judges, with `correctness` `judge`",
            ),
            "similarity_model": Parameter(
                "stsb_roberta_large",
                embedded="",
                packaged="minilm_l6_v2",
                only=_needing("similarity"),
                reads="model",
                help="tells how alike two texts are; (none) is lexical; minilm_l6_v2 for models "
                "of the package index",
            ),
            "nli_model": Parameter(
                "roberta_large_mnli",
                only=_needing("nli"),
                reads="model",
                help="tells whether one answer entails another",
            ),
            "demonstrations": Parameter(
                10,
                examples=True,
                embedded=0,
                only=_needing("model"),
                help="train questions with the model's own answers, shown before the one asked; "
                "20 under the published protocol unless set",
            ),
            "gptq_corpus": replace(shared.CALIBRATION_CORPUS, among={"precision": (GPTQ,)}),
            "gptq_samples": replace(shared.N_CALIBRATION_SAMPLES, among={"precision": (GPTQ,)}),
            "gptq_tokens": Parameter(
                2048, least=16, among={"precision": (GPTQ,)}, help="tokens of each of them"
            ),
        },
        tour=Tour(
            axes={"model": ("tiny_llama_1m",), "precision": ("fp16",)},
            seeds=(42,),
            parameters={"samples": 100},
        ),
        claims=(
            ranks_better("auroc", "g_nll", than=CONTROL, control=True),
            ranks_better("auroc", "rw_gnll", than="g_nll"),
            ranks_better("auroc", "g_nll", than="mean_nll"),
            ranks_better("auroc", "g_nll", than="predictive_entropy"),
            ranks_better("auroc", "g_nll", than="string_entropy"),
            ranks_better("auroc", "g_nll", than="semantic_discrete"),
            ranks_better("auroc", "g_nll", than="sar"),
        ),
        code=_code,
        packages=_packages,
        includes=_includes,
        reads={"dataset": "task"},
        metrics=(
            AUROC,
            PR_AUC,
            REJECTION,
            replace(
                ACCURACY,
                scale=100,
                items=("correct", itself),
                ids=AUROC.ids,
                clusters=AUROC.clusters,
            ),
        ),
        making=("generation", "scoring"),
        columns=COLUMNS,
        reporter="benchsuite.studies.uncertainty.report:write",
        controls=(CONTROL,),
    )
)
