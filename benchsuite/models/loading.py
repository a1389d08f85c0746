"""One way to load any catalogued model: embedded, hub, local folder, or random at true shapes.

Every model is loaded from a folder of safetensors, checked tensor by tensor, and frozen. What this
machine cannot get (gated, offline) is ``CellCannotRun`` with the fix; what is broken is
``BenchsuiteError`` naming the tensors or the file.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from benchsuite.catalog import ModelEntry, Sources
from benchsuite.corpora.file_digests import FileDigests
from benchsuite.corpora.pointers import refuse_pointer
from benchsuite.errors import BenchsuiteError, CellCannotRun, out_of_memory
from benchsuite.models import (
    generation_settings,
    own_code,
    random_weights,
    source,
    stand_in,
    streaming,
)
from benchsuite.models.architecture import ARCHITECTURES
from benchsuite.models.fetching import download, first_line
from benchsuite.models.folder import (
    answering_files,
    read_config,
    refuse_adapter,
    refuse_quantized,
    stored_dtype,
    tensor_headers,
)
from benchsuite.models.gguf import tokenizer_folder
from benchsuite.models.gguf.card import made_of
from benchsuite.models.light_imports import import_transformers
from benchsuite.models.soundness import (
    check_complete,
    check_finite,
    check_stored,
    check_vocabulary,
    quiet_transformers,
    said_of_loading,
    top_id,
    try_unknown,
)
from benchsuite.printable import some

_NO_SDPA = (
    "Give a model whose attention transformers computes by scaled_dot_product_attention: that is "
    "how every model is computed here"
)


@dataclass(frozen=True)
class LoadedModel:
    """A model as it was loaded: frozen, in evaluation mode, on its device.

    ``weights`` is ``embedded``, ``hub``, ``local``, ``dequantized`` or ``random``; ``digest`` is
    what ``weights_digest`` gives; ``n_bytes`` counts parameters and buffers, shared ones once;
    ``stand_in`` says why this is not the catalogued model, or is None; ``gguf_types`` has the
    tensors by type of the GGUF that was dequantized, or is None.
    """

    model: nn.Module
    tokenizer: Any
    entry: ModelEntry
    weights: str
    digest: str
    n_bytes: int
    stand_in: str | None = None
    gguf_types: dict[str, int] | None = None


def load(
    entry: ModelEntry,
    sources: Sources = Sources(),
    *,
    device: str = "cpu",
    dtype: str | None = None,
    streamed: bool = False,
) -> LoadedModel:
    """Load ``entry`` from ``sources`` onto ``device`` in ``dtype``.

    The dtype is ``source.default_dtype`` unless asked. A ``streamed`` model's blocks are left where
    they are and come when they are worked on (`models.streaming`).
    """
    known = entry
    asked, dtype = dtype, dtype or source.default_dtype(entry, device)
    place = source.locate(entry, sources)
    if place.weights == "random":
        model = _random(entry, device, dtype, sources.seed, streamed)
        tokenizer = random_weights.rehearsal_tokenizer(entry)
        reason = made = None
    else:
        folder = place.checkpoint() or download(entry)
        where = f"{entry.name}, {folder}"
        refuse_adapter(folder)
        config = read_config(folder)
        if "auto_map" not in config:  # whose own code is asked about first
            refuse_quantized(folder, entry.name)
        if not entry.dtype:  # left to the files: a hub model before it was fetched
            entry = replace(entry, dtype=stored_dtype(folder))
            dtype = asked or source.default_dtype(entry, device)
        made = made_of(folder)
        reason = None if entry.embedded else stand_in.stand_in_reason(entry, config, made)
        if entry.embedded:
            _check_card(entry, folder)
        trusted = sources.trusts(entry.name)
        if streamed:
            model = stream_folder(folder, where, device, dtype)
        else:
            model = load_folder(folder, where, device, dtype, trusted)
        refuse_quantized(folder, entry.name)
        tokens = tokenizer_folder(place.file) if place.file else folder
        tokenizer = load_tokenizer(entry, tokens, trusted=trusted)
        check_vocabulary(model, tokenizer, where)
    model.eval().requires_grad_(False)
    digest = source.weights_digest(known, sources, dtype=asked)
    types = made.types if made else None
    return LoadedModel(
        model, tokenizer, entry, place.weights, digest, tensor_bytes(model), reason, types
    )


def _random(entry: ModelEntry, device: str, dtype: str, seed: int, streamed: bool) -> nn.Module:
    if not streamed:
        return random_weights.build(entry, device=device, dtype=dtype, seed=seed)
    skeleton = random_weights.without_storage(entry, dtype)
    return streaming.stream(skeleton, random_weights.Drawn(seed), device)


def tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor) of all parameters and buffers that are here, each shared one once."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_meta:
            yield name, tensor


def tensor_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's parameters and buffers, each shared one once."""
    return sum(tensor.nbytes for _, tensor in tensors(model))


def load_folder(
    folder: Path, where: str, device: str, dtype: str, trusted: bool = False
) -> nn.Module:
    """Return the model of a checkpoint folder, checked tensor by tensor; errors name ``where``."""
    import_transformers()
    from transformers import AutoModelForCausalLM

    from benchsuite.models.plainly import compute_plainly

    for _ in tensor_headers(folder):  # a truncated file is named here, before torch reads it
        pass
    with quiet_transformers():
        # transformers leaves out a file that it cannot read, and with it what ends a text.
        settings = generation_settings.read(folder)
    try:
        with quiet_transformers(), own_code.refused(where):
            loader: Any = AutoModelForCausalLM
            model, report = loader.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                device_map={"": device},
                attn_implementation="sdpa",
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=trusted,
                ignore_mismatched_sizes=True,  # reported below, all of them at once
                output_loading_info=True,
            )
    except SafetensorError as error:
        raise BenchsuiteError(
            f"the weight files cannot be read: {error}", where, "Copy or download them again"
        ) from error
    except CellCannotRun:
        raise
    except Exception as error:  # a wrong value in config.json fails wherever it is first used
        if out_of_memory(error):
            raise
        said = said_of_loading(error)
        raise BenchsuiteError(
            f"transformers cannot load it: {said}",
            where,
            _NO_SDPA
            if "scaled_dot_product_attention" in said
            else "Check that config.json and the weights are of one model that transformers knows",
        ) from error
    check_complete(report, where)
    check_stored(folder, dict(model.named_parameters()), where)
    check_finite(model, where)
    compute_plainly(model)
    if getattr(model.config, "model_type", None) not in ARCHITECTURES:
        try_unknown(model, where)
    if settings is not None:
        model.generation_config = settings
    return model


def stream_folder(folder: Path, where: str, device: str, dtype: str) -> nn.Module:
    """Return the model of a checkpoint folder, streamed; errors name ``where``.

    Names and shapes are checked here, the blocks' values when they come.
    """
    import_transformers()
    from transformers import AutoConfig, AutoModelForCausalLM

    from benchsuite.models.plainly import compute_plainly

    with quiet_transformers(), own_code.refused(where), torch.device("meta"):
        # Blocks are streamed of architectures that transformers has itself.
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        builder: Any = AutoModelForCausalLM
        model = builder.from_config(
            config,
            dtype=getattr(torch, dtype),
            attn_implementation="sdpa",
            trust_remote_code=False,
        )
    compute_plainly(model)
    wanted = {name: list(tensor.shape) for name, tensor in model.named_parameters()}
    known = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = {name: shape for _, name, _, shape in tensor_headers(folder)}
    report = {
        "missing_keys": wanted.keys() - stored.keys(),
        "unexpected_keys": stored.keys() - known.keys(),
        "mismatched_keys": [
            (name, stored[name], known[name])
            for name in sorted(stored.keys() & known.keys())
            if stored[name] != known[name]
        ],
    }
    check_complete(report, where)
    check_stored(folder, dict(model.named_parameters()), where)
    streamed = streaming.stream(model, streaming.Folder(folder), device)
    check_finite(streamed, where)
    settings = generation_settings.read(folder)
    if settings is not None:
        streamed.generation_config = settings
    return streamed


def _check_card(entry: ModelEntry, folder: Path) -> None:
    """Raise where an embedded model's files are not those whose numbers its card states.

    Its digest is that of the card's weights, so that of every other file must be fixed too.
    """
    from benchsuite.embedded import models as embedded_models

    digests = FileDigests()
    found = {name: digests.sha256(file) for name, file in answering_files(folder).items()}
    del found[embedded_models.CARD]
    stated = embedded_models.card(entry.name)["files_sha256"]
    wrong = {name for name, _ in found.items() ^ stated.items()}
    if wrong:
        raise BenchsuiteError(
            f"the files of {entry.name} are not those of its card: {some(sorted(wrong))}",
            where=str(folder),
            fix="Restore the folder, or train it again with benchsuite.embedded.train",
        )


def load_tokenizer(entry: ModelEntry, folder: Path, *, trusted: bool = False) -> Any:
    """Return the tokenizer of a model folder, whose own code may run where it is ``trusted``.

    An embedded model's, and one of a GGUF, are taken as their files say: transformers' own class
    for a model type may rebuild it with tokens that the model does not know (Qwen's adds an end of
    text). Raises ``BenchsuiteError`` where there is none that can be loaded.
    """
    if entry.embedded:
        from benchsuite.embedded import tokenizer

        return tokenizer.load(folder)
    import_transformers()
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    where = str(folder) if entry.name == str(folder) else f"{entry.name}, {folder}"
    for file in map(folder.joinpath, ("tokenizer.json", "tokenizer.model")):
        if file.is_file():
            refuse_pointer(file)
    try:
        with quiet_transformers(), own_code.refused(where):
            own: Any = AutoTokenizer if made_of(folder) is None else PreTrainedTokenizerFast
            found = own.from_pretrained(folder, local_files_only=True, trust_remote_code=trusted)
    except CellCannotRun:
        raise
    except Exception as error:  # each tokenizer class fails in its own way on absent files
        whose = entry.hub_id if entry.hub_id != entry.name else "the model that it was made of"
        raise BenchsuiteError(
            f"the folder holds no tokenizer that can be loaded: {type(error).__name__}: "
            f"{first_line(error)}",
            where=where,
            fix=f"Copy tokenizer.json and tokenizer_config.json of {whose or 'its model'} into it",
        ) from error
    return _as_filed(found, folder)


def _as_filed(tokenizer: Any, folder: Path) -> Any:
    """Return a tokenizer, or the one that its files describe where its class is another.

    transformers 5 rebuilds some of a model type's or of the class that ``tokenizer_config.json``
    names. One may add a token that neither the files nor the model have (Qwen2's an end of text),
    or cut text by another rule than ``tokenizer.json``'s: Llama's knows no bytes, and DeepSeek's
    distilled Llamas name it.
    """
    from transformers import PreTrainedTokenizerFast

    rows = read_config(folder).get("vocab_size") if (folder / "config.json").exists() else None
    file = folder / "tokenizer.json"
    beyond = isinstance(rows, int) and top_id(tokenizer) >= rows
    if not file.exists() or not (beyond or _cuts_otherwise(tokenizer, file)):
        return tokenizer
    filed = PreTrainedTokenizerFast.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    return filed if not isinstance(rows, int) or top_id(filed) < rows else tokenizer


_CUT = "The quick brown fox doesn't jump\n\n  over 12,345 dogs: why?"


def _cuts_otherwise(tokenizer: Any, file: Path) -> bool:
    """Say whether a tokenizer of a class of its own cuts a plain text otherwise than its file."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    own = type(tokenizer)
    if own is PreTrainedTokenizerFast or not issubclass(own, PreTrainedTokenizerFast):
        return False  # read as the file says, or by rules that no such file holds
    stated = Tokenizer.from_file(str(file))
    stated.no_truncation()
    stated.no_padding()
    found = tokenizer(_CUT, add_special_tokens=False, verbose=False)["input_ids"]
    return list(found) != stated.encode(_CUT, add_special_tokens=False).ids
