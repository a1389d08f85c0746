import hashlib
import json
import re

import httpx
import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from benchsuite import catalog
from benchsuite.catalog import ModelEntry, Sources
from benchsuite.embedded import models as embedded_models
from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.evaluation.generation import _end_ids
from benchsuite.models import generation_settings, load, weights_digest
from benchsuite.models.loading import load_tokenizer
from tests.models import tiny


def edit_weights(folder, change):
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "mistral", "opt"])
def test_a_local_checkpoint_loads_exactly_and_frozen(tmp_path, model_type):
    original = tiny.model(model_type)
    folder = tiny.checkpoint(tmp_path / "local", model_type=model_type)
    before = torch.get_rng_state()
    loaded = load(tiny.entry(model_type=model_type), tiny.at(folder))
    assert torch.equal(torch.get_rng_state(), before)
    assert (loaded.weights, loaded.stand_in) == ("local", None)
    expected = dict(original.named_parameters())
    for name, parameter in loaded.model.named_parameters():
        assert torch.equal(parameter, expected[name])
        assert not parameter.requires_grad
    assert not loaded.model.training
    assert loaded.n_bytes >= sum(p.nbytes for p in original.parameters())
    assert loaded.digest == weights_digest(loaded.entry, tiny.at(folder))
    assert loaded.tokenizer("ab").input_ids[0] == loaded.tokenizer.bos_token_id


def test_a_hub_cache_offline_loads_as_hub_weights_and_is_marked_a_stand_in(checkpoint, hub):
    entry = catalog.model("llama2_7b")
    tiny.hub_cache(hub, entry.hub_id, checkpoint)
    loaded = load(entry)
    assert loaded.weights == "hub"
    assert "hidden_size is 64, not 4096" in loaded.stand_in
    assert loaded.model.dtype == torch.float16
    assert loaded.model(torch.arange(9)[None]).logits.shape == (1, 9, 300)


def test_bfloat16_weights_become_float32_exactly(tmp_path):
    folder = tiny.checkpoint(tmp_path / "bf16", dtype=torch.bfloat16)
    stored = load_file(folder / "model.safetensors")
    loaded = load(tiny.entry(dtype="bfloat16"), tiny.at(folder), dtype="float32")
    for name, parameter in loaded.model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, stored[name].float())


def test_offline_and_absent_says_how_to_get_it(hub):
    with pytest.raises(CellCannotRun) as caught:
        load(catalog.model("llama2_7b"))
    message = str(caught.value)
    assert "meta-llama/Llama-2-7b-hf is not in the hub cache" in message
    assert "hf download meta-llama/Llama-2-7b-hf" in message
    assert "hf auth login" in message
    assert "--local llama2_7b=PATH" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (errors.GatedRepoError, "meta-llama/Llama-2-7b-hf is gated.*hf auth login.*--local llama2"),
        (errors.RepositoryNotFoundError, "is not on the hub, or is private"),
        (errors.RevisionNotFoundError, "no revision 'main'"),
    ],
)
def test_the_hubs_refusals_say_the_fix(hub, monkeypatch, kind, expected):
    """The one part that cannot run here is the hub's own answer."""

    def refuse(*args, **kwargs):
        response = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co"))
        raise kind("refused", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(CellCannotRun, match=expected):
        load(catalog.model("llama2_7b"))


def test_pickled_weights_on_main_give_way_to_the_hubs_own_conversion(hub, tmp_path, monkeypatch):
    """opt_6_7b is such a model. The hub's answers are the one part that cannot run here."""
    entry = tiny.entry()
    pickled = tiny.checkpoint(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    repository = tiny.hub_cache(hub, entry.hub_id, pickled, commit="a" * 40)
    with pytest.raises(CellCannotRun, match=r"no complete safetensors at revision 'main'"):
        load(entry)

    class Request:
        def __init__(self, num, author, status="open"):
            self.num, self.author, self.status = num, author, status

    def discussions(*args, **options):
        return [Request(7, "SFconvertbot"), Request(9, "somebody"), Request(2, "SFconvertbot", "x")]

    def download(hub_id, revision, **options):
        commit = {"main": "a" * 40, "refs/pr/7": "b" * 40}[revision]
        if revision != "main":
            (repository / "refs" / "refs" / "pr").mkdir(parents=True, exist_ok=True)
            converted = tiny.checkpoint(tmp_path / "converted")
            tiny.hub_cache(hub, hub_id, converted, revision=revision, commit=commit)
        return str(repository / "snapshots" / commit)

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub.HfApi, "get_repo_discussions", discussions)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    first = load(entry)
    monkeypatch.undo()
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = load(entry)  # from the cache alone
    assert first.digest == again.digest
    assert again.weights == "hub"


def test_missing_extra_and_misshapen_tensors_are_named(checkpoint):
    def change(weights):
        del weights["model.layers.1.mlp.up_proj.weight"]
        weights["model.layers.7.mlp.up_proj.weight"] = torch.zeros(2, 2)
        weights["model.norm.weight"] = torch.ones(65)

    edit_weights(checkpoint, change)
    with pytest.raises(BenchsuiteError) as caught:
        load(tiny.entry(), tiny.at(checkpoint))
    message = str(caught.value)
    assert "missing tensors model.layers.1.mlp.up_proj.weight" in message
    assert "does not have model.layers.7.mlp.up_proj.weight" in message
    assert "another shape model.norm.weight" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(checkpoint, value):
    def change(weights):
        weights["model.layers.0.self_attn.q_proj.weight"][3, 5] = value

    edit_weights(checkpoint, change)
    with pytest.raises(BenchsuiteError, match=r"infinite weights: model\.layers\.0\.self_attn\.q"):
        load(tiny.entry(), tiny.at(checkpoint))


def test_a_tokenizer_beyond_the_embeddings_is_an_error(tmp_path):
    folder = tiny.checkpoint(tmp_path / "few_rows", vocab_size=200)
    with pytest.raises(BenchsuiteError, match="up to id 257, but the model embeds 200 ids"):
        load(tiny.entry(vocab_size=200), tiny.at(folder))


def test_an_absent_tokenizer_is_an_error(tmp_path):
    folder = tiny.checkpoint(tmp_path / "bare", with_tokenizer=False)
    with pytest.raises(BenchsuiteError, match="no tokenizer that can be loaded"):
        load(tiny.entry(), tiny.at(folder))


def with_config(**values):
    def change(folder):
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def with_file(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def with_index(content):
    def change(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(content)

    return change


def header(text):
    return with_file("model.safetensors", len(text).to_bytes(8, "little") + text)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (with_config(hidden_size="abc"), "transformers cannot load it: .*hidden_size"),
        (with_config(hidden_size=None), "transformers cannot load it"),
        (with_config(num_attention_heads=0), "transformers cannot load it: ZeroDivisionError"),
        (with_config(num_attention_heads=5), "transformers cannot load it"),
        (with_config(hidden_act="nope"), "transformers cannot load it: KeyError: 'nope'"),
        (with_config(quantization_config=[1]), "transformers cannot load it"),
        (with_file("config.json", b"["), "cannot read config.json: it is not JSON"),
        (with_file("config.json", b"[" * 100_000), "cannot read config.json: it is not JSON"),
        (with_file("tokenizer.json", b"{"), "no tokenizer that can be loaded"),
        (header(b"[]"), "its header is not that of a safetensors file"),
        (header(b'{"a":123}'), "its header is not that of a safetensors file"),
        (header(b'{"a":{"data_offsets":[0,0]}}'), "its header is not that of a safetensors file"),
        (with_index('{"weight_map": []}'), "its weight_map is not an object of file names"),
        (with_index('{"weight_map": {"a": 3}}'), "its weight_map is not an object of file names"),
    ],
)
def test_malformed_files_of_a_checkpoint_are_named(checkpoint, change, told):
    change(checkpoint)
    with pytest.raises(BenchsuiteError, match=told) as caught:
        load(tiny.entry(), tiny.at(checkpoint))
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_architecture_is_an_error(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"model_type": "elephant"}))
    with pytest.raises(BenchsuiteError, match=r"transformers cannot load it.*elephant"):
        load(tiny.entry(), tiny.at(checkpoint))


@pytest.mark.parametrize("named", ["LlamaTokenizerFast", "LlamaTokenizer", None])
def test_text_is_cut_as_the_files_say_whatever_class_they_name(named, checkpoint):
    """DeepSeek's distilled Llamas and their copies name a class that knows no bytes.

    transformers rebuilds the tokenizer by its rules, unless the folder's name is the hub's.
    """
    settings = checkpoint / "tokenizer_config.json"
    said = {k: v for k, v in json.loads(settings.read_text()).items() if k != "tokenizer_class"}
    settings.write_text(json.dumps(said | ({"tokenizer_class": named} if named else {})))
    tokenizer = load_tokenizer(tiny.entry(), checkpoint)
    stated = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    text = "Hello wörld, it's 12 o'clock.\n\n  Two"
    assert tokenizer(text)["input_ids"] == stated.encode(text).ids
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_model_of_images_and_text_is_said_to_be_one(checkpoint):
    """transformers names every other configuration that there is; the reader wants this one."""
    config = {"model_type": "llava", "text_config": {"model_type": "llama"}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    told = r"cannot load it: ValueError: LlavaConfig is no language model's, but of one for images"
    with pytest.raises(BenchsuiteError, match=told) as found:
        load(tiny.entry(), tiny.at(checkpoint))
    assert "GPT2Config" not in str(found.value)


def test_a_models_own_code_does_not_run_unasked(checkpoint, tmp_path):
    trace = tmp_path / "ran"
    (checkpoint / "own.py").write_text(f"open({str(trace)!r}, 'w')\nclass OwnConfig: pass\n")
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(CellCannotRun, match="--trust-remote-code"):
        load(tiny.entry(), tiny.at(checkpoint))
    assert not trace.exists()


@pytest.fixture
def embedded(tmp_path, monkeypatch):
    """A bfloat16 model with its card in the place of tiny_llama_1m."""
    monkeypatch.setattr(embedded_models, "ROOT", tmp_path)
    embedded_models.card.cache_clear()
    folder = tiny.checkpoint(tmp_path / "tiny_llama_1m", dtype=torch.bfloat16)
    files = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}
    card = {"weights_sha256": files["model.safetensors"], "files_sha256": files}
    (folder / "card.json").write_text(json.dumps(card))
    yield folder
    embedded_models.card.cache_clear()


def test_embedded_models_use_their_own_weights_whatever_is_asked(embedded):
    loaded = load(catalog.model("tiny_llama_1m"), Sources(weights="random", seed=3))
    assert (loaded.weights, loaded.stand_in) == ("embedded", None)
    assert loaded.model.dtype == torch.float32
    assert loaded.digest == json.loads((embedded / "card.json").read_text())["weights_sha256"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (
            "model.safetensors",
            lambda folder: edit_weights(folder, lambda w: w["model.norm.weight"].mul_(2)),
        ),
        ("config.json", with_config(rms_norm_eps=0.1)),
        ("generation_config.json", lambda folder: (folder / "generation_config.json").unlink()),
        ("chat_template.jinja", with_file("chat_template.jinja", b"{{ messages }}")),
    ],
)
def test_an_embedded_models_files_must_be_those_of_its_card(embedded, name, change):
    change(embedded)
    with pytest.raises(BenchsuiteError, match=f"tiny_llama_1m are not those of its card: {name}"):
        load(catalog.model("tiny_llama_1m"))


@pytest.mark.parametrize("model_type", ["qwen2", "opt"])
def test_every_tensor_that_a_folder_lacks_is_named(tmp_path, model_type):
    folder = tiny.checkpoint(
        tmp_path / "model", model_type=model_type, num_hidden_layers=1, tie_word_embeddings=False
    )
    entry = tiny.entry(model_type=model_type)
    state = load_file(folder / "model.safetensors")
    for name in state:
        less = {key: value for key, value in state.items() if key != name}
        save_file(less, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(BenchsuiteError, match=f"missing tensors {re.escape(name)}"):
            load(entry, tiny.at(folder))


def test_every_token_that_ends_a_text_is_read(checkpoint):
    with_file("generation_config.json", b'{"eos_token_id": [1, 7]}')(checkpoint)
    loaded = load(tiny.entry(), tiny.at(checkpoint))
    assert _end_ids(loaded.model, loaded.tokenizer) == {1, 7}


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"eos_token_id": "</s>"}'])
def test_generation_settings_that_cannot_be_read_are_named(checkpoint, content):
    """transformers would leave them out, and with them what ends a text."""
    with_file("generation_config.json", content)(checkpoint)
    with pytest.raises(BenchsuiteError, match=r"cannot read generation_config\.json"):
        load(tiny.entry(), tiny.at(checkpoint))


def test_a_model_is_saved_with_generation_settings_that_transformers_would_refuse(tmp_path):
    model = tiny.model()
    model.generation_config.temperature, model.generation_config.do_sample = 0.6, False
    with pytest.raises(ValueError, match="temperature"):
        model.save_pretrained(tmp_path / "theirs")
    generation_settings.save_pretrained(model, tmp_path / "ours")
    back = generation_settings.read(tmp_path / "ours")
    assert (back.temperature, back.do_sample) == (0.6, False)
    assert model.generation_config.temperature == 0.6


def test_a_model_that_sees_later_tokens_is_no_language_model(tmp_path):
    """BERT loads as one, and its perplexity was that of a model that is shown the answer."""
    torch.manual_seed(0)
    folder = tmp_path / "bert"
    shape = {k: v for k, v in tiny.SHAPE.items() if k != "num_key_value_heads"}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("bert", **shape)).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    entry = ModelEntry("small_llama", "")
    with pytest.raises(BenchsuiteError, match=r"no causal language model: .*tokens after it"):
        load(entry, tiny.at(folder))


def test_a_family_without_the_attention_that_is_used_here_says_so(tmp_path):
    folder = tmp_path / "bloom"
    config = AutoConfig.for_model("bloom", vocab_size=300, hidden_size=64, n_layer=1, n_head=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    with pytest.raises(BenchsuiteError, match="Give a model whose attention transformers"):
        load(ModelEntry("small_llama", ""), tiny.at(folder))
