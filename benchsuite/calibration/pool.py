"""What every sampler gets and gives: the pool of documents, the feature cache, the selection."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from benchsuite.errors import UsageError

Arrays = dict[str, np.ndarray]
_CAP_SEED = 0


class FeatureCache(Protocol):
    """Arrays that are computed once per model and corpus, whichever cells ask for them."""

    def get(self, key: dict[str, Any], build: Callable[[], Arrays]) -> tuple[Arrays, float]:
        """Return the arrays of ``key`` and the seconds that their first build took."""
        ...


class MemoryFeatureCache:
    """A feature cache that lives as long as this object."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Arrays, float]] = {}

    def get(self, key: dict[str, Any], build: Callable[[], Arrays]) -> tuple[Arrays, float]:
        """Return the arrays of ``key``, built on first use, and the seconds of that build."""
        name = json.dumps(key, sort_keys=True)
        if name not in self._known:
            start = time.perf_counter()
            arrays = build()
            self._known[name] = arrays, time.perf_counter() - start
        return self._known[name]


class ScoringModel(NamedTuple):
    """The causal language model that scores documents, its tokenizer, and the name to report.

    ``digest`` identifies the weights in feature keys; without it the weights are hashed.
    """

    model: Any
    tokenizer: Any
    name: str
    digest: str = ""

    @property
    def tokenizer_digest(self) -> str:
        """The digest of the scoring tokenizer."""
        return tokenizer_digest(self.tokenizer)


@dataclass
class CalibrationPool:
    """The documents that a sampler chooses from, and what it may use to choose.

    ``model`` is a ``transformers`` causal language model, or a function without arguments that
    returns it, called on first use. ``digest`` and ``model_digest`` identify the documents and the
    weights in feature keys; where they are empty they are computed. ``model_name`` is for the
    details alone. ``scoring_model`` is a
    function that returns the model for document perplexities; without it the model scores itself.
    ``max_documents`` keeps that many of the documents, the same ones for every sampler and seed;
    0 keeps all.
    """

    documents: tuple[str, ...] = field(repr=False)
    tokenizer: Any = field(repr=False)
    model: Any = field(default=None, repr=False)
    features: FeatureCache = field(default_factory=MemoryFeatureCache, repr=False)
    device: str = "cpu"
    digest: str = ""
    model_digest: str = ""
    model_name: str = ""
    scoring_model: Callable[[], ScoringModel | tuple[Any, Any, str]] | None = None
    max_documents: int = 0

    def __post_init__(self) -> None:
        every = np.arange(len(self.documents))
        kept = capped(every, self.max_documents or None)
        if len(kept) < len(every):
            self.documents = tuple(self.documents[i] for i in kept)
            self.digest = f"{self.digest}:{self.max_documents}" if self.digest else ""

    @cached_property
    def corpus_key(self) -> str:
        """The digest of the documents."""
        return self.digest or _digest(document.encode() for document in self.documents)

    @cached_property
    def tokenizer_key(self) -> str:
        """The digest of the tokenizer's vocabulary and rules."""
        return tokenizer_digest(self.tokenizer)

    @cached_property
    def causal_lm(self) -> Any:
        """The model, loaded on first use. Raises ``UsageError`` where the pool has none."""
        if self.model is None:
            raise UsageError(
                "this sampler needs the model and the calibration pool has none",
                fix="Build the pool with model=, or choose a sampler that reads only text",
            )
        return self.model if isinstance(self.model, torch.nn.Module) else self.model()

    @cached_property
    def model_key(self) -> str:
        """The digest of the model's weights."""
        return self.model_digest or weights_digest(self.causal_lm)

    @cached_property
    def scorer(self) -> ScoringModel:
        """The model that scores documents, with its digest."""
        if self.scoring_model is None:
            name = self.model_name or "the model itself"
            return ScoringModel(self.causal_lm, self.tokenizer, name, self.model_key)
        given = ScoringModel(*self.scoring_model())
        return given if given.digest else given._replace(digest=weights_digest(given.model))

    @property
    def vocab_size(self) -> int:
        """The number of token ids, special ones included."""
        return len(self.tokenizer)


@dataclass(frozen=True)
class Selection:
    """A calibration batch and how it came about.

    ``batch`` is int64 ``[n_samples, seq_len]`` on the CPU. ``details`` can be written as JSON;
    ``standalone_seconds`` is what the selection costs where nothing was computed before,
    ``shared_seconds`` the part of it that is computed once for all, ``spent_seconds`` what it cost
    this time.
    """

    batch: torch.Tensor
    details: dict[str, Any]


class Account:
    """Keeps the costs of one selection while it fetches features.

    Features must be fetched one after the other, never inside the build of another one: a first
    build inside a first build would be counted twice.
    """

    def __init__(self, pool: CalibrationPool) -> None:
        self._features = pool.features
        self._start = time.perf_counter()
        self._fetching = self._first_builds = 0.0

    def fetch(self, key: Mapping[str, Any], build: Callable[[], Arrays]) -> Arrays:
        """Return cached arrays, noting what they cost now and what they cost first."""
        start = time.perf_counter()
        arrays, first_build = self._features.get(dict(key), build)
        self._fetching += time.perf_counter() - start
        self._first_builds += first_build
        return arrays

    def close(self, batch: torch.Tensor, **details: Any) -> Selection:
        """Return the selection with its costs among its details."""
        spent = time.perf_counter() - self._start
        costs = {
            "standalone_seconds": spent - self._fetching + self._first_builds,
            "shared_seconds": self._first_builds,
            "spent_seconds": spent,
        }
        return Selection(batch, {**details, **costs})


def capped(candidates: np.ndarray, at_most: int | None) -> np.ndarray:
    """Return at most so many of the candidates, int64 ``[n]``, in their order.

    They are the same ones for every seed.
    """
    if at_most is None or len(candidates) <= at_most:
        return candidates
    generator = np.random.default_rng(_CAP_SEED)
    return np.sort(generator.choice(candidates, at_most, replace=False))


def tokenizer_digest(tokenizer: Any) -> str:
    """Return a sha256 of a tokenizer's vocabulary, rules and special tokens.

    A fast tokenizer's truncation and padding are left out: a call changes them in passing.
    """
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None:
        rules = json.loads(fast.to_str())
        rules = {k: v for k, v in rules.items() if k not in ("truncation", "padding")}
    else:
        rules = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    text = json.dumps([rules, special], sort_keys=True)
    return _digest([text.encode()])


def weights_digest(model: torch.nn.Module) -> str:
    """Return a sha256 of a model's parameters and buffers, names, shapes and bytes."""

    def parts() -> Iterable[bytes]:
        for name, tensor in sorted(model.state_dict().items()):
            yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
            yield tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()

    return _digest(parts())


def _digest(parts: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(part + b"\0")
    return total.hexdigest()
