"""What one cell of latent reasoning reads: its configuration, its training set, its questions."""

import functools
from collections.abc import Sequence
from pathlib import Path

from benchsuite import catalog
from benchsuite.latent.config import Config, load_config, located
from benchsuite.latent.methods.registry import METHODS, lineage

# What is trained on, by the axis ``steps``, and asked, by the axis ``asked``: catalogued tasks.
HUB_DATA = {"equations": "gsm8k_aug", "sentences": "gsm8k_aug_nl"}
EMBEDDED_DATA = {"equations": "word_problems", "sentences": "word_problems_sentences"}
# Of SVAMP all 1,000 problems, as CODI and KaVa do; the hub's test split is 300 of them. MultiArith
# is CODI's fourth set.
HUB_ASKED = {
    "gsm8k": "gsm8k",
    "gsm_hard": "gsm_hard",
    "svamp": "svamp_all",
    "multi_arith": "multi_arith",
}
EMBEDDED_ASKED = {
    "problems": "word_problems",
    "harder": "word_problems_hard",
    "rephrased": "word_problems_rephrased",
}

# (model, steps) -> the configuration file; what is not here is no cell.
CONFIGURATIONS = {
    ("tiny_llama_1m", "equations"): "tiny",
    ("tiny_llama_4m", "equations"): "tiny",
    ("tiny_qwen_1m", "equations"): "tiny",
    ("tiny_llama_4m", "sentences"): "tiny",
    ("smollm2_135m_q4", "equations"): "smollm2_aug",
    ("llama3_2_1b", "equations"): "llama1b_aug",
    ("llama3_2_1b", "sentences"): "llama1b_aug_nl",
    ("qwen2_5_0_5b", "equations"): "qwen05b_aug",
    ("llama3_2_3b", "equations"): "llama3b_aug",
}


def configuration(model: str, steps: str, given: str = "") -> Path:
    """Return the configuration file of a model and its steps: the ``given`` one, or a shipped one.

    Raises ``UsageError`` for a model and steps that no shipped file is for.
    """
    return located(given or CONFIGURATIONS[model, steps])


def task_of(model: str, axis: str, value: str) -> str:
    """Return the catalogue name of the task that a value of ``steps`` or ``asked`` stands for."""
    embedded = catalog.model(model).embedded
    if axis == "steps":
        return (EMBEDDED_DATA if embedded else HUB_DATA)[value]
    return (EMBEDDED_ASKED if embedded else HUB_ASKED)[value]


def n_asked(asked: str, n_items: int) -> int:
    """Return how many problems are asked of a set, 0 for the whole split; ``n_items`` goes first.

    A tiny network that answers at once is right once in a hundred times: of the set that it was
    trained for it is asked twice the split, so that this can be told from never.
    """
    return n_items or (2000 if asked == "problems" else 0)


def modules(method: str, file: Path) -> Sequence[str]:
    """Return the modules of a method and of those that its training starts from."""
    config = _read(file, file.stat().st_mtime_ns if file.exists() else 0)
    return [METHODS.find(name).module for name in lineage(method, config)]


@functools.cache
def _read(file: Path, changed: int) -> Config:
    return load_config(file)
