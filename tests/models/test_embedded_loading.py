"""Every embedded model loads as a cell loads it, with the tokenizer that it was trained with."""

import pytest

from benchsuite import catalog
from benchsuite.embedded import models, text, tokenizer
from benchsuite.models import load

SAMPLE = text.documents("test")[:20]


@pytest.mark.parametrize("name", models.NAMES)
def test_an_embedded_model_reads_text_as_it_was_trained_to(name):
    loaded = load(catalog.model(name))
    trained_with = tokenizer.load()
    assert len(loaded.tokenizer) == loaded.model.config.vocab_size
    for document in SAMPLE:
        assert loaded.tokenizer(document)["input_ids"] == trained_with(document)["input_ids"]
