"""Does a model that thinks in latents answer as well as one that writes its steps, in fewer passes?

After KaVa's multi-seed experiments: four configurations, three seeds, each training evaluated on
three sets. Trainings and evaluations are cells of two studies over the same axes: an evaluation
takes its training's checkpoint, and trains first where there is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchsuite import catalog
from benchsuite.latent import asking
from benchsuite.latent.methods.registry import METHODS
from benchsuite.studies.latent_reasoning.columns import REASONING, TRAINING
from benchsuite.study import (
    ACCURACY,
    Cell,
    Metric,
    Parameter,
    Study,
    Tour,
    higher,
    identical,
    lower,
    register_study,
)
from benchsuite.study.metric import itself

ABLATIONS = tuple(name for name, entry in METHODS.items() if entry.like == "kava")
# Asked of models that other people know, not of the embedded ones.
OF_REAL_MODELS = ("few_shot", "sim_cot")
# Where the ablations run, too; the other configurations have the seven methods.
ABLATED = (
    ("tiny_llama_4m", "equations"),
    ("tiny_llama_4m", "sentences"),
    ("llama3_2_1b", "equations"),
)
MODELS = tuple(dict.fromkeys(model for model, _ in asking.CONFIGURATIONS))


def _configuration(cell: Cell) -> Path:
    return asking.configuration(cell.model, cell["steps"], cell["config"])


def _task_of(cell: Cell, axis: str) -> str:
    return asking.task_of(cell.model, axis, cell[axis])


def _includes(axes: Mapping[str, Any]) -> bool:
    model, steps = axes["model"], axes["steps"]
    embedded = catalog.model(model).embedded
    if (model, steps) not in asking.CONFIGURATIONS:
        return False
    if axes["method"] in ABLATIONS and (model, steps) not in ABLATED:
        return False
    asked = asking.EMBEDDED_ASKED if embedded else asking.HUB_ASKED
    if axes["method"] in OF_REAL_MODELS and embedded:
        return False
    if "asked" not in axes and not METHODS.find(axes["method"]).trained:
        return False
    return "asked" not in axes or axes["asked"] in asked


def _code(cell: Cell) -> Sequence[str]:
    return asking.modules(cell.method, _configuration(cell))


_AXES = {
    "model": MODELS,
    "steps": tuple(asking.HUB_DATA),
    "method": tuple(METHODS),
}
_TOUR = {
    "model": ("tiny_llama_1m",),
    "steps": ("equations",),
    "method": ("full_cot", "no_cot", "kava"),
}
_SEEDS = (42, 43, 44)

_PARAMETERS = {
    "config": Parameter("", help="a configuration file of your own; (none) is the shipped one"),
    "max_steps": Parameter(0, help="optimizer steps at most; 0 is the configuration's epochs"),
}
_TASKS = {"steps": "task"}
_MAKING = ("training",)

register_study(
    Study(
        name="latent_training",
        question="What do trainings of latent and explicit reasoning cost, and does the loss fall?",
        axes=_AXES,
        seeds=_SEEDS,
        parameters=_PARAMETERS,
        columns=TRAINING,
        tour=Tour(axes=_TOUR, seeds=(42,), parameters={"max_steps": 4}),
        code=_code,
        files=lambda cell: (str(_configuration(cell)),),
        settings_of="latent_reasoning",
        includes=_includes,
        # The held-out loss is over the first of its validation split.
        reads={"steps": "task:validation"},
        task_of=_task_of,
        metrics=(
            Metric("held_out_loss", better="lower", unit="nats", margin="0.01"),
            Metric("held_out_loss_untrained", unit="nats", margin="0.01"),
            Metric("training_seconds", better="lower", unit="s", format=".1f", margin="5%"),
        ),
        making=_MAKING,
        # Losses of different methods are of different things.
        unranked=tuple(METHODS),
    )
)

register_study(
    Study(
        name="latent_reasoning",
        question="Do latents answer as well as written steps, in fewer forward passes?",
        axes={**_AXES, "asked": (*asking.EMBEDDED_ASKED, *asking.HUB_ASKED)},
        seeds=_SEEDS,
        parameters={
            **_PARAMETERS,
            "n_items": Parameter(0, help="problems asked; 0 is the whole set"),
            "untrained": Parameter(
                "",
                embedded="problems",
                help="the set that the untrained network answers too, for comparison",
            ),
        },
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
            higher("accuracy", "sim_cot", than="codi"),
            lower("forward_passes", "kava", than="full_cot"),
            *(identical("thinking_passes", name) for name in METHODS if name not in ABLATIONS),
        ),
        code=_code,
        files=lambda cell: (str(_configuration(cell)),),
        includes=_includes,
        reads={**_TASKS, "asked": "task"},
        task_of=_task_of,
        metrics=(
            replace(ACCURACY, parse_rate="parse_rate"),
            Metric(
                "forward_passes",
                better="lower",
                format=".1f",
                items=("passes", itself),
                ids="question",
            ),
            Metric("thinking_passes", better="lower", format=".1f"),
            Metric("accuracy_untrained", unit="%", format=".1f", margin="1"),
            Metric("parse_rate", better="higher", unit="%", format=".1f", margin="1"),
        ),
        making=_MAKING,
        columns=REASONING,
        reporter="benchsuite.studies.latent_reasoning.report:write",
    )
)
