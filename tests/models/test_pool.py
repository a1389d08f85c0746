import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchsuite.catalog import Sources
from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.models import LoadedModel, ModelPool, PeakMemory, default_budget, load
from benchsuite.models.loading import tensor_bytes
from tests.models import tiny

IDS = torch.arange(20)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.checkpoint(tmp_path_factory.mktemp("pool") / "checkpoint")


@pytest.fixture
def pool():
    return ModelPool("cpu", 2**30)


def logits(lease):
    with torch.no_grad():
        return lease.model(IDS).logits


def test_a_lease_shares_storage_and_gives_the_same_logits(pool, folder):
    with (
        pool.lease(tiny.entry(), tiny.at(folder)) as one,
        pool.lease(tiny.entry(), tiny.at(folder)) as two,
    ):
        assert one.model is not two.model
        for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
            assert a is not b
            assert a.data_ptr() == b.data_ptr()
        assert torch.equal(logits(one), logits(two))
        assert torch.equal(logits(one), load(tiny.entry(), tiny.at(folder)).model(IDS).logits)
    assert pool.resident == ("small_llama",)


def test_replacing_weights_and_modules_is_seen_by_nobody_else(pool, folder):
    with pool.lease(tiny.entry(), tiny.at(folder)) as other:
        original = logits(other)
        with pool.lease(tiny.entry(), tiny.at(folder)) as lease:
            layer = lease.model.model.layers[0]
            layer.mlp.up_proj = nn.Identity()
            layer.mlp.up_proj = nn.Linear(64, 96, bias=False)
            layer.self_attn.q_proj.weight = nn.Parameter(torch.zeros(64, 64))
            lease.model.config.use_cache = False
            assert not torch.equal(logits(lease), original)
            assert torch.equal(logits(other), original)
        assert other.model.config.use_cache
    with pool.lease(tiny.entry(), tiny.at(folder)) as again:
        assert torch.equal(logits(again), original)


def test_tied_embeddings_stay_tied_in_a_lease(pool, tmp_path):
    tied = tiny.checkpoint(tmp_path / "tied", tie_word_embeddings=True)
    with pool.lease(tiny.entry(tie_word_embeddings=True), tiny.at(tied)) as lease:
        assert lease.model.lm_head.weight is lease.model.model.embed_tokens.weight


def write_plainly(tensor):
    tensor.mul_(2)


def write_through_data(tensor):
    tensor.data[0, 0] += 1


@pytest.mark.parametrize("write", [write_plainly, write_through_data])
def test_writing_into_a_shared_tensor_is_an_error_and_drops_the_model(pool, folder, write):
    with pool.lease(tiny.entry(), tiny.at(folder)) as lease:
        original = logits(lease)
    lease = pool.lease(tiny.entry(), tiny.at(folder))
    write(lease.model.model.layers[1].mlp.down_proj.weight)
    with pytest.raises(BenchsuiteError, match=r"shared weights.*layers\.1\.mlp\.down_proj\.weight"):
        lease.release()
    assert pool.resident == ()
    with pool.lease(tiny.entry(), tiny.at(folder)) as fresh:
        assert torch.equal(logits(fresh), original)


def test_a_cells_own_error_is_not_masked_by_the_check(pool, folder):
    def cell():
        with pool.lease(tiny.entry(), tiny.at(folder)) as lease:
            lease.model.lm_head.weight.zero_()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        cell()
    assert "shared weights" in caught.value.__notes__[0]
    assert pool.resident == ()


def test_a_released_lease_gives_no_model(pool, folder):
    lease = pool.lease(tiny.entry(), tiny.at(folder))
    lease.release()
    lease.release()
    with pytest.raises(RuntimeError, match="already released"):
        _ = lease.model


def counting(loads):
    def loader(entry, sources, device):
        loads.append(entry.name)
        model = tiny.model()
        return LoadedModel(model, tiny.tokenizer(), entry, "hub", "digest", tensor_bytes(model))

    return loader


ONE = tensor_bytes(tiny.model())


def test_the_least_recently_used_model_goes_first():
    loads = []
    pool = ModelPool("cpu", int(2.5 * ONE), loader=counting(loads))
    a, b, c = (tiny.entry(name) for name in "abc")
    for entry in (a, b, a, c):
        pool.lease(entry).release()
    assert pool.resident == ("a", "c")
    pool.lease(b).release()
    assert pool.resident == ("c", "b")
    assert loads == ["a", "b", "c", "b"]


def test_a_leased_model_is_never_evicted_and_counts():
    pool = ModelPool("cpu", int(1.5 * ONE), loader=counting([]))
    with pool.lease(tiny.entry("a")):
        pool.lease(tiny.entry("b")).release()
        assert set(pool.resident) == {"a", "b"}
        assert pool.used_bytes == 2 * ONE
        pool.lease(tiny.entry("c")).release()
        assert set(pool.resident) == {"a", "c"}


def test_a_model_above_the_budget_is_loaded_and_evicts_the_rest():
    pool = ModelPool("cpu", 1000, loader=counting([]))
    pool.tensor("batch", lambda: torch.zeros(100))
    with pool.lease(tiny.entry("a")):
        assert pool.resident == ("a",)


def test_a_model_above_the_devices_memory_cannot_run():
    huge = tiny.entry("huge", hidden_size=2**20, intermediate_size=2**22)
    with pytest.raises(CellCannotRun, match=r"huge needs .* GiB on cpu"):
        ModelPool("cpu", 2**30, loader=counting([])).lease(huge, Sources(weights="random"))


def test_what_cannot_be_had_is_refused_at_once_the_second_time():
    tries = []

    def loader(entry, sources, device):
        tries.append(entry.name)
        raise CellCannotRun("gated", fix="log in")

    pool = ModelPool("cpu", 2**30, loader=loader)
    for _ in range(3):
        with pytest.raises(CellCannotRun, match="gated"):
            pool.lease(tiny.entry())
    assert tries == ["small_llama"]


def test_random_weights_of_two_seeds_are_two_models():
    loads = []
    pool = ModelPool("cpu", 2**30, loader=counting(loads))
    for seed in (1, 2, 1):
        pool.lease(tiny.entry(), Sources(weights="random", seed=seed)).release()
    for seed in (1, 2, 1):  # a seed means nothing to weights that are read from files
        pool.lease(tiny.entry(), Sources(seed=seed)).release()
    assert len(loads) == 3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 60)), max_size=40))
def test_tensors_never_exceed_the_budget_and_are_what_was_built(requests):
    pool = ModelPool("cpu", 100 * 4)
    sizes = {}
    for key, size in requests:
        size = sizes.setdefault(key, size)
        value = pool.tensor(("batch", key), lambda s=size, k=key: torch.full((s,), float(k)))
        assert torch.equal(value, torch.full((size,), float(key)))
        assert pool.used_bytes <= pool.budget_bytes
    assert pool.used_bytes <= 400


def test_a_kept_tensor_is_built_once():
    pool, built = ModelPool("cpu", 1000), []
    for _ in range(2):
        pool.tensor("batch", lambda: built.append(1) or torch.zeros(3))
    assert len(built) == 1
    pool.clear()
    assert pool.used_bytes == 0


def test_peak_memory_sees_a_passing_allocation():
    with PeakMemory("cpu") as before:
        pass
    with PeakMemory("cpu") as peak:
        torch.ones(2**25).sum()  # 128 MiB
    assert peak.bytes - before.bytes > 100 * 2**20


def test_the_default_budget_is_shared():
    one, four = default_budget("cpu"), default_budget("cpu", sharers=4)
    assert 0 < four < one
    assert one / 5 < four
