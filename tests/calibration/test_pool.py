import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchsuite.calibration import (
    SAMPLERS,
    CalibrationPool,
    MemoryFeatureCache,
    checked,
    register_sampler,
    sampler,
    sampler_module,
)
from benchsuite.calibration.pool import Account, tokenizer_digest, weights_digest
from benchsuite.errors import BenchsuiteError, UsageError


def test_a_feature_is_built_once_and_keeps_its_first_cost():
    cache = MemoryFeatureCache()
    builds = []

    def build():
        builds.append(1)
        return {"x": np.arange(3)}

    first, cost = cache.get({"a": 1, "b": [2]}, build)
    second, same_cost = cache.get({"b": [2], "a": 1}, build)
    cache.get({"a": 1, "b": [3]}, build)

    assert first["x"].tolist() == second["x"].tolist() == [0, 1, 2]
    assert cost == same_cost
    assert len(builds) == 2


class _Remembered:
    """A cache that had to build for an hour, once upon a time."""

    def get(self, key, build):
        return {"x": np.zeros(1)}, 3600.0


def test_costs_tell_what_was_spent_from_what_it_takes_alone(documents, tokenizer):
    account = Account(CalibrationPool(documents, tokenizer, features=_Remembered()))
    start = time.perf_counter()
    account.fetch({"feature": "one"}, dict)
    account.fetch({"feature": "two"}, dict)
    details = account.close(torch.zeros(1, 1), note="kept").details

    assert 0 < details["spent_seconds"] < 3600
    assert details["spent_seconds"] <= time.perf_counter() - start + 1
    assert details["shared_seconds"] == 7200
    assert 7200 <= details["standalone_seconds"] <= 7200 + details["spent_seconds"]
    assert details["note"] == "kept"


def test_a_lazy_model_is_loaded_once_and_only_when_needed(documents, tokenizer, model):
    calls = []

    def load():
        calls.append(1)
        return model

    pool = CalibrationPool(documents, tokenizer, model=load, model_digest="known")
    sampler("random")(pool, 2, 8, 0)
    assert calls == []
    assert pool.model_key == "known"
    sampler("self_generated")(pool, 2, 8, 0)
    sampler("self_generated")(pool, 2, 8, 1)
    assert calls == [1]


def test_a_capped_pool_holds_some_documents_in_order_under_a_key_of_its_own(documents, tokenizer):
    capped = CalibrationPool(documents, tokenizer, digest="known", max_documents=20)
    again = CalibrationPool(documents, tokenizer, digest="known", max_documents=20)
    whole = CalibrationPool(documents, tokenizer, digest="known", max_documents=90)

    assert len(capped.documents) == 20
    assert list(capped.documents) == [d for d in documents if d in capped.documents]
    assert capped.documents == again.documents
    assert whole.documents == documents
    assert len({capped.corpus_key, whole.corpus_key}) == 2
    unnamed = CalibrationPool(documents, tokenizer, max_documents=20)
    assert unnamed.corpus_key != CalibrationPool(documents, tokenizer).corpus_key


def test_the_tokenizers_digest_is_of_its_rules_not_of_its_last_call(tokenizer):
    before = tokenizer_digest(tokenizer)
    tokenizer(["w1", "w2 w3"], padding=True, truncation=True, max_length=2)
    assert tokenizer_digest(tokenizer) == before


def test_the_weights_digest_sees_every_bit(model):
    before = weights_digest(model)
    with torch.no_grad():
        weight = model.model.layers[0].mlp.up_proj.weight
        kept = weight[0, 0].item()
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))
        after = weights_digest(model)
        weight[0, 0] = kept

    assert after != before == weights_digest(model)


def test_bfloat16_weights_have_a_digest():
    layer = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    assert len(weights_digest(layer)) == 64


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_lives_in_the_module_that_the_registry_names(name):
    select = sampler(name)
    assert select.__module__ == sampler_module(name)


def test_an_unknown_sampler_names_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'cola_zero'"):
        sampler("cola_zer0")


def test_a_users_own_sampler():
    register_sampler("mine", "json:dumps")
    try:
        assert sampler("mine")([1]) == "[1]"
        register_sampler("mine", "json:dumps")  # a conftest is imported again
        with pytest.raises(UsageError, match="already registered as json:dumps"):
            register_sampler("mine", "json:loads")
    finally:
        del SAMPLERS["mine"]


def test_a_selection_of_another_size_is_refused_by_the_sampler_s_name(pool):
    found = sampler("random")(pool, 3, 8, 0)
    assert checked("mine", found, 3, 8) is found
    for size, wanted in (((4, 8), r"\[4, 8\]"), ((3, 9), r"\[3, 9\]")):
        with pytest.raises(BenchsuiteError, match=rf"'mine' .* int64 \[3, 8\]\. R.*{wanted}"):
            checked("mine", found, *size)
    with pytest.raises(BenchsuiteError, match=r"'mine' returned a list\. Return a Selection"):
        checked("mine", [1, 2], 3, 8)
    with pytest.raises(BenchsuiteError, match=r"returned a batch of int32"):
        checked("mine", replace(found, batch=found.batch.int()), 3, 8)


@pytest.mark.parametrize("target", ["module", "module:", ":select", "a:b:c"])
def test_a_malformed_target(target):
    with pytest.raises(UsageError, match=r"package\.module:function"):
        register_sampler("mine", target)
