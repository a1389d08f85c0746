"""llm-compressor's own pipeline over an embedded model, for the tests that hold ours beside it."""

import pytest
import torch


def llm_compressor(model, batch, recipe, monkeypatch):
    """Return ``model`` as llm-compressor leaves it, calibrated on ``batch`` [n, length]."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    llmcompressor = pytest.importorskip("llmcompressor")
    from datasets import Dataset
    from llmcompressor.pipelines.cache import IntermediatesCache

    # Pinned memory needs a GPU.
    monkeypatch.setattr(IntermediatesCache, "pin_memory", lambda *args, **kwargs: None)
    columns = {"input_ids": batch.tolist(), "attention_mask": torch.ones_like(batch).tolist()}
    with torch.random.fork_rng():
        llmcompressor.oneshot(
            model=model,
            dataset=Dataset.from_dict(columns),
            recipe=recipe,
            max_seq_length=batch.shape[1],
            num_calibration_samples=len(batch),
            batch_size=1,
            shuffle_calibration_samples=False,
        )
    return model
