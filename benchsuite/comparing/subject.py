"""What a word of the command line names: a model to compare, wherever it lies and however packed.

A word is a name of the catalogue, a folder, a ``.gguf`` file, or an id of the hub (with a revision
after an ``@``). A quantized folder is read by our own readers where they know its format, and by
transformers with the format's own library otherwise.
"""

import gc
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchsuite import catalog, models
from benchsuite.catalog import ModelEntry, Sources, is_gguf
from benchsuite.comparing.foreign import PACKAGES, open_foreign
from benchsuite.comparing.hqq_folder import is_hqq, open_hqq
from benchsuite.errors import BenchsuiteError, CellCannotRun, UsageError, unknown_name
from benchsuite.evaluation.speed import held_bytes
from benchsuite.models import loading, random_weights, soundness, source
from benchsuite.models.architecture import ARCHITECTURES
from benchsuite.models.fetching import download
from benchsuite.models.folder import (
    folder_digest,
    read_config,
    refuse_adapter,
    stored_dtype,
    weight_files,
)
from benchsuite.models.gguf import model_folder, tokenizer_folder
from benchsuite.models.saved import read_metadata, refuse_unsaved
from benchsuite.quantizers import checkpoint
from benchsuite.quantizers.checkpoint.settings import has_settings
from benchsuite.quantizers.linear import quantized_linears

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass
class Subject:
    """An opened model: ``name`` as the user gave it, and what is known of its weights.

    ``read_by`` says who read them, ``dtype`` in which it computes, ``disk_bytes`` how large its
    weight files are (None for a model without files of its own), ``memory_bytes`` what its tensors
    take here. ``notes`` say what the numbers leave out.
    """

    name: str
    model: nn.Module = field(repr=False)
    tokenizer: Any = field(repr=False)
    read_by: str
    disk_bytes: int | None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)
        soundness.check_vocabulary(self.model, self.tokenizer, self.name)
        self.memory_bytes = _bytes_of(self.model)
        self.dtype = str(self.model.get_input_embeddings().weight.dtype).removeprefix("torch.")  # type: ignore[operator]

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.model.parameters()).device

    def close(self) -> None:
        """Let go of the weights, so that another model finds the memory free."""
        self.model = nn.Module()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _bytes_of(model: nn.Module) -> int:
    """Return the bytes of what a model's modules hold; a library's own tensors tell their parts."""
    stored = {id(t): t for t in (*model.parameters(), *model.buffers())}.values()
    if not any(hasattr(tensor, "__tensor_flatten__") for tensor in stored):
        return held_bytes(model)
    return sum(part.nbytes for tensor in stored for part in _parts(tensor))


def _parts(tensor: Any) -> Iterator[torch.Tensor]:
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from _parts(getattr(tensor, name))


def open_subject(word: str, sources: Sources = Sources(), *, device: str = "cpu") -> Subject:
    """Open the model that ``word`` names, on ``device``, in the dtype of its files.

    ``sources`` say where catalogued models lie and whose own code may run: it is trusted where
    they trust this very word. Raises ``UsageError`` for a word that names nothing,
    ``CellCannotRun`` for what this machine cannot get, and ``BenchsuiteError`` for what cannot be
    read, with what was tried and what to install.
    """
    if word in catalog.MODELS:
        return _catalogued(word, sources, device)
    path = source.within(Path(word).expanduser())
    trusted = sources.trusts(word)
    if is_gguf(path):
        return _gguf(word, path, device)
    return _folder(word, checkpoint_of(word), device, trusted)


def open_tokenizer(word: str, sources: Sources = Sources()) -> Any:
    """Return the tokenizer of the model that ``word`` names, without its weights.

    Raises what `open_subject` does.
    """
    path, trusted = source.within(Path(word).expanduser()), sources.trusts(word)
    if word in catalog.MODELS:
        entry = catalog.model(word)
        place = source.locate(entry, sources)
        if place.weights == "random":
            return random_weights.rehearsal_tokenizer(entry)
        folder = place.checkpoint() or download(entry)
        return loading.load_tokenizer(entry, folder, trusted=trusted)
    if is_gguf(path):
        return loading.load_tokenizer(_entry(word), tokenizer_folder(path))
    return _tokenizer(word, folder_of(word), trusted)


def _names_nothing(word: str) -> UsageError:
    near = unknown_name("model", word, catalog.MODELS).fix.partition("Known:")[0]
    return UsageError(
        f"{word!r} is neither a catalogued model nor a folder with a config.json, nor a GGUF, nor "
        "an id of the hub (organisation/name), nor a server (http://host:port/v1)",
        fix=f"{near}`benchsuite list` and `benchsuite models` show the names that are known",
    )


def _catalogued(name: str, sources: Sources, device: str) -> Subject:
    entry = catalog.model(name)
    loaded = models.load(entry, sources, device=device)
    place = source.locate(entry, sources)
    file = place.file or place.folder
    notes = () if loaded.weights != "random" else ("its weights are random: a rehearsal",)
    return Subject(name, loaded.model, loaded.tokenizer, loaded.weights, disk_bytes(file), notes)


def _gguf(word: str, path: Path, device: str) -> Subject:
    folder = model_folder(path)
    model = loading.load_folder(folder, word, device, own_dtype(folder, device))
    tokenizer = loading.load_tokenizer(_entry(word), tokenizer_folder(path))
    note = "its weights are dequantized: an engine of GGUF also rounds what its layers read"
    return Subject(word, model, tokenizer, "benchsuite, dequantized", disk_bytes(path), (note,))


def _folder(word: str, folder: Path, device: str, trusted: bool) -> Subject:
    refuse_adapter(folder)
    notes: Sequence[str] = ()
    if is_hqq(folder):
        dtype = own_dtype(folder, device)
        model, read_by, notes = open_hqq(word, folder, device, trusted, dtype)
    elif not has_settings(folder):
        read_by = "transformers"
        model = loading.load_folder(folder, word, device, own_dtype(folder, device), trusted)
    else:
        model, read_by, notes = _quantized(word, folder, device, trusted)
    tokenizer = _tokenizer(word, folder, trusted)
    return Subject(word, model, tokenizer, read_by, disk_bytes(folder), tuple(notes))


def _quantized(
    word: str, folder: Path, device: str, trusted: bool
) -> tuple[nn.Module, str, Sequence[str]]:
    """Return a quantized folder's model, who read it, and what that leaves out."""
    try:
        checkpoint.read_settings(folder)
        known = read_config(folder).get("model_type") in ARCHITECTURES
        tried = "" if known else "its architecture is none that they know"
        tried = tried or checkpoint.packed_outside(folder)
    except BenchsuiteError as error:
        tried = error.what
    if not tried:
        # A fault of its tensors is final: another reader would pass over it.
        model = checkpoint.load(folder, device=device, trusted=trusted)
        return _widened(model, device), "benchsuite", ()
    return open_foreign(word, folder, device, trusted, tried=f"benchsuite's own readers: {tried}")


def _widened(model: nn.Module, device: str) -> nn.Module:
    """Let a packed model in float16 compute in float32 on a CPU: see ``own_dtype``."""
    first = next(model.parameters())
    if first.dtype == torch.float16 and device.startswith("cpu"):
        model.float()
        for linear in quantized_linears(model).values():
            linear.dtype = torch.float32
    return model


def _tokenizer(word: str, folder: Path, trusted: bool) -> Any:
    """Return the folder's tokenizer; embedded models' checkpoints bring ours."""
    metadata = folder / "metadata.json"
    entry = _entry(word)
    if metadata.is_file():
        named = catalog.MODELS.get(str(read_metadata(folder).get("model")))
        entry = named or entry
    return loading.load_tokenizer(entry, folder, trusted=trusted)


def _entry(word: str) -> ModelEntry:
    return ModelEntry(word, hub_id=word)


def own_dtype(folder: Path, device: str) -> str:
    """Return the dtype of a folder's weights, in which its model computes.

    Float16 on a CPU has no fast products and sums in few bits: there it is widened, as its values
    are all float32's.
    """
    known = stored_dtype(folder)
    return "float32" if known == "float16" and device.startswith("cpu") else known


@dataclass(frozen=True)
class Identity:
    """What tells a model from any other: the ``digest`` of all its files that change an answer.

    ``libraries`` are the distributions that read it, whose versions may change a number.
    """

    digest: str
    libraries: tuple[str, ...] = ()


def identity(word: str, sources: Sources = Sources()) -> Identity:
    """Return what identifies the model that ``word`` names, without opening it.

    Raises what `open_subject` does for a word that names nothing.
    """
    if word in catalog.MODELS:
        return Identity(source.weights_digest(catalog.model(word), sources))
    path = source.within(Path(word).expanduser())
    if is_gguf(path):
        return Identity(folder_digest(path, sources.digest_cache))
    folder = checkpoint_of(word)
    settings = read_config(folder).get("quantization_config") or {}
    method = "hqq" if is_hqq(folder) else str(settings.get("quant_method"))
    _, package = PACKAGES.get(method, ("", ""))
    return Identity(folder_digest(folder, sources.digest_cache), (package,) if package else ())


def disk_bytes(path: Path | None) -> int | None:
    """Return the bytes of a GGUF or of a folder's weight files; None where there is neither."""
    if path is None:
        return None
    files = weight_files(path) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def checkpoint_of(word: str) -> Path:
    """Return the folder of the model that a word names; raises as `folder_of`, or without one."""
    folder = folder_of(word)
    if not (folder / "config.json").is_file():
        refuse_unsaved(folder)
        raise UsageError(
            f"{word!r} is neither a catalogued model nor a folder with a config.json, nor a GGUF",
            fix="Give a folder that save_pretrained or --save-models wrote",
        )
    return folder


def folder_of(word: str) -> Path:
    """Return the folder that a word names, itself or by an id of the hub, fetched if need be.

    Raises ``UsageError`` for what is neither.
    """
    path = source.within(Path(word).expanduser())
    if path.is_dir():
        return path
    if _HUB_ID.fullmatch(word) and not path.exists():
        return _snapshot(word)
    if path.exists():
        raise UsageError(
            f"{word!r} is a file, but no .gguf", fix="Name a GGUF, or the folder of a checkpoint"
        )
    raise _names_nothing(word)


def _snapshot(word: str) -> Path:
    """Return the folder of a hub model, from the hub's cache or fetched."""
    hub_id, _, revision = word.partition("@")
    entry = ModelEntry(word, hub_id=hub_id, revision=revision or "main")
    folder = source.locate(entry).folder
    if folder is not None:
        return folder
    try:
        return download(entry)
    except CellCannotRun as error:
        raise CellCannotRun(
            f"{word!r} is no folder and no catalogued model; as an id of the hub: {error.what}",
            error.where,
            f"Fetch it where there is a network with `hf download {hub_id}`, or give the folder of "
            "a copy",
        ) from error
