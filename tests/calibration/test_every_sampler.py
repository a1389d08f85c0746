"""What holds for every sampler, registered ones included."""

import json
import random

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from benchsuite.calibration import SAMPLERS, CalibrationPool, MemoryFeatureCache, sampler
from benchsuite.calibration.tokens import CorpusTooShort
from benchsuite.errors import UsageError

N, LENGTH = 6, 16
OPTIONS = {"cola_zero": {"min_tokens": (20, 25)}, "cola_balanced": {"min_tokens": 20}}
SEEDED = sorted(set(SAMPLERS) - {"gptq_default"})
FROM_TEXT = sorted(set(SAMPLERS) - {"self_generated", "noise_tokens"})


def choose(name, pool, seed=42, n=N, length=LENGTH):
    return sampler(name)(pool, n, length, seed, **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_batch_is_int64_on_the_cpu_within_the_vocabulary(name, pool):
    batch = choose(name, pool).batch

    assert batch.shape == (N, LENGTH)
    assert batch.dtype == torch.int64
    assert batch.device.type == "cpu"
    assert batch.min() >= 0
    assert batch.max() < len(pool.tokenizer)


@pytest.mark.parametrize("name", [*FROM_TEXT, "self_generated"])
def test_each_sequence_of_gemma_s_begins_with_its_first_token(name, pool, documents, tokenizer):
    told = tokenizer.backend_tokenizer.to_str().replace(f'"{tokenizer.bos_token}"', '"<bos>"')
    gemma = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(told), bos_token="<bos>", eos_token=tokenizer.eos_token
    )
    begun = choose(name, CalibrationPool(documents, gemma, model=lambda: pool.model)).batch
    assert (begun[:, 0] == gemma.bos_token_id).all()
    if name != "self_generated":
        plain = choose(name, pool).batch
        there = plain[:, 0] == tokenizer.bos_token_id  # the text's own beginning
        assert torch.equal(begun[~there, 1:], plain[~there, :-1])
        assert torch.equal(begun[there], plain[there])


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_seed_gives_the_same_batch_from_a_fresh_pool(name, pool, documents, tokenizer):
    again = CalibrationPool(documents, tokenizer, model=lambda: pool.model)

    assert torch.equal(choose(name, pool).batch, choose(name, again).batch)


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_was_selected_before_does_not_matter(name, pool, documents, tokenizer, model):
    for other in SAMPLERS:
        choose(other, pool, seed=7)

    alone = CalibrationPool(documents, tokenizer, model=model)
    assert torch.equal(choose(name, pool).batch, choose(name, alone).batch)


@pytest.mark.parametrize("name", SEEDED)
def test_another_seed_gives_another_batch(name, pool):
    batches = [choose(name, pool, seed).batch for seed in (42, 43, 44)]

    assert any(not torch.equal(batches[0], other) for other in batches[1:])


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_global_generator_is_read_or_moved(name, pool):
    expected = choose(name, pool).batch
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    found = choose(name, pool).batch
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()

    assert torch.equal(found, expected)
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


@pytest.mark.parametrize("name", SAMPLERS)
def test_details_are_json_with_both_costs(name, pool):
    first, second = choose(name, pool).details, choose(name, pool).details

    assert json.loads(json.dumps(first)) == first
    assert min(second["spent_seconds"], second["standalone_seconds"]) > 0
    assert first["sampler"] == second["sampler"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_tokenizer_and_the_model_are_left_as_they_were(name, pool):
    rules = pool.tokenizer.backend_tokenizer.to_str()
    weights = {k: v.clone() for k, v in pool.model.state_dict().items()}
    choose(name, pool)

    assert pool.tokenizer.backend_tokenizer.to_str() == rules
    assert all(torch.equal(v, weights[k]) for k, v in pool.model.state_dict().items())


@pytest.mark.parametrize("name", FROM_TEXT)
def test_a_corpus_too_short_says_what_was_found_and_needed(name, tokenizer, model):
    small = CalibrationPool(("w1 w2 w3", "w1 w2"), tokenizer, model=model)

    with pytest.raises(CorpusTooShort, match=r"holds \d+ .* needs? \d+") as caught:
        choose(name, small)

    assert "\n" not in str(caught.value)


def test_a_model_that_writes_nothing_is_told(pool):
    with pytest.raises(UsageError, match="a sequence of 1 is its first token"):
        choose("self_generated", pool, length=1)


def test_features_are_built_once_for_all_samplers_and_seeds(documents, tokenizer, model):
    built = []

    class Counting(MemoryFeatureCache):
        def get(self, key, build):
            def counted():
                built.append(key["feature"])
                return build()

            return super().get(key, counted)

    pool = CalibrationPool(documents, tokenizer, model=model, features=Counting())
    for seed in (42, 43):
        for name in SAMPLERS:
            choose(name, pool, seed)

    assert sorted(built) == [
        "document_perplexity",
        "document_tokens",
        "joined_tokens",
        "projected_activations",
        "tfidf",
        "tfidf_svd",
    ]
