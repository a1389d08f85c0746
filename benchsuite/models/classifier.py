"""Hub models that judge texts: one output for likeness, or one per label."""

from pathlib import Path
from typing import Any

from benchsuite.catalog import ModelEntry
from benchsuite.errors import BenchsuiteError
from benchsuite.models import loading, source
from benchsuite.models.folder import refuse_adapter


def load_classifier(
    entry: ModelEntry, *, device: str = "cpu", local: Path | None = None
) -> tuple[Any, Any]:
    """Return the sequence classifier of ``entry`` in evaluation mode, and its tokenizer.

    From ``local`` or the hub, safetensors alone, in the entry's own dtype. What this machine cannot
    get is ``CellCannotRun``; what cannot be read is ``BenchsuiteError``.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    folder = source.locate(entry, local=local).folder or loading.download(entry)
    refuse_adapter(folder)
    try:
        with loading.quiet_transformers():
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                folder,
                dtype=getattr(torch, entry.dtype),
                use_safetensors=True,
                local_files_only=True,
            )
    except (ValueError, OSError) as error:
        raise BenchsuiteError(
            f"transformers cannot load it as a classifier: {str(error).splitlines()[0][:300]}",
            where=f"{entry.name}, {folder}",
            fix=f"Give the folder of {entry.hub_id} as save_pretrained writes it",
        ) from error
    tokenizer = loading.load_tokenizer(entry, folder)
    return model.to(device).eval().requires_grad_(False), tokenizer
