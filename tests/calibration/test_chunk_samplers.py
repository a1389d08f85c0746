"""The samplers that only cut: first chunks, random chunks, length terciles, noise."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchsuite.calibration import CalibrationPool, gptq_default, random_chunks
from benchsuite.calibration import noise_tokens as noise
from benchsuite.calibration import stratified as terciles
from benchsuite.calibration.tokens import CorpusTooShort
from tests.calibration.conftest import corpus


def _joined(pool):
    return pool.tokenizer("\n\n".join(pool.documents))["input_ids"]


def test_gptq_default_is_the_beginning_of_the_joined_text(pool):
    ids = _joined(pool)

    for seed in (0, 42):
        batch = gptq_default.select(pool, 5, 32, seed).batch
        assert batch.tolist() == [ids[32 * i : 32 * (i + 1)] for i in range(5)]
    assert batch[0, 0] == pool.tokenizer.bos_token_id


def test_gptq_default_takes_the_last_full_chunk_and_no_more(pool):
    total = len(_joined(pool))
    assert gptq_default.select(pool, total // 32, 32, 0).batch.shape == (total // 32, 32)
    with pytest.raises(CorpusTooShort, match=rf"holds {total} tokens"):
        gptq_default.select(pool, total // 32 + 1, 32, 0)


@pytest.mark.parametrize("seed", [0, 42, 46])
def test_random_starts_are_the_published_draws(seed, pool):
    ids = _joined(pool)
    generator = random.Random(seed)
    expected = []
    for _ in range(7):
        start = generator.randint(0, len(ids) - 32 - 1)
        expected.append(ids[start : start + 32])

    assert random_chunks.select(pool, 7, 32, seed).batch.tolist() == expected


@given(seed=st.integers(0, 2**32), extra=st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_random_starts_stay_in_the_published_interval(seed, extra, tokenizer):
    document = " ".join(f"w{i}" for i in range(20))  # every token differs, so starts can be read
    pool = CalibrationPool((document,), tokenizer)
    total = 21  # BOS included
    seq_len = total - extra

    selection = random_chunks.select(pool, 8, seq_len, seed)

    ids = _joined(pool)
    assert len(ids) == total
    for start, row in zip(selection.details["starts"], selection.batch.tolist(), strict=True):
        assert 0 <= start <= total - seq_len - 1
        assert row == ids[start : start + seq_len]


def test_random_reaches_both_ends_of_the_interval(tokenizer):
    pool = CalibrationPool((" ".join(f"w{i}" for i in range(20)),), tokenizer)
    starts = random_chunks.select(pool, 200, 17, 3).details["starts"]

    assert (min(starts), max(starts)) == (0, 21 - 17 - 1)


def test_random_needs_one_token_more_than_a_sequence(tokenizer):
    pool = CalibrationPool(("w1 w2 w3",), tokenizer)

    with pytest.raises(CorpusTooShort, match="holds 4 tokens and one random start needs 5"):
        random_chunks.select(pool, 1, 4, 0)


def test_stratified_takes_a_share_of_each_length_tercile(tokenizer):
    # A document's words tell its length, so a chunk's words tell its tercile.
    documents = []
    for i in range(30):
        word = f"w{10 * (i // 10)}"
        documents.append(" ".join([word] * (10 + i)))
    random.Random(1).shuffle(documents)
    pool = CalibrationPool(tuple(documents), tokenizer)

    selection = terciles.select(pool, 8, 16, 42)

    words = pool.tokenizer.batch_decode(selection.batch)
    found = [next(w for w in text.split() if w != "\n\n") for text in words]
    assert found == ["w0"] * 3 + ["w10"] * 3 + ["w20"] * 2
    strata = selection.details["strata"]
    assert [(s["shortest"], s["longest"]) for s in strata.values()] == [
        (10, 19),
        (20, 29),
        (30, 39),
    ]
    assert sum(s["n_samples"] for s in strata.values()) == 8


def test_stratified_is_the_seeded_shuffle_cut_in_chunks(pool):
    lengths = [len(d.split()) for d in pool.documents]
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    third = len(order) // 3
    generator = random.Random(9)
    expected = []
    for part in range(3):
        members = order[third * part : third * (part + 1)]
        generator.shuffle(members)
        held, chosen = 0, []
        while held < 1.1 * 2 * 24:
            held += lengths[members[len(chosen)]]
            chosen.append(members[len(chosen)])
        text = "\n\n".join(pool.documents[i] for i in chosen)
        ids = pool.tokenizer(text, add_special_tokens=False)["input_ids"]
        expected += [ids[:24], ids[24:48]]

    assert terciles.select(pool, 6, 24, 9).batch.tolist() == expected


def test_a_tercile_that_is_short_of_tokens_repeats_itself(tokenizer):
    pool = CalibrationPool(corpus(9, shortest=12, longest=14), tokenizer)

    selection = terciles.select(pool, 12, 30, 0)

    added = [s["overlapping_chunks"] for s in selection.details["strata"].values()]
    assert all(n == 3 for n in added)  # about 40 tokens hold one chunk of four


def test_noise_is_uniform_over_the_vocabulary(pool):
    batch = noise.select(pool, 200, 500, 1).batch
    counts = torch.bincount(batch.flatten(), minlength=len(pool.tokenizer))
    expected = batch.numel() / len(pool.tokenizer)

    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert len(counts) == len(pool.tokenizer)
    assert abs(chi_square - len(counts)) < 6 * (2 * len(counts)) ** 0.5
