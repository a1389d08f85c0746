"""Models that judge texts, made on the spot and read as from the hub."""

import numpy as np
import pytest
import torch
from transformers import RobertaConfig, RobertaForSequenceClassification

from benchsuite import catalog
from benchsuite.errors import BenchsuiteError, CellCannotRun, UsageError
from benchsuite.evaluation.uncertainty import semantic, similarity
from benchsuite.models import load_classifier, load_similarity_model
from tests.models import tiny


def folder(path, **options):
    config = RobertaConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=130,
        pad_token_id=1,
        **options,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        RobertaForSequenceClassification(config).save_pretrained(path)
    tokenizer = tiny.tokenizer()
    tokenizer.pad_token = "</s>"
    tokenizer.model_max_length = 128
    tokenizer.save_pretrained(path)
    return path


PAIRS = [("an owl", "an owl sees"), ("bees", "the moon"), ("x", "a much longer text than that")]


def test_a_cross_encoder_gives_its_sigmoid_whatever_the_batch(tmp_path):
    entry = catalog.model("stsb_roberta_large")
    model, tokenizer = load_classifier(entry, tiny.at(folder(tmp_path, num_labels=1), entry.name))
    found = similarity.cross_encoder(model, tokenizer)(PAIRS)
    alone = similarity.cross_encoder(model, tokenizer, batch_size=1)(PAIRS)
    np.testing.assert_allclose(found, alone, atol=1e-5)
    with torch.no_grad():
        logit = model(**tokenizer(*PAIRS[1], return_tensors="pt")).logits[0, 0]
    assert found[1] == pytest.approx(float(logit.sigmoid()), abs=1e-5)
    assert similarity.cross_encoder(model, tokenizer)([]).shape == (0,)


def test_entailment_is_the_label_that_the_configuration_names(tmp_path):
    labels = {0: "ENTAILMENT", 1: "NEUTRAL", 2: "CONTRADICTION"}
    entry = catalog.model("roberta_large_mnli")
    model, tokenizer = load_classifier(
        entry, tiny.at(folder(tmp_path, id2label=labels), entry.name)
    )
    model.classifier.out_proj.weight.zero_()
    for wins, expected in ((0, True), (1, False)):
        model.classifier.out_proj.bias.copy_(torch.eye(3)[wins])
        assert semantic.nli(model, tokenizer)(PAIRS).tolist() == [expected] * 3
    assert semantic.nli(model, tokenizer)([]).shape == (0,)


def test_a_model_of_the_other_kind_is_refused(tmp_path):
    """The first logit of a model for entailment passed for a similarity: contradiction's."""
    labels = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
    entry = catalog.model("roberta_large_mnli")
    entailing = tiny.at(folder(tmp_path / "nli", id2label=labels), entry.name)
    model, tokenizer, encodes = load_similarity_model(entry, entailing)
    assert not encodes
    with pytest.raises(UsageError, match="tells 3 classes apart"):
        similarity.cross_encoder(model, tokenizer)
    entry = catalog.model("stsb_roberta_large")
    alike = tiny.at(folder(tmp_path / "sts", num_labels=1), entry.name)
    with pytest.raises(UsageError, match="no class called entailment, but 'label_0'"):
        semantic.nli(*load_classifier(entry, alike))


def test_what_cannot_be_had_or_read_says_so(tmp_path, monkeypatch):
    entry = catalog.model("stsb_roberta_large")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CellCannotRun, match="stsb_roberta_large=PATH"):
        load_classifier(entry)
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(BenchsuiteError, match="as a classifier"):
        load_classifier(entry, tiny.at(tmp_path, entry.name))


def test_an_encoder_of_texts_gives_the_cosine_of_its_mean_states(tmp_path):
    """Against sentence-transformers' pooling, written out text by text."""
    whole = folder(tmp_path, num_labels=1)
    inner = RobertaForSequenceClassification.from_pretrained(whole).roberta
    inner.save_pretrained(whole)
    entry = catalog.model("minilm_l6_v2")
    model, tokenizer, encodes = load_similarity_model(entry, tiny.at(whole, entry.name))
    assert encodes

    def vector(text):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        return states.mean(0).double()

    found = similarity.sentence_encoder(model, tokenizer, batch_size=2)([*PAIRS, ("x", "x")])
    expected = [torch.cosine_similarity(vector(a), vector(b), dim=0).clip(0, 1) for a, b in PAIRS]
    np.testing.assert_allclose(found, [*expected, 1], atol=1e-5)
    assert similarity.sentence_encoder(model, tokenizer)([]).shape == (0,)


def test_a_cross_encoder_is_told_from_an_encoder_by_its_configuration(tmp_path):
    entry = catalog.model("stsb_roberta_large")
    place = tiny.at(folder(tmp_path, num_labels=1), entry.name)
    model, _, encodes = load_similarity_model(entry, place)
    assert not encodes
    assert type(model) is RobertaForSequenceClassification
