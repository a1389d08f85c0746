"""A cell that runs a published checkpoint is known by that checkpoint and its commit."""

from types import SimpleNamespace

import pytest

from benchsuite import catalog
from benchsuite.catalog import Sources
from benchsuite.harness import inputs
from benchsuite.harness.decision import Identity
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.study import study

STUDY = study("determinism")
CELLS = {cell.method: cell for cell in STUDY.cells() if cell.model == "qwen3_8b"}
AWQ = "Qwen/Qwen3-8B-AWQ"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def cached(hub, hub_id, commit):
    repository = hub / f"models--{hub_id.replace('/', '--')}"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)


def of(method, **options):
    chosen = SimpleNamespace(checkpoint={}, sources=Sources(**options))
    return inputs.of_cell(STUDY, CELLS[method], chosen)


def provisional(found):
    return Identity(Fingerprint("i", "c", "e"), {"inputs": found}, False).is_provisional


def test_it_is_named_with_the_commit_that_the_cache_has(hub):
    before = of("awq")
    assert before["weights"] == {"qwen3_8b": f"hub:{AWQ}@main"}
    assert provisional(before)
    cached(hub, AWQ, "a" * 40)
    found = of("awq")
    assert found["weights"] == {"qwen3_8b": f"{AWQ}@{'a' * 40}"}
    assert not provisional(found)
    cached(hub, AWQ, "b" * 40)
    assert of("awq")["weights"] == {"qwen3_8b": f"{AWQ}@{'b' * 40}"}


def test_the_models_own_weights_do_not_count_for_it_and_its_tokenizer_does(hub):
    own = catalog.model("qwen3_8b").hub_id
    cached(hub, AWQ, "a" * 40)
    before = of("awq")
    cached(hub, own, "c" * 40)
    after = of("awq")
    assert after["weights"] == before["weights"]
    assert after["tokenizer"] == f"{own}@{'c' * 40}" != before["tokenizer"]


def test_what_is_quantized_here_is_known_by_the_models_own_weights(hub):
    own = f"hub:{catalog.model('qwen3_8b').hub_id}@main"
    assert of("pytorch_int4")["weights"] == {"qwen3_8b": own}
    assert "tokenizer" not in of("pytorch_int4")
    assert of("awq", weights="random")["weights"]["qwen3_8b"].startswith("random:")


def test_a_variants_published_checkpoint_is_of_one_model():
    from benchsuite.determinism.variants import variant

    assert variant("awq").published("qwen3_8b") == (AWQ, "main")
    assert variant("awq").published("llama2_7b") is None
    assert variant("pytorch_int4").published("qwen3_8b") is None
