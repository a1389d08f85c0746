"""The samplers that ask the model: activation clusters and self-generated text."""

import copy

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from transformers import AutoConfig, AutoModelForCausalLM

from benchsuite.calibration import CalibrationPool, activation_clusters, cola_zero, self_generated
from benchsuite.calibration.activation_clusters import block_means, projected
from benchsuite.calibration.features import document_perplexities
from benchsuite.calibration.pool import Account
from benchsuite.decoding import slots
from benchsuite.decoding.ways import grows_in_slots
from benchsuite.errors import UsageError
from tests.decoding.slot_models import attend_plainly

N, LENGTH = 5, 16


def _features(model, rows):
    """One candidate at a time, through hooks on the blocks and the last norm."""
    outputs = []
    blocks = list(model.model.layers)
    hooked = [*blocks[:-1], model.model.norm]  # the last block's output is taken after the norm

    def keep(_module, _inputs, output):
        outputs.append(output[0] if isinstance(output, tuple) else output)

    handles = [module.register_forward_hook(keep) for module in hooked]
    found = []
    for row in rows:
        outputs.clear()
        with torch.no_grad():
            model(input_ids=torch.tensor([row]))
        means = [states[0].double().mean(dim=0) for states in outputs]
        found.append(torch.cat([mean / mean.norm() for mean in means]))
    for handle in handles:
        handle.remove()
    return torch.stack(found)


def _candidates(pool):
    ids = pool.tokenizer("\n\n".join(pool.documents))["input_ids"]
    return [ids[LENGTH * i : LENGTH * (i + 1)] for i in range(len(ids) // LENGTH)]


@pytest.mark.parametrize("seed", [42, 43])
def test_activation_clusters_take_the_candidate_nearest_each_centre(seed, pool, model):
    candidates = _candidates(pool)
    features = _features(model, candidates)
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(features.shape[1], 64, generator=generator, dtype=torch.float64)
    x = (features @ matrix / 8).numpy()
    means = KMeans(N, n_init=50, max_iter=300, random_state=seed).fit(x)
    distances = ((x - means.cluster_centers_[means.labels_]) ** 2).sum(axis=1)
    nearest = [
        min(np.flatnonzero(means.labels_ == c), key=lambda i: distances[i]) for c in range(N)
    ]

    selection = activation_clusters.select(pool, N, LENGTH, seed, candidates_per_sample=1000)

    assert selection.details["n_candidates"] == len(candidates)
    assert selection.batch.tolist() == [candidates[i] for i in nearest]
    assert selection.details["starts"] == [LENGTH * int(i) for i in nearest]


def test_block_means_have_unit_length_and_one_part_per_block(model):
    ids = torch.randint(125, (4, 9), generator=torch.Generator().manual_seed(0))

    parts = block_means(model, ids)

    assert [part.shape for part in parts] == [(4, 32)] * 3
    for part in parts:
        torch.testing.assert_close(part.norm(dim=1), torch.ones(4, dtype=torch.float64))


def test_the_projection_keeps_distances_roughly():
    rows = torch.nn.functional.normalize(
        torch.randn(50, 4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    )
    before = torch.cdist(rows, rows)[0, 1:]
    after = torch.cdist(projected([rows]), projected([rows]))[0, 1:]

    assert ((after / before) - 1).abs().max() < 0.4  # standard error 1 / sqrt(2 * 64) = .09


def test_candidates_are_capped_alike_for_every_seed(pool):
    keyed = []
    for seed in (42, 43):
        details = activation_clusters.select(pool, N, LENGTH, seed, candidates_per_sample=3).details
        assert details["n_candidates"] == 15
        assert len(set(details["starts"])) == N
        keyed.append(set(details["starts"]))
    assert len(set.union(*keyed)) <= 15


def test_repeated_text_still_gives_distinct_places(tokenizer, model):
    pool = CalibrationPool(("w1 " * 400,), tokenizer, model=model)

    details = activation_clusters.select(pool, N, LENGTH, 42).details

    assert len(set(details["starts"])) == N
    assert details["empty_clusters"] > 0


def read_anew(model, seed, banned):
    """Every sequence alone, by the whole text in every step, drawn by cumulated chances."""
    rows = []
    for i in range(N):
        numbers = np.random.default_rng([seed, i]).random(LENGTH - 1)
        ids = [0]
        for step, number in enumerate(numbers):
            heat = 2.0 - step / 10 if step < 10 else 1.0
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            logits[banned] = -torch.inf
            chances = np.cumsum(torch.softmax(logits.double() / heat, dim=-1).numpy())
            ids.append(int((chances <= number * chances[-1]).sum()))
        rows.append(ids)
    return torch.tensor(rows)


@pytest.mark.parametrize("batch_size", [3, 32, None])
def test_self_generated_text_is_what_the_model_samples_without_a_cache(pool, model, batch_size):
    banned = [*pool.tokenizer.all_special_ids, 125, 126, 127]

    batch = self_generated.select(pool, N, LENGTH, 42, batch_size=batch_size).batch

    assert torch.equal(batch, read_anew(model, 42, banned))
    assert (batch[:, 0] == pool.tokenizer.bos_token_id).all()


def test_a_sequence_is_the_same_however_many_are_written(pool):
    whole = self_generated.select(pool, 7, LENGTH, 42).batch

    assert torch.equal(self_generated.select(pool, 3, LENGTH, 42).batch, whole[:3])
    assert torch.equal(self_generated.select(pool, 7, LENGTH, 42, batch_size=2).batch, whole)
    assert len({tuple(row) for row in whole.tolist()}) == 7


def test_in_slots_the_model_writes_the_same(pool, monkeypatch):
    """The way of a GPU, without its kernel and its graph (that is tried below)."""
    plain = self_generated.select(pool, N, LENGTH, 42).batch
    monkeypatch.setattr(self_generated, "grows_in_slots", lambda _: True)
    monkeypatch.setattr(slots, "kernel", lambda: attend_plainly)

    found = self_generated.select(pool, N, LENGTH, 42, batch_size=2)

    assert torch.equal(found.batch, plain)
    assert found.details["batch_size"] == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_the_model_writes_in_slots_what_it_writes_on_a_cpu(pool, documents, tokenizer):
    there = copy.deepcopy(pool.model).cuda()
    assert grows_in_slots(there)
    own = self_generated.select(pool, 24, 64, 42).batch
    found = self_generated.select(CalibrationPool(documents, tokenizer, model=there), 24, 64, 42)

    # A draw beside the border of two tokens falls otherwise, and its sequence goes on from there.
    assert (found.batch == own).all(dim=1).float().mean() > 0.8
    assert found.batch.device.type == "cpu"


def test_self_generated_text_follows_the_models_chances(pool, model):
    batch = self_generated.select(pool, 4000, 2, 0, initial_temperature=1.0, batch_size=4000).batch
    with torch.no_grad():
        logits = model(input_ids=torch.zeros(1, 1, dtype=torch.int64)).logits[0, -1]
    logits[[*pool.tokenizer.all_special_ids, 125, 126, 127]] = -torch.inf
    expected = 4000 * torch.softmax(logits, dim=-1)
    counts = torch.bincount(batch[:, 1], minlength=128)

    assert ((counts - expected) ** 2 <= 25 * expected.clamp(min=1)).all()


def test_the_temperature_falls_linearly_and_stays():
    values = [self_generated.temperature(i, 2.0, 1.0, 4) for i in range(6)]

    assert values == [2.0, 1.75, 1.5, 1.25, 1.0, 1.0]
    assert self_generated.temperature(0, 2.0, 0.7, 0) == 0.7


def test_a_sampler_that_needs_the_model_says_so(documents, tokenizer):
    pool = CalibrationPool(documents, tokenizer)

    with pytest.raises(UsageError, match="needs the model"):
        self_generated.select(pool, N, LENGTH, 42)


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "mistral", "opt"])
def test_every_family_can_be_asked(model_type, documents, tokenizer):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape = {**sizes, "vocab_size": 128, "max_position_embeddings": 256}
    grouped = {"intermediate_size": 48, "num_key_value_heads": 1}
    inner = {"ffn_dim": 48, "word_embed_proj_dim": 32} if model_type == "opt" else grouped
    config = AutoConfig.for_model(model_type, **shape, **inner)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        family = AutoModelForCausalLM.from_config(config).eval()
    pool = CalibrationPool(documents, tokenizer, model=family)

    written = self_generated.select(pool, N, LENGTH, 42).batch
    clustered = activation_clusters.select(pool, N, LENGTH, 42).batch
    scored = cola_zero.select(pool, N, LENGTH, 42, min_tokens=(20,))

    assert written.shape == clustered.shape == scored.batch.shape == (N, LENGTH)
    with torch.no_grad():
        ids = torch.tensor([tokenizer(pool.documents[3])["input_ids"]])
        expected = family(input_ids=ids, labels=ids).loss.exp().item()
    account = Account(pool)
    found = document_perplexities(pool, account, np.array([0, 3, 5]), max_length=256, batch_size=3)
    assert found[1] == pytest.approx(expected, rel=1e-5)
