"""A quantized checkpoint by itself: does it work?

It reads the embedded text, so that neither network nor data are needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite import catalog, models
from benchsuite.catalog import Sources, is_gguf
from benchsuite.corpora import load_text
from benchsuite.decoding.loop import evaluating, greedy
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.evaluation.perplexity import begun_chunks, perplexity, tokenize_protocol
from benchsuite.models import gguf, soundness, source
from benchsuite.models.saved import read_metadata, refuse_unsaved
from benchsuite.quantizers import checkpoint
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.linear import model_digest, quantized_linears, stored_bytes

TOKENS, SEQ_LEN, NEW_TOKENS = 8192, 256, 32


@dataclass(frozen=True)
class Opened:
    """A model to look at: ``name`` as the user gave it, ``metadata`` of a saved cell or empty."""

    name: str
    model: Any
    tokenizer: Any
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Verified:
    """What is true of a checkpoint; sizes in bytes, ``faults`` in words (none: it works).

    The original is in the dtype that its weights are stored in, where the metadata names a model of
    the catalogue, and in the layers' own otherwise. A GGUF, whose layers are dequantized here, has
    its tensors by type in ``types``; its size is the file's, and half precision is the original.
    """

    n_layers: int
    types: Mapping[str, int]
    size_bytes: int
    original_bytes: int
    perplexity: float | None
    text: str
    faults: tuple[str, ...]


def open_model(name: str, sources: Sources = Sources()) -> Opened:
    """Load a checkpoint folder, a GGUF, or a catalogued model in full precision by its name.

    Its own code runs where ``sources`` trust that folder or name, spelt as here. Raises
    ``UsageError`` for a name of none of these.
    """
    if name in catalog.MODELS:
        loaded = models.load(catalog.model(name), sources)
        return Opened(name, loaded.model, loaded.tokenizer, {})
    folder = source.within(Path(name))
    if not is_gguf(folder) and not (folder / "config.json").is_file():
        refuse_unsaved(folder)
        raise UsageError(
            f"{name!r} is neither a catalogued model nor a folder with a config.json, nor a GGUF",
            fix="Give a folder that --save-models wrote, or a name that benchsuite list shows",
        )
    trusted = sources.trusts(name)
    model = checkpoint.load(folder, trusted=trusted)
    metadata = {} if is_gguf(folder) else read_metadata(folder)
    entry = catalog.MODELS.get(str(metadata.get("model"))) or catalog.ModelEntry(name, hub_id="")
    tokenizer = models.load_tokenizer(entry, models.tokenizer_folder(folder), trusted=trusted)
    soundness.check_vocabulary(model, tokenizer, str(folder))
    return Opened(str(folder), model, tokenizer, metadata)


def original_of(name: str) -> str:
    """Return the name of the model that a checkpoint was made of, from its metadata.

    Raises ``UsageError`` where nothing says so.
    """
    folder = Path(name)
    if not folder.is_dir():
        raise UsageError(
            f"{name!r} alone is nothing to compare: no folder of a checkpoint is there",
            fix="Name two models: benchsuite compare BASE CANDIDATE",
        )
    original = str(read_metadata(folder).get("model"))
    if original not in catalog.MODELS:
        raise UsageError(
            f"{name} does not say which model it was made of",
            fix="Name the other one: benchsuite compare BASE CANDIDATE",
        )
    return original


@torch.no_grad()
def verify(opened: Opened) -> Verified:
    """Run a loaded checkpoint: finite predictions on text, generation, size, recorded digest."""
    model, faults = opened.model, []
    layers = quantized_linears(model)
    file = _file(opened)
    if not layers and file is None:
        faults.append("no layer is quantized")
    expected = opened.metadata.get("weights_sha256")
    if expected is not None and expected != model_digest(model):
        faults.append("the weights are not those that its metadata names: weights_sha256 differs")
    ids, value, text = _text(opened), None, ""
    with using_kernel(model, "held"), evaluating(model):
        try:
            value = perplexity(model, ids, seq_len=SEQ_LEN).value
        except BenchsuiteError as error:
            faults.append(error.what)
        text = opened.tokenizer.decode(_generated(model, ids[None, :64])[0].tolist())
    if not text.strip():
        faults.append("it generates nothing but blanks")
    original = _original_bytes(opened, layers)
    types: Mapping[str, int] = {}
    if file:
        original = 2 * sum(parameter.numel() for parameter in model.parameters())
        types = gguf.describe(file).types
    return Verified(len(layers), types, _size(opened), original, value, text, tuple(faults))


def _file(opened: Opened) -> Path | None:
    """Return the GGUF that was opened; None where it is a folder or a catalogued model."""
    path = Path(opened.name)
    return path if opened.name not in catalog.MODELS and is_gguf(path) else None


def _size(opened: Opened) -> int:
    file = _file(opened)
    return file.stat().st_size if file else stored_bytes(opened.model)


def _text(opened: Opened) -> Tensor:
    text = load_text("embedded_text", "test").joined[: 8 * TOKENS]
    ids = tokenize_protocol(opened.tokenizer, text)
    return begun_chunks(ids, opened.tokenizer, SEQ_LEN)[:TOKENS]


def _generated(model: nn.Module, ids: Tensor) -> Tensor:
    """Return ``NEW_TOKENS`` greedy tokens after each row, int64 [B, NEW_TOKENS]."""
    ids = ids.to(next(model.parameters()).device)
    steps = islice(greedy(model, ids), NEW_TOKENS)
    return torch.stack([tokens for tokens, _ in steps], 1).cpu()


def _original_bytes(opened: Opened, layers: Mapping[str, Any]) -> int:
    """Return how many bytes the model took before its layers were packed.

    A CPU runs, and keeps, a model of half precision in float32: that is no size of the original's.
    """
    entry = catalog.MODELS.get(str(opened.metadata.get("model")))
    stored = getattr(torch, entry.dtype).itemsize if entry else 8
    state = opened.model.state_dict(keep_vars=True)
    inside = tuple(f"{name}." for name in layers)
    outside = {t.data_ptr(): t for name, t in state.items() if not name.startswith(inside)}
    rest = sum(
        t.numel() * (min(t.itemsize, stored) if t.is_floating_point() else t.itemsize)
        for t in outside.values()
    )
    packed = sum(
        m.in_features * m.out_features * min(m.dtype.itemsize, stored)
        + (stored_bytes(m) - m.packed_bytes)
        for m in layers.values()
    )
    return rest + packed
