"""What the catalogue says of a model, a corpus, a task, and how one is looked up or added."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchsuite.errors import UsageError, unknown_name

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class ModelEntry:
    """One model: where its weights are and what shape it has.

    ``shape`` holds the keyword arguments of the transformers configuration of ``model_type``, so
    that the model can be built with random weights where there is no hub.
    """

    name: str
    hub_id: str
    model_type: str
    shape: Mapping[str, Any]
    dtype: str
    revision: str = "main"
    gated: bool = False
    embedded: bool = False
    published: Mapping[str, float] = field(default_factory=dict)

    @property
    def document_name(self) -> str:
        """The name that the study documents print: ``llama-2-7b-hf``, for one."""
        return self.hub_id.rsplit("/", 1)[-1].lower() if not self.embedded else self.name

    @property
    def n_parameters(self) -> int:
        """Number of weights, counted from the shape (norms and biases are left out)."""
        s = self.shape
        hidden, inner, layers = s["hidden_size"], s["intermediate_size"], s["num_hidden_layers"]
        heads = s["num_attention_heads"]
        head_dim = s.get("head_dim") or hidden // heads
        kv = s.get("num_key_value_heads", heads) * head_dim
        attention = 2 * hidden * heads * head_dim + 2 * hidden * kv
        mlp = (2 if self.model_type == "opt" else 3) * hidden * inner
        mlp *= s.get("num_local_experts", 1)
        embeddings = s["vocab_size"] * hidden * (1 if s.get("tie_word_embeddings") else 2)
        if self.model_type == "opt":
            embeddings += (s["max_position_embeddings"] + 2) * hidden
        return layers * (attention + mlp) + embeddings

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights in the entry's own dtype."""
        return self.n_parameters * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True)
class CorpusEntry:
    """One text corpus: an embedded one, or a configuration of a hub data set with a text column."""

    name: str
    hub_id: str = ""
    config: str | None = None
    column: str = "text"
    revision: str = "main"
    embedded: bool = False


@dataclass(frozen=True)
class TaskEntry:
    """One task: its name, its schema (``question``, ``choice`` or ``problem``), its place.

    ``split`` is the one that models are tried on: a public set's test split where its answers are
    public, its validation split otherwise; ``train+test`` joins two. ``examples`` is the split of
    worked examples.
    """

    name: str
    schema: str
    hub_id: str = ""
    config: str | None = None
    revision: str = "main"
    embedded: bool = False
    split: str = "test"
    examples: str = "train"


MODELS: dict[str, ModelEntry] = {}
CORPORA: dict[str, CorpusEntry] = {}
TASKS: dict[str, TaskEntry] = {}


TABLES: dict[str, dict[str, Any]] = {"models": MODELS, "corpora": CORPORA, "tasks": TASKS}


def register(entry: ModelEntry | CorpusEntry | TaskEntry) -> None:
    """Add an entry under its name; a user's own ``conftest.py`` calls this too."""
    tables: dict[type, Any] = {ModelEntry: MODELS, CorpusEntry: CORPORA, TaskEntry: TASKS}
    table = tables[type(entry)]
    if isinstance(entry, ModelEntry):
        _check_model(entry)
    if table.get(entry.name, entry) != entry:
        raise UsageError(
            f"the name {entry.name!r} is already registered for something else",
            fix="choose another name for your entry",
        )
    table[entry.name] = entry


_SHAPE = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")


def _check_model(entry: ModelEntry) -> None:
    if entry.dtype not in DTYPE_BYTES:
        raise unknown_name(f"dtype of model {entry.name}", entry.dtype, DTYPE_BYTES)
    opt = ("max_position_embeddings",) if entry.model_type == "opt" else ()
    for key in (*_SHAPE, "num_attention_heads", *opt):
        length = entry.shape.get(key)
        if not isinstance(length, int) or length < 1:
            raise UsageError(
                f"the shape of model {entry.name!r} has {key}={length!r}",
                fix=f"give {key} as a positive integer, as the model's config.json has it",
            )


def model(name: str) -> ModelEntry:
    """Return a model's entry; an unknown name is a usage error naming the nearest."""
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name]


def corpus(name: str) -> CorpusEntry:
    """Return a corpus' entry; an unknown name is a usage error naming the nearest."""
    if name not in CORPORA:
        raise unknown_name("corpus", name, CORPORA)
    return CORPORA[name]


def task(name: str) -> TaskEntry:
    """Return a task's entry; an unknown name is a usage error naming the nearest."""
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]
