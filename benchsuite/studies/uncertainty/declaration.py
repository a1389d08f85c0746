"""Do uncertainty scores tell right answers from wrong ones, over model families and sizes?

After the multi-model G-NLL study: three families, two models each, TriviaQA and SQuAD v2, 400
questions, greedy answers, the AUROC of wrong answers under G-NLL. Beside G-NLL stand its rivals,
beside each 8-bit model its twin in 16 bits.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchsuite import catalog
from benchsuite.evaluation.uncertainty.registry import SCORES, entry
from benchsuite.study import Study, Tour, ranks_better, register
from benchsuite.study.cell import Cell

CONTROL = "shuffled"

# Each model at the precisions that it is run in, in the document's families.
FAMILIES: dict[str, dict[str, tuple[str, ...]]] = {
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
    """Return the family of a model of the grid; of another one its type in the catalogue."""
    own = [name for name, models in FAMILIES.items() if model in models]
    return own[0] if own else catalog.model(model).model_type


def _includes(point: Mapping[str, Any]) -> bool:
    embedded = catalog.model(point["model"]).embedded
    return (
        embedded == catalog.task(point["dataset"]).embedded
        and point["precision"] in PRECISIONS.get(point["model"], ("fp16",))
        # No model for natural-language inference is small enough to ship.
        and not (embedded and "nli" in entry(point["method"]).needs)
    )


def _code(cell: Cell) -> Sequence[str]:
    return (
        entry(cell.method).module,
        "benchsuite.fixtures.uncertainty",
        "benchsuite.fixtures.models",
        "benchsuite.models.pool",
        "benchsuite.models.classifier",
        "benchsuite.quantizers.loaded",
        "benchsuite.corpora.tasks",
        "benchsuite.evaluation.uncertainty.judge",
    )


def _packages(cell: Cell) -> Sequence[str]:
    reduced = cell["precision"] != "fp16" and not catalog.model(cell.model).embedded
    return ("bitsandbytes",) if reduced else ()


def _needing(what: str) -> tuple[str, ...]:
    return tuple(name for name, score in SCORES.items() if what in score.needs)


register(
    Study(
        name="uncertainty",
        question="Do uncertainty scores tell right answers from wrong ones, over model families?",
        axes={
            "model": tuple(PRECISIONS),
            "precision": ("fp16", "8bit", "4bit"),
            "dataset": DATASETS,
            "method": tuple(SCORES),
        },
        seeds=(42,),
        parameters={
            "samples": 400,
            "examples": 5,
            "prompt": "published",
            "chat_template": False,
            "max_new_tokens": 50,
            "draws": 10,
            "temperature": 1.0,
            "batch_size": 32,
            "correctness": "f1",
            "judge_model": "",
            "similarity_model": "stsb_roberta_large",
            "nli_model": "roberta_large_mnli",
            "demonstrations": 10,
        },
        embedded={
            "examples": 0,
            "prompt": "embedded",
            "max_new_tokens": 16,
            "batch_size": 128,
            "similarity_model": "",
            "demonstrations": 0,
        },
        only={
            "similarity_model": _needing("similarity"),
            "nli_model": _needing("nli"),
            "demonstrations": _needing("model"),
        },
        allowed={"prompt": ("published", "embedded"), "correctness": ("f1", "exact", "judge")},
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
            ranks_better("auroc", "g_nll", than="semantic_discrete"),
            ranks_better("auroc", "g_nll", than="sar"),
        ),
        code=_code,
        packages=_packages,
        includes=_includes,
        models=("model", "similarity_model", "nli_model", "judge_model"),
        tasks=("dataset",),
        metric="auroc",
        higher_is_better=True,
        reporter="benchsuite.studies.uncertainty.report:write",
        metrics=("pr_auc", "accuracy"),
        controls=(CONTROL,),
    )
)
