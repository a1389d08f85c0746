"""A GGUF file in the place of a model's folder: loaded, identified, and told from the original."""

import json
from dataclasses import replace

import pytest
import torch

pytest.importorskip("gguf")

from benchsuite.catalog.entries import Packaged
from benchsuite.commands import main as cli
from benchsuite.corpora.file_digests import FileDigests
from benchsuite.embedded import tokenizer as embedded_tokenizer
from benchsuite.errors import BenchsuiteError
from benchsuite.models import ModelPool, folder_digest, load, requirements, weights_digest
from benchsuite.quantizers import checkpoint
from tests.models import tiny
from tests.models.gguf import files


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "user/benchsuite/gguf"


def test_it_is_loaded_as_dequantized_weights_and_is_not_the_original(tmp_path, cache):
    built = files.model("llama")
    path = files.write(tmp_path / "a.gguf", built, "Q8_0")
    loaded = load(tiny.entry(), tiny.at(path))
    assert (loaded.weights, loaded.gguf_types) == ("dequantized", {"Q8_0": 16, "F32": 5})
    assert loaded.stand_in == "its weights are dequantized from a GGUF (tensors: 16 Q8_0, 5 F32)"
    for name, parameter in built.named_parameters():
        torch.testing.assert_close(loaded.model.get_parameter(name), parameter, rtol=0, atol=0)
    assert len(list(cache.glob("*/"))) == 1


def test_a_file_that_was_never_quantized_is_the_original(tmp_path, cache):
    path = files.write(tmp_path / "a.gguf", files.model("llama"), "BF16")
    loaded = load(tiny.entry(), tiny.at(path))
    assert (loaded.weights, loaded.stand_in) == ("dequantized", None)


def test_an_entry_of_a_packaged_file_is_that_file_alone(tmp_path, cache):
    paths = {}
    for seed in (0, 1):
        paths[seed] = files.write(
            tmp_path / f"{seed}.gguf", files.model("llama", seed=seed), "Q8_0"
        )
    file = Packaged("0.gguf", (), FileDigests().sha256(paths[0]), 0, "", "")
    entry = replace(tiny.entry(), packaged=file)
    assert load(entry, tiny.at(paths[0])).stand_in is None
    other = load(entry, tiny.at(paths[1])).stand_in
    assert other == "its weights are of another file than 0.gguf"


def test_another_model_s_file_says_how_it_differs(tmp_path, cache):
    path = files.write(tmp_path / "a.gguf", files.model("qwen2"))
    assert "model_type is 'qwen2', not 'llama'" in load(tiny.entry(), tiny.at(path)).stand_in


def test_it_is_identified_and_measured_before_anything_is_dequantized(tmp_path, cache):
    built = files.model("llama")
    path = files.write(tmp_path / "a.gguf", built, "Q8_0")
    sources = tiny.at(path, digest_cache=tmp_path / "digests.json")
    digest = weights_digest(tiny.entry(), sources)
    assert digest.startswith(f"gguf:{FileDigests().sha256(path)}:")
    assert digest.endswith(":float32")
    assert weights_digest(tiny.entry(), sources, dtype="bfloat16") != digest
    n_bytes = requirements(tiny.entry(), sources)
    assert not cache.exists()
    loaded = load(tiny.entry(), sources)
    assert loaded.digest == digest
    weights = sum(parameter.nbytes for parameter in loaded.model.parameters())
    assert n_bytes == weights
    other = files.write(tmp_path / "b.gguf", files.model("llama", seed=1), "Q8_0")
    assert weights_digest(tiny.entry(), tiny.at(other)) != digest


def test_the_pool_keeps_the_files_of_one_name_apart(tmp_path, cache):
    pool, found = ModelPool(), []
    for seed in (0, 1, 0):
        path = tmp_path / f"{seed}.gguf"
        if not path.exists():
            files.write(path, files.model("llama", seed=seed))
        with pool.lease(tiny.entry(), tiny.at(path)) as leased:
            found.append(leased.model.lm_head.weight.sum().item())
            assert leased.gguf_types == {"F32": 21}
    assert found[0] == found[2] != found[1]
    assert len(pool.resident) == 2


@pytest.mark.parametrize("model_type", files.ARCHITECTURES)
def test_its_tokenizer_is_taken_as_the_file_says(model_type, tmp_path, cache):
    """transformers' own class for Qwen2 would add an end of text, and other rules."""
    path = files.write(tmp_path / "a.gguf", files.model(model_type))
    entry = tiny.entry(model_type=model_type)
    read = load(entry, tiny.at(path)).tokenizer
    assert len(read) == 259
    text = "the cafe\u0301 12"
    assert read.decode(read(text).input_ids, skip_special_tokens=True) == text


def test_what_is_wrong_with_a_file_is_said_by_its_name(tmp_path, cache):
    path = files.write(tmp_path / "a.gguf", files.model("llama"), without=["output_norm.weight"])
    with pytest.raises(BenchsuiteError, match=r"output_norm\.weight \(.*/a\.gguf\)"):
        load(tiny.entry(), tiny.at(path))
    with pytest.raises(BenchsuiteError, match=r"cannot read absent\.gguf"):
        folder_digest(tmp_path / "absent.gguf")


def test_it_is_a_checkpoint_of_ordinary_layers(tmp_path, cache):
    built = files.model("llama")
    path = files.write(tmp_path / "a.gguf", built, "Q4_1")
    ids = torch.arange(3, 27)[None]
    with torch.no_grad():
        difference = checkpoint.load(path)(ids).logits - built(ids).logits
    assert difference.abs().max() < 1e-4


def test_it_is_compared_and_verified(tmp_path, cache, capsys):
    """Against the model whose weights it rounds, over the tokens of both."""
    vocabulary = embedded_tokenizer.load().get_vocab()
    built = files.model("llama", vocab_size=len(vocabulary), tie_word_embeddings=True)
    whole = files.write(tmp_path / "whole.gguf", built, "F32")
    path = files.write(tmp_path / "small.gguf", built, "Q4_0")
    told = tmp_path / "told.json"
    words = ["compare", str(whole), str(path), "--tokens", "512", "--seq-len", "64"]
    words += ["--reports-dir", str(tmp_path / "reports")]
    assert cli.main([*words, "--layers", "--no-speed", "--json", str(told)]) == 0
    found = json.loads(told.read_text())
    (candidate,) = found["candidates"]
    sizes = found["base"]["disk_bytes"], candidate["disk_bytes"]
    assert sizes == (whole.stat().st_size, path.stat().st_size)
    assert 0 < candidate["spread"]["mean"] < 1
    errors = [layer["error"] for layer in candidate["layers"]]
    assert 0.02 < min(errors) < max(errors) < 0.2
    capsys.readouterr()
    assert cli.main(["verify", str(path)]) == 0
    assert capsys.readouterr().out.endswith("verified\n")
