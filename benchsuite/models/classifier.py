"""Hub models that judge texts: one output for likeness, or one per label."""

from dataclasses import replace
from typing import Any

from benchsuite.catalog import ModelEntry, Sources
from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.models import loading, own_code, source
from benchsuite.models.fetching import download
from benchsuite.models.folder import refuse_adapter


def load_classifier(
    entry: ModelEntry, sources: Sources = Sources(), *, device: str = "cpu"
) -> tuple[Any, Any]:
    """Return the sequence classifier of ``entry`` in evaluation mode, and its tokenizer.

    From its folder or the hub, safetensors alone, in the entry's own dtype. What this machine
    cannot get is ``CellCannotRun``; what cannot be read is ``BenchsuiteError``.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    # Random weights would judge nothing: a rehearsal that asks for a classifier has it whole.
    folder = source.locate(entry, replace(sources, weights="hub")).checkpoint()
    folder = folder or download(entry)
    refuse_adapter(folder)
    where, trusted = f"{entry.name}, {folder}", sources.trusts(entry.name)
    try:
        with loading.quiet_transformers(), own_code.refused(where):
            model: Any = AutoModelForSequenceClassification.from_pretrained(
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
            f"transformers cannot load it as a classifier: {str(error).splitlines()[0][:300]}",
            where=where,
            fix=f"Give the folder of {entry.hub_id} as save_pretrained writes it",
        ) from error
    tokenizer = loading.load_tokenizer(entry, folder, trusted=trusted)
    return model.to(device).eval().requires_grad_(False), tokenizer
