"""Hub models that judge texts: one output for likeness, or one per label."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchsuite.catalog import ModelEntry, Sources
from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.models import loading, own_code, soundness, source
from benchsuite.models.fetching import download
from benchsuite.models.folder import read_config, refuse_adapter


def load_classifier(
    entry: ModelEntry, sources: Sources = Sources(), *, device: str = "cpu"
) -> tuple[Any, Any]:
    """Return the sequence classifier of ``entry`` in evaluation mode, and its tokenizer.

    From its folder or the hub, safetensors alone, in the entry's own dtype. What this machine
    cannot get is ``CellCannotRun``; what cannot be read is ``BenchsuiteError``.
    """
    from transformers import AutoModelForSequenceClassification

    return _load(
        entry, _folder(entry, sources), AutoModelForSequenceClassification, sources, device
    )


def load_similarity_model(
    entry: ModelEntry, sources: Sources = Sources(), *, device: str = "cpu"
) -> tuple[Any, Any, bool]:
    """Return a model that says how alike texts are, its tokenizer, and whether it encodes texts.

    A classifier of pairs (a cross-encoder) or an encoder of single texts: its ``config.json`` says
    which. Errors as ``load_classifier``.
    """
    from transformers import AutoModel, AutoModelForSequenceClassification

    folder = _folder(entry, sources)
    named = read_config(folder).get("architectures") or [""]
    encodes = "Classification" not in named[0]
    kind = AutoModel if encodes else AutoModelForSequenceClassification
    return *_load(entry, folder, kind, sources, device), encodes


def _folder(entry: ModelEntry, sources: Sources) -> Path:
    # Random weights would judge nothing: a rehearsal that asks for a classifier has it whole.
    folder = source.locate(entry, replace(sources, weights="hub")).checkpoint()
    folder = folder or download(entry)
    refuse_adapter(folder)
    return folder


def _load(
    entry: ModelEntry, folder: Path, kind: Any, sources: Sources, device: str
) -> tuple[Any, Any]:
    import torch

    where, trusted = f"{entry.name}, {folder}", sources.trusts(entry.name)
    try:
        with soundness.quiet_transformers(), own_code.refused(where):
            model: Any = kind.from_pretrained(
                folder,
                dtype=getattr(torch, entry.dtype),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=trusted,
            )
    except CellCannotRun:
        raise
    except (ValueError, OSError) as error:
        raise BenchsuiteError(
            f"cannot be loaded as a classifier or encoder: {str(error).splitlines()[0][:300]}",
            where=where,
            fix=f"Give the folder of {entry.hub_id} as save_pretrained writes it",
        ) from error
    tokenizer = loading.load_tokenizer(entry, folder, trusted=trusted)
    return model.to(device).eval().requires_grad_(False), tokenizer
