"""What a word names is opened, or it is said what was tried and what to do."""

import json
import re
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from benchsuite.catalog import Sources
from benchsuite.comparing.subject import identity, open_subject
from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.quantizers import checkpoint, rtn
from tests.models import tiny
from tests.models.gguf import files

IDS = torch.arange(3, 35)[None]
DEQUANTIZED = "its library dequantized the weights: their size in memory is no engine's"
CACHE = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor", "dynamic": False}


@pytest.fixture
def plain(tmp_path):
    return tiny.checkpoint(tmp_path / "plain")


def saved(folder, **options):
    model = tiny.model()
    rtn.quantize(model, **options)
    checkpoint.save(model, folder, tokenizer=tiny.tokenizer())
    return folder, model


@torch.no_grad()
def logits(model):
    return model(IDS).logits


def test_a_catalogued_name():
    subject = open_subject("tiny_llama_1m")
    assert (subject.read_by, subject.dtype) == ("embedded", "float32")
    assert subject.disk_bytes > 1_000_000
    assert subject.memory_bytes > 4_000_000


def test_a_folder_in_half_precision(tmp_path):
    folder = tiny.checkpoint(tmp_path / "half", dtype=torch.bfloat16)
    subject = open_subject(str(folder))
    assert (subject.read_by, subject.dtype) == ("transformers", "bfloat16")
    assert subject.disk_bytes == (folder / "model.safetensors").stat().st_size
    assert torch.equal(logits(subject.model), logits(tiny.model(dtype=torch.bfloat16)))


def test_float16_is_widened_on_a_cpu(tmp_path):
    half, _ = saved(tmp_path / "w4", bits=4, group_size=32)
    config = json.loads((half / "config.json").read_text())
    (half / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    for folder in (tiny.checkpoint(tmp_path / "half", dtype=torch.float16), half):
        subject = open_subject(str(folder))
        assert subject.dtype == "float32"
        assert logits(subject.model).dtype == torch.float32


@pytest.mark.parametrize("grid", [{"bits": 4}, {"bits": 3}, {"bits": 4, "sym": False}], ids=str)
def test_our_own_checkpoints(tmp_path, grid):
    folder, model = saved(tmp_path / "own", group_size=32, **grid)
    subject = open_subject(str(folder))
    assert subject.read_by == "benchsuite"
    torch.testing.assert_close(logits(subject.model), logits(model), rtol=1e-3, atol=1e-3)


def test_a_gguf(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = files.model("llama")
    path = files.write(tmp_path / "a.gguf", built, "Q8_0")
    subject = open_subject(str(path))
    assert subject.disk_bytes == path.stat().st_size
    assert "dequantized" in subject.notes[0]


@pytest.mark.parametrize(
    ("scheme", "ignored", "reader"),
    [
        ("W4AFP8", ["lm_head"], "transformers with compressed-tensors"),
        ("W4A16", ["lm_head"], "benchsuite"),
        ("W8A16", [], "transformers with compressed-tensors"),  # the head too
    ],
)
def test_checkpoints_that_llm_compressor_made(scheme, ignored, reader, tmp_path, monkeypatch):
    """As it computes itself, whoever reads them; where activations are rounded too it is said."""
    pytest.importorskip("llmcompressor")
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier

    monkeypatch.chdir(tmp_path)  # it writes its recipe's log into the working folder
    theirs = tiny.model(hidden_size=128, intermediate_size=256, dtype=torch.bfloat16)
    theirs.save_pretrained("original")
    theirs.config._name_or_path = "original"  # it wants a model with a name
    recipe = QuantizationModifier(targets="Linear", scheme=scheme, ignore=ignored)
    oneshot(model=theirs, recipe=recipe)
    goal = logits(theirs)
    theirs.save_pretrained(tmp_path, save_compressed=True)
    tiny.tokenizer().save_pretrained(tmp_path)
    subject = open_subject(str(tmp_path))
    assert subject.read_by == reader
    assert (logits(subject.model) - goal).norm() < 0.01 * goal.norm()
    notes = " ".join(subject.notes)
    assert ("activations are rounded in simulation" in notes) == (scheme == "W4AFP8")
    if not ignored:
        with pytest.raises(BenchsuiteError, match="its head is quantized"):
            checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kv_cache_scheme": CACHE}, ", and the cache is rounded in simulation"),
        ({"kv_cache_scheme": None}, ""),
    ],
    ids=["cache", "weights alone"],
)
def test_a_rounded_cache_is_rounded_and_said_to_be(settings, told, tmp_path, monkeypatch):
    """As llm-compressor's own model computes with its fixed scales of keys and values."""
    pytest.importorskip("llmcompressor")
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.pipelines.cache import IntermediatesCache

    monkeypatch.chdir(tmp_path)
    # Pinned memory needs a GPU.
    monkeypatch.setattr(IntermediatesCache, "pin_memory", lambda *args, **kwargs: None)
    theirs = tiny.model(hidden_size=128, intermediate_size=256, dtype=torch.bfloat16)
    theirs.save_pretrained("original")
    tiny.tokenizer().save_pretrained("original")
    theirs.config._name_or_path = "original"
    recipe = QuantizationModifier(targets="Linear", scheme="W8A16", ignore=[], **settings)
    columns = {"input_ids": IDS.tolist(), "attention_mask": torch.ones_like(IDS).tolist()}
    oneshot(
        model=theirs,
        recipe=recipe,
        dataset=Dataset.from_dict(columns),
        num_calibration_samples=1,
        batch_size=1,
    )
    goal = logits(theirs)
    theirs.save_pretrained("made", save_compressed=True)
    tiny.tokenizer().save_pretrained("made")
    subject = open_subject("made")
    assert (logits(subject.model) - goal).norm() < 0.01 * goal.norm()
    assert subject.notes == (f"{DEQUANTIZED}{told}",)


@pytest.mark.parametrize("told_by", ["hqq", "transformers"])
@pytest.mark.parametrize(
    "bits", [4, *(pytest.param(bits, marks=pytest.mark.stress) for bits in (8, 3, 2))]
)
def test_hqq(told_by, bits, tmp_path):
    """As hqq itself computes, whether config.json says that it is HQQ's (transformers) or not."""
    pytest.importorskip("hqq")
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
    from hqq.models.hf.base import AutoHQQHFModel

    theirs = tiny.model(attention_bias=True)
    AutoHQQHFModel.quantize_model(
        theirs,
        quant_config=BaseQuantizeConfig(nbits=bits, group_size=32),
        compute_dtype=torch.float32,
        device="cpu",
    )
    assert isinstance(theirs.model.layers[0].mlp.up_proj, HQQLinear)
    folder = tmp_path / "hqq"
    AutoHQQHFModel.save_to_safetensors(theirs, str(folder))
    tiny.tokenizer().save_pretrained(folder)
    if told_by == "transformers":
        config = json.loads((folder / "config.json").read_text())
        settings = {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": bits}}}
        (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    subject = open_subject(str(folder))
    assert subject.read_by == "benchsuite with hqq"
    assert "hqq dequantized the weights" in subject.notes[0]
    torch.testing.assert_close(logits(subject.model), logits(theirs), rtol=1e-5, atol=1e-5)
    assert identity(str(folder)).libraries == ("hqq",)


def test_a_pickle_of_hqqs_says_how_to_write_safetensors(plain):
    (plain / "model.safetensors").rename(plain / "qmodel.pt")
    with pytest.raises(BenchsuiteError, match="save_to_safetensors"):
        open_subject(str(plain))


def test_a_hub_id_in_the_cache(plain, tmp_path, monkeypatch):
    tiny.hub_cache(tmp_path / "hub", "org/small", plain)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    subject = open_subject("org/small")
    assert torch.equal(logits(subject.model), logits(tiny.model()))


def test_a_hub_id_that_is_not_there_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CellCannotRun, match="`hf download org/small`") as caught:
        open_subject("org/small")
    assert "HF_HUB_OFFLINE" in str(caught.value)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("tiny_lama_1m", "did you mean 'tiny_llama_1m'"),
        ("nowhere", "neither a catalogued model nor a folder"),
        ("absent.gguf", "cannot read the file: No such file or directory (absent.gguf)"),
    ],
)
def test_a_word_that_names_nothing(word, told):
    with pytest.raises(BenchsuiteError) as caught:
        open_subject(word)
    assert told.lower() in str(caught.value).lower()


def test_an_unknown_method_says_what_was_tried_and_what_to_install(plain, monkeypatch):
    config = json.loads((plain / "config.json").read_text())
    settings = {"quant_method": "quanto", "weights": "int4"}
    (plain / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    monkeypatch.setitem(sys.modules, "optimum", None)
    with pytest.raises(
        BenchsuiteError, match=r"benchsuite's own readers.*transformers: "
    ) as caught:
        open_subject(str(plain))
    assert "pip install optimum-quanto" in str(caught.value)


def test_a_folders_own_code_runs_where_that_word_is_trusted(plain):
    (plain / "own.py").write_text("raise RuntimeError('it ran')\n")
    config = json.loads((plain / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (plain / "config.json").write_text(json.dumps(config | own))
    with pytest.raises(CellCannotRun, match="its own Python code"):
        open_subject(str(plain))
    with pytest.raises(BenchsuiteError, match="it ran"):
        open_subject(str(plain), Sources(trusted=frozenset({str(plain)})))


def test_a_method_that_transformers_does_not_know_is_noted(tmp_path):
    """It passes over the settings with a warning that nobody sees here, and reads the weights."""
    folder = tiny.checkpoint(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "own_method"}
    (folder / "config.json").write_text(json.dumps(config))
    subject = open_subject(str(folder))
    assert "the method 'own_method', which transformers passed over" in subject.notes[0]


def in_fp8(folder, scale_name, settings):
    """Write a tiny model with each linear's weight in FP8 under one scale; return what it means."""
    tiny.checkpoint(folder, dtype=torch.bfloat16)
    meant = tiny.model(dtype=torch.bfloat16)
    state = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if not name.endswith("_proj.weight"):
            state[name] = tensor
            continue
        scale = tensor.float().abs().max() / 448
        state[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
        state[f"{name.removesuffix('weight')}{scale_name}"] = scale.reshape(1, 1)
        meant.get_parameter(name).data.copy_(state[name].float() * scale)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return meant


def test_fp8_in_blocks_is_dequantized_and_said_to_be(tmp_path):
    """As DeepSeek's and Qwen's folders on the hub are; a block here is the whole matrix."""
    method = {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
    }
    meant = in_fp8(tmp_path, "weight_scale_inv", {"quantization_config": method})
    subject = open_subject(str(tmp_path))
    assert torch.equal(logits(subject.model), logits(meant))
    (note,) = subject.notes
    assert re.search(
        "dequantized the weights.* rounds what its layers read, .* not done here", note
    )


@pytest.mark.parametrize("settings", [{}, {"quantization_config": {"quant_method": "modelopt"}}])
def test_scales_that_nobody_applies_are_said_to_be_a_quantized_model_s(settings, tmp_path):
    """ModelOpt's folders, of which the older ones name no method in config.json."""
    in_fp8(tmp_path, "weight_scale", settings)
    told = "down_proj.weight_scale.*it is a quantized model, in a format that is not read here"
    with pytest.raises(BenchsuiteError, match=told) as found:
        open_subject(str(tmp_path))
    assert ("method 'modelopt'" in str(found.value)) == bool(settings)


def test_a_checkpoint_of_bitsandbytes_is_that_of_a_method_that_is_known(tmp_path):
    """Whose names in transformers are others than the one that it writes."""
    pytest.importorskip("bitsandbytes")
    plain = tiny.checkpoint(tmp_path / "plain")
    how = BitsAndBytesConfig(load_in_8bit=True)
    theirs = AutoModelForCausalLM.from_pretrained(plain, quantization_config=how)
    theirs.save_pretrained(tmp_path / "int8")
    tiny.tokenizer().save_pretrained(tmp_path / "int8")
    subject = open_subject(str(tmp_path / "int8"))
    assert (subject.read_by, subject.notes) == ("transformers with bitsandbytes", ())
    assert torch.equal(logits(subject.model), logits(theirs.eval()))


def test_what_opens_and_cannot_compute_is_named(tmp_path):
    """Settings of bitsandbytes beside weights that it never packed."""
    pytest.importorskip("bitsandbytes")
    folder = tiny.checkpoint(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BenchsuiteError, match="'bitsandbytes' opens, and cannot compute a token"):
        open_subject(str(folder))


def test_a_tokenizer_that_goes_beyond_the_model_is_refused(tmp_path):
    folder = tiny.checkpoint(tmp_path / "model", vocab_size=200)
    with pytest.raises(BenchsuiteError, match="goes up to id 257, but the model embeds 200 ids"):
        open_subject(str(folder))
