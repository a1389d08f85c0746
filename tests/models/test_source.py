import re
import subprocess
import sys
from dataclasses import replace

import pytest

from benchsuite import catalog
from benchsuite.catalog import Sources
from benchsuite.embedded import models
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.models import source
from tests.models import tiny


def test_digests_and_requirements_need_no_torch(checkpoint):
    code = (
        "import sys; from pathlib import Path; from benchsuite import catalog, models;"
        "e = catalog.model('llama2_7b'); p = Path(sys.argv[1]);"
        "s = catalog.Sources(local={e.name: p});"
        "models.weights_digest(e, s); models.requirements(e, s);"
        "models.stand_in_reason(e, {});"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(checkpoint)], check=True)


def test_absent_and_random_weights_have_symbolic_digests(hub):
    entry = tiny.entry()
    assert source.weights_digest(entry) == "hub:example/small_llama@main"
    drawn = Sources(weights="random", seed=7)
    seven = source.weights_digest(entry, drawn)
    assert seven.startswith("random:")
    assert seven.endswith(":7")
    assert seven != source.weights_digest(tiny.entry(hidden_size=128), drawn)


def test_same_files_same_digest_wherever_they_are(checkpoint, hub):
    """A hub cache names its blobs by sha256, which must be what hashing the file gives."""
    entry = tiny.entry()
    tiny.hub_cache(hub, entry.hub_id, checkpoint)
    local = source.weights_digest(entry, tiny.at(checkpoint))
    assert source.weights_digest(entry) == local
    assert source.locate(entry).weights == "hub"
    assert re.fullmatch(r"[0-9a-f]{64}:float32", local)


def test_the_dtype_that_files_are_rounded_to_is_in_the_digest(checkpoint):
    """The entry's dtype decides the numbers, and nothing else of a cell's inputs says it."""
    wide, narrow = tiny.entry(), tiny.entry(dtype="bfloat16")
    one, other = (source.weights_digest(entry, tiny.at(checkpoint)) for entry in (wide, narrow))
    assert one != other
    assert source.weights_digest(wide, tiny.at(checkpoint), dtype="bfloat16") == other


def test_an_embedded_models_digest_is_its_cards_whatever_its_dtype():
    entry = catalog.model("tiny_llama_1m")
    expected = models.card(entry.name)["weights_sha256"]
    for dtype in ("bfloat16", "float16"):
        assert source.weights_digest(replace(entry, dtype=dtype)) == expected


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_any_changed_file_changes_the_digest(checkpoint, tmp_path, name):
    entry, memo = tiny.entry(), tmp_path / "digests.json"
    before = source.weights_digest(entry, tiny.at(checkpoint, digest_cache=memo))
    assert source.weights_digest(entry, tiny.at(checkpoint, digest_cache=memo)) == before
    content = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(content + b" ")
    assert source.weights_digest(entry, tiny.at(checkpoint, digest_cache=memo)) != before


def test_a_local_path_may_be_a_checkpoint_or_a_hub_cache(checkpoint, tmp_path):
    entry = tiny.entry()
    repository = tiny.hub_cache(tmp_path / "home" / "hub", entry.hub_id, checkpoint)
    for path in (checkpoint, repository, repository.parent, repository.parent.parent):
        place = source.locate(entry, tiny.at(path))
        assert place.weights == "local"
        assert (place.folder / "config.json").exists()


def test_a_local_path_without_a_model_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"--local small_llama=.* holds no model"):
        source.locate(tiny.entry(), tiny.at(tmp_path))


def test_a_revision_chooses_its_snapshot(checkpoint, hub):
    entry = tiny.entry()
    tiny.hub_cache(hub, entry.hub_id, checkpoint, commit="a" * 40)
    tiny.hub_cache(hub, entry.hub_id, checkpoint, revision="v2", commit="b" * 40)
    pinned = catalog.ModelEntry(
        "v2", entry.hub_id, entry.model_type, entry.shape, entry.dtype, revision="v2"
    )
    assert source.locate(entry).folder.name == "a" * 40
    assert source.locate(pinned).folder.name == "b" * 40


def test_a_half_downloaded_snapshot_counts_as_absent(checkpoint, hub):
    entry = tiny.entry()
    (checkpoint / "model.safetensors").unlink()
    tiny.hub_cache(hub, entry.hub_id, checkpoint)
    assert source.locate(entry) == source.Source("hub", None)


def test_pickled_weights_are_refused(checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(BenchsuiteError, match=r"pickled weights only.*save_pretrained"):
        source.weights_digest(tiny.entry(), tiny.at(checkpoint))


def test_requirements_count_files_where_there_are_any(checkpoint, hub):
    entry = tiny.entry()
    n = sum(p.numel() for p in tiny.model().parameters())
    assert source.requirements(entry, tiny.at(checkpoint), dtype="float16") == 2 * n
    assert source.requirements(entry) == 4 * entry.n_parameters
    norms = n - entry.n_parameters
    assert 0 < norms < 0.01 * n


def test_embedded_models_run_in_float32_on_the_cpu_alone():
    entry = catalog.model("tiny_llama_1m")
    assert source.default_dtype(entry, "cpu") == "float32"
    assert source.default_dtype(entry, "cuda:0") == "bfloat16"
    assert source.default_dtype(catalog.model("llama2_7b"), "cpu") == "float16"
