"""Does a model that thinks in latents answer as well as one that writes its steps, in fewer passes?

After KaVa's multi-seed experiments: four configurations, three seeds, each training evaluated on
three sets. Trainings and evaluations are cells of two studies over the same axes: an evaluation
takes its training's checkpoint, and trains first where there is none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchsuite import catalog
from benchsuite.latent.config import located
from benchsuite.study import Study, Tour, higher, identical, lower, register
from benchsuite.study.cell import Cell

METHODS = ("full_cot", "no_cot", "icot", "coconut", "codi", "pccot", "kava")
ABLATIONS = (
    "kava_no_kv",
    "kava_no_codi",
    "kava_no_projection",
    "kava_lambda0",
    "kava_lambda1",
    "kava_crop",
)
EMBEDDED = ("tiny_llama_1m", "tiny_llama_4m", "tiny_qwen_1m")
# Where the ablations run, too; the other configurations have the seven methods.
ABLATED = (
    ("tiny_llama_4m", "equations"),
    ("tiny_llama_4m", "sentences"),
    ("llama3_2_1b", "equations"),
)
# What is trained on, by the axis ``steps``, and asked, by the axis ``asked``: catalogued tasks.
HUB_DATA = {"equations": "gsm8k_aug", "sentences": "gsm8k_aug_nl"}
EMBEDDED_DATA = {"equations": "word_problems", "sentences": "word_problems_sentences"}
HUB_ASKED = {name: name for name in ("gsm8k", "gsm_hard", "svamp")}
EMBEDDED_ASKED = {
    "problems": "word_problems",
    "harder": "word_problems_hard",
    "rephrased": "word_problems_rephrased",
}

# (model, steps) -> the configuration file; what is not here is no cell.
CONFIGURATIONS = {
    **{(model, "equations"): "tiny" for model in EMBEDDED},
    ("tiny_llama_4m", "sentences"): "tiny",
    ("llama3_2_1b", "equations"): "llama1b_aug",
    ("llama3_2_1b", "sentences"): "llama1b_aug_nl",
    ("qwen2_5_0_5b", "equations"): "qwen05b_aug",
    ("llama3_2_3b", "equations"): "llama3b_aug",
}
MODELS = tuple(dict.fromkeys(model for model, _ in CONFIGURATIONS))


def configuration(cell: Cell) -> str:
    """Return the cell's configuration file: the user's, or a shipped one."""
    return str(located(cell["config"] or CONFIGURATIONS[cell.model, cell["steps"]]))


def task_of(cell: Cell, axis: str) -> str:
    """Return the catalogue name of the task that an axis, ``steps`` or ``asked``, stands for."""
    embedded = catalog.model(cell.model).embedded
    if axis == "steps":
        return (EMBEDDED_DATA if embedded else HUB_DATA)[cell[axis]]
    return (EMBEDDED_ASKED if embedded else HUB_ASKED)[cell[axis]]


def n_asked(cell: Cell) -> int:
    """Return how many problems a cell asks, 0 for the whole split.

    A tiny network that answers at once is right once in a hundred times: of the set that it was
    trained for it is asked twice the split, so that this can be told from never.
    """
    return cell["n_items"] or (2000 if cell["asked"] == "problems" else 0)


def _includes(axes: Mapping[str, Any]) -> bool:
    model, steps = axes["model"], axes["steps"]
    embedded = catalog.model(model).embedded
    if (model, steps) not in CONFIGURATIONS:
        return False
    if axes["method"] in ABLATIONS and (model, steps) not in ABLATED:
        return False
    return "asked" not in axes or axes["asked"] in (EMBEDDED_ASKED if embedded else HUB_ASKED)


def _code(cell: Cell) -> Sequence[str]:
    return (
        "benchsuite.fixtures.latent",
        "benchsuite.fixtures.models",
        "benchsuite.latent.training",
        "benchsuite.latent.decoding",
        "benchsuite.latent.methods.registry",
    )


_AXES = {
    "model": MODELS,
    "steps": tuple(HUB_DATA),
    "method": (*METHODS, *ABLATIONS),
}
_TOUR = {
    "model": ("tiny_llama_1m",),
    "steps": ("equations",),
    "method": ("full_cot", "no_cot", "kava"),
}
_SEEDS = (42, 43, 44)

register(
    Study(
        name="latent_training",
        question="What do trainings of latent and explicit reasoning cost, and does the loss fall?",
        axes=_AXES,
        seeds=_SEEDS,
        parameters={"config": "", "max_steps": 0},
        tour=Tour(axes=_TOUR, seeds=(42,), parameters={"max_steps": 4}),
        code=_code,
        files=lambda cell: (configuration(cell),),
        settings_of="latent_reasoning",
        includes=_includes,
        tasks=("steps",),
        task_of=task_of,
        metric="held_out_loss",
        metrics=("held_out_loss_untrained", "training_seconds"),
        # Losses of different methods are of different things.
        unranked=(*METHODS, *ABLATIONS),
    )
)

register(
    Study(
        name="latent_reasoning",
        question="Do latents answer as well as written steps, in fewer forward passes?",
        axes={**_AXES, "asked": (*EMBEDDED_ASKED, *HUB_ASKED)},
        seeds=_SEEDS,
        parameters={"config": "", "max_steps": 0, "n_items": 0, "untrained": ""},
        embedded={"untrained": "problems"},
        tour=Tour(
            axes={**_TOUR, "asked": ("problems",)},
            seeds=(42,),
            parameters={"max_steps": 4, "n_items": 100},
        ),
        claims=(
            higher("accuracy", "full_cot", than="no_cot"),
            higher("accuracy", "full_cot", than="kava"),
            higher("accuracy", "kava", than="no_cot"),
            higher("accuracy", "codi", than="no_cot"),
            higher("accuracy", "pccot", than="no_cot"),
            higher("accuracy", "kava", than="kava_no_kv"),
            lower("forward_passes", "kava", than="full_cot"),
            *(identical("thinking_passes", name) for name in METHODS),
        ),
        code=_code,
        files=lambda cell: (configuration(cell),),
        includes=_includes,
        tasks=("steps", "asked"),
        task_of=task_of,
        metric="accuracy",
        higher_is_better=True,
        metrics=("forward_passes", "thinking_passes", "accuracy_untrained", "parse_rate"),
        reporter="benchsuite.studies.latent_reasoning.report:write",
    )
)
