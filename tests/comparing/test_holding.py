"""One model at a time, or one block at a time: the numbers are those of both models at once."""

import numpy as np
import pytest
import torch

from benchsuite.catalog import Sources
from benchsuite.comparing import measure, room
from benchsuite.comparing.comparison import compare
from benchsuite.comparing.gating import gate
from benchsuite.comparing.holding import hold, hold_by_blocks
from benchsuite.comparing.measured import BOTH, IN_TURN, Settings
from benchsuite.comparing.questions import question_set
from benchsuite.comparing.room import Fit, weight_bytes
from benchsuite.comparing.server import Sides
from benchsuite.comparing.texts import open_text
from benchsuite.errors import UsageError
from benchsuite.quantizers import checkpoint, rtn
from tests.models import tiny

CPU = torch.device("cpu")
FIELDS = ("base_nll", "nll", "kl", "top", "same", "base_right", "right")


def ids(n):
    return torch.randint(300, (n,), generator=torch.Generator().manual_seed(0))


def rounded(model_type, bits=3, **changes):
    model = tiny.model(model_type, **changes)
    rtn.quantize(model, bits=bits, group_size=32)
    return model


@pytest.mark.parametrize("model_type", ["llama", "opt", "gemma2", "granite"])
def test_one_at_a_time_the_numbers_are_the_same_bits(model_type):
    base, other, tokens = tiny.model(model_type), rounded(model_type), ids(7 * 64)
    both = measure.read(base, other, tokens, seq_len=64)
    held = hold(base, tokens, seq_len=64, floor=True)
    alone = measure.read(held, other, tokens, seq_len=64)
    for name in FIELDS:
        assert np.array_equal(getattr(alone.tokens, name), getattr(both.tokens, name)), name
        assert np.array_equal(getattr(alone.floor, name), getattr(both.floor, name)), name
    assert alone.shared == both.shared


@pytest.mark.parametrize(
    "model_type", ["llama", "opt", "gemma2", "gemma3_text", "granite", "qwen3", "phi3", "smollm3"]
)
def test_block_by_block_the_numbers_are_the_same(model_type):
    own = {"pad_token_id": 0}
    base, other = tiny.model(model_type, **own), rounded(model_type, **own)
    tokens = ids(37 * 64)
    both = measure.read(base, other, tokens, seq_len=64)
    first = hold_by_blocks(base, tokens, seq_len=64, device=CPU, floor=True)
    second = hold_by_blocks(other, tokens, seq_len=64, device=CPU)
    alone = measure.read(first, second, tokens, seq_len=64)
    np.testing.assert_allclose(alone.tokens.kl.mean(1), both.tokens.kl.mean(1), rtol=1e-5)
    np.testing.assert_allclose(alone.tokens.nll, both.tokens.nll, atol=1e-5)
    # Another batch, the same size of noise.
    assert alone.floor.kl.shape == both.floor.kl.shape
    assert 0.5 < alone.floor.kl.mean() / both.floor.kl.mean() < 2


def test_only_states_and_a_head_are_kept():
    model, tokens = tiny.model("gemma2"), ids(256)
    held = hold(model, tokens, seq_len=64)
    width = model.config.hidden_size
    assert sum(states.numel() for states in held.hidden) == 256 * width
    assert held.floor is None


def test_blocks_of_an_unknown_architecture_are_refused():
    model = tiny.model()
    model.config.model_type = "unheard_of"
    with pytest.raises(UsageError, match="'unheard_of' does not fit on cpu"):
        hold_by_blocks(model, ids(256), seq_len=64, device=CPU)


@pytest.fixture
def small_room(monkeypatch):
    """Room for one model of a pair and not for two."""
    taken = weight_bytes("tiny_llama_4m", Sources(), "cpu")
    monkeypatch.setattr(room, "room", lambda device: int(1.5 * taken))


@pytest.mark.stress
def test_a_comparison_is_the_same_where_two_do_not_fit(request):
    sets = (question_set("closed_book", 4),)
    settings = Settings(open_text("embedded_text"), 1024, 128, sets, speed=False)
    words = ("tiny_llama_4m", ["tiny_llama_4m", "tiny_llama_1m"])
    both = compare(*words, settings)
    request.getfixturevalue("small_room")
    alone = compare(*words, settings)
    assert {pair.reading.how for pair in both.pairs} == {BOTH}
    assert {pair.reading.how for pair in alone.pairs} == {IN_TURN}
    for one, two in zip(both.pairs, alone.pairs, strict=True):
        assert [items.metric for items in one.items] == [items.metric for items in two.items]
        for a, b in zip((*one.items, *one.shares), (*two.items, *two.shares), strict=True):
            assert np.array_equal(a.candidate, b.candidate), a.metric
            assert np.array_equal(a.base, b.base), a.metric
        assert one.floor.keys() == two.floor.keys()
        assert one.spread == two.spread
        assert one.worst == two.worst


def test_a_gate_is_the_same_where_two_do_not_fit(monkeypatch):
    sets = (question_set("closed_book", 5),)
    margins = {"perplexity": "0.0001%", "kl": "0.000001", "accuracy": "1"}
    settings = Settings(open_text("embedded_text"), 1280, 64, sets, margins, group=2)
    words = ("tiny_llama_1m", "tiny_llama_4m")
    both = gate(*words, settings)
    taken = weight_bytes("tiny_llama_4m", Sources(), "cpu")
    monkeypatch.setattr(room, "room", lambda device: taken)
    opened, open_ = [], Sides.open

    def opening(sides, place, device=""):
        if opened:
            assert not list(opened[-1].model.parameters()), "the base was not let go of"
        opened.append(open_(sides, place, device))
        return opened[-1]

    monkeypatch.setattr(Sides, "open", opening)
    alone = gate(*words, settings)
    assert len(opened) == 2
    assert alone.verdict == both.verdict
    for one, two in zip(both.items, alone.items, strict=True):
        assert (one.ids, one.clusters) == (two.ids, two.clusters)
        assert np.array_equal(one.base, two.base)
        assert np.array_equal(one.candidate, two.candidate)


def test_layers_are_not_ranked_one_at_a_time(small_room):
    settings = Settings(open_text("embedded_text"), 256, 64, layers=True, speed=False)
    (pair,) = compare("tiny_llama_4m", ["tiny_llama_4m"], settings).pairs
    assert "both models have to fit in memory at once" in pair.refused[0]


def test_what_a_packed_model_takes_is_counted_unpacked(tmp_path):
    plain = tiny.checkpoint(tmp_path / "plain")
    model = tiny.model()
    full = sum(p.numel() for p in model.parameters())
    rtn.quantize(model, bits=4, group_size=32)
    checkpoint.save(model, tmp_path / "w4", tokenizer=tiny.tokenizer())
    assert weight_bytes(str(plain), Sources(), "cpu") == 4 * full
    packed = weight_bytes(str(tmp_path / "w4"), Sources(), "cpu")
    assert 1 < packed / (4 * full) < 1.2  # scales and zeros beside the weights


def test_a_model_beyond_a_gpu_is_opened_on_the_host(tmp_path, monkeypatch):
    word = str(tiny.checkpoint(tmp_path / "plain"))
    taken = weight_bytes(word, Sources(), "cuda")
    found = {}
    for share in (3, 1.5, 0.5):
        monkeypatch.setattr(room, "room", lambda device, share=share: int(share * taken))
        fit = Fit.of((word, word), [1], Sources(), "cuda")
        found[share] = fit.how, fit.device_of(0), fit.device_of(1)
    assert found[3] == ("both at once", "cuda", "cuda")
    assert found[1.5] == ("one at a time", "cuda", "cuda")
    assert found[0.5] == ("one at a time, block by block", "cpu", "cpu")
