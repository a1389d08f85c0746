"""Checkpoint folders as other tools and accidents leave them: read rightly, or refused by name."""

import json
import shutil

import pytest
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from benchsuite.errors import BenchsuiteError
from benchsuite.models.architecture import architecture_of
from benchsuite.models.hub_names import hub_name, tree_name
from benchsuite.quantizers import checkpoint, fp4, fp8, rtn, smoothquant
from benchsuite.quantizers.linear import quantized_linears
from tests.quantizers.conftest import assert_same

WEIGHTS = "model.safetensors"


def quantized(model, format, tokens):
    if format == "compressed-tensors":
        smoothquant.quantize(model, tokens)
    elif format == "float-quantized":
        fp8.quantize(model, tokens, scheme="static")
    elif format.endswith("fp4-pack-quantized"):
        fp4.quantize(model, tokens, format=format.partition("-")[0], activations=True)
    else:
        rtn.quantize(model, bits=4, group_size=32, sym=format == "gptq")
    return model


def edit_settings(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] |= changes
    (folder / "config.json").write_text(json.dumps(config))


def rewrite(folder, change):
    state = change(load_file(folder / WEIGHTS))
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A quantized model and its folder, by family and format; never to be written."""
    from tests.quantizers.conftest import build

    made = {}
    tokens = torch.randint(0, 256, (8, 48), generator=torch.Generator().manual_seed(3))

    def get(family, format):
        if (family, format) not in made:
            folder = tmp_path_factory.mktemp(f"{family}-{format}")
            model = build(family, torch.bfloat16, num_hidden_layers=1, tie_word_embeddings=False)
            quantized(model, format, tokens)
            checkpoint.save(model, folder, format=format)
            made[family, format] = model, folder
        return made[family, format]

    return get


@pytest.fixture
def saved(originals, tmp_path):
    """Return (model, a copy of its folder) of a family in a format."""

    def copied(family="llama", format="gptq"):
        model, folder = originals(family, format)
        return model, shutil.copytree(folder, tmp_path / "copy")

    return copied


@pytest.mark.parametrize(
    ("family", "format"),
    [
        ("qwen2", "gptq"),
        ("qwen2", "awq"),
        ("qwen2", "compressed-tensors"),
        ("opt", "gptq"),
        ("mixtral", "gptq"),
    ],
)
def test_every_tensor_that_a_checkpoint_lacks_is_named(saved, family, format):
    _, folder = saved(family, format)
    state = load_file(folder / WEIGHTS)
    for name in state:
        rewrite(folder, lambda _, gone=name: {k: v for k, v in state.items() if k != gone})
        with pytest.raises(BenchsuiteError) as caught:
            checkpoint.load(folder)
        assert f"missing {name}" in str(caught.value)


def test_a_tensor_of_another_shape_or_kind_is_named(saved):
    _, folder = saved("qwen2")
    state = load_file(folder / WEIGHTS)
    q = "model.layers.0.self_attn.q_proj"
    for name, tensor, told in [
        (f"{q}.bias", torch.zeros(3), r"bias has shape \[3\]"),
        (f"{q}.bias", torch.full((128,), float("nan")), "bias is not all finite"),
        (f"{q}.scales", state[f"{q}.scales"].int(), "scales is torch.int32"),
        (f"{q}.qweight", state[f"{q}.qweight"].long(), "qweight is torch.int64"),
        ("model.norm.weight", torch.full((128,), float("inf")), "norm.weight is not all finite"),
    ]:
        rewrite(folder, lambda _, changed={name: tensor}: state | changed)
        with pytest.raises(BenchsuiteError, match=told):
            checkpoint.load(folder)


def test_biases_of_zeros_that_the_model_does_not_have_are_left_out(saved, tokens):
    """Early AutoGPTQ wrote one for every layer."""
    model, folder = saved()
    extra = {f"{name}.bias": torch.zeros(m.out_features) for name, m in _layers(model)}
    rewrite(folder, lambda state: state | extra)
    assert_same(folder, model, tokens)


def _layers(model):
    return quantized_linears(model).items()


def test_the_index_decides_which_files_are_the_model_s(saved, tokens):
    model, folder = saved()
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    save_torch_state_dict(state, folder, max_shard_size="40KB", metadata={"format": "pt"})
    stray = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    for name in ("old-model", "adapter_model", "consolidated"):
        save_file(stray, folder / f"{name}.safetensors")
    assert_same(folder, model, tokens)
    lost = sorted(folder.glob("model-*.safetensors"))[0]
    lost.unlink()
    with pytest.raises(BenchsuiteError, match=lost.name):
        checkpoint.load(folder)


# --- settings


def test_settings_may_lie_in_quantize_config_alone(saved, tokens):
    model, folder = saved()
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    assert_same(folder, model, tokens)
    (folder / "quantize_config.json").write_text("[4]")
    with pytest.raises(BenchsuiteError, match=r"quantize_config\.json: it is not a JSON object"):
        checkpoint.load(folder)
    (folder / "quantize_config.json").unlink()
    with pytest.raises(BenchsuiteError, match="no readable quantization config"):
        checkpoint.load(folder)


def test_autoawq_s_own_file_and_names_are_read(saved, tokens):
    model, folder = saved("llama", "awq")
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "quantize_config.json").unlink()
    own = {"zero_point": True, "q_group_size": 32, "w_bit": 4, "version": "GEMM"}
    (folder / "quant_config.json").write_text(json.dumps(own))
    assert_same(folder, model, tokens)


def test_numbers_may_be_text(saved, tokens):
    model, folder = saved()
    edit_settings(folder, bits="4", group_size="32", quant_method="GPTQ")
    assert_same(folder, model, tokens)


ODD = [None, "x", "4", "", 0, -3, 1.5, True, [], {}, [1], {"a": 1}, 10**20, "[", ["re:("]]
FIELDS = {
    "gptq": "bits group_size quant_method checkpoint_format dynamic pack_dtype lm_head meta "
    "modules_in_block_to_quantize is_marlin_format extra_config desc_act sym",
    "awq": "bits group_size quant_method version zero_point modules_to_not_convert",
    "compressed-tensors": "format quant_method config_groups ignore kv_cache_scheme "
    "sparsity_config transform_config",
}
MODEL_FIELDS = (
    "quantization_config hidden_size num_attention_heads intermediate_size vocab_size dtype "
    "model_type architectures rope_parameters hidden_act tie_word_embeddings transformers_weights"
)


def load_or_refuse(folder):
    """A model whose numbers are numbers, or one paragraph; never another exception."""
    try:
        model = checkpoint.load(folder)
    except BenchsuiteError as error:
        told = str(error)
    else:
        told = str(folder)
        assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    assert str(folder) in told
    assert "\n" not in told


@pytest.mark.parametrize("format", FIELDS)
def test_any_odd_setting_gives_the_model_or_one_error(saved, format):
    _, folder = saved("llama", format)
    good = (folder / "config.json").read_text()
    for name in FIELDS[format].split():
        for value in ODD:
            edit_settings(folder, **{name: value})
            load_or_refuse(folder)
            (folder / "config.json").write_text(good)
    for name in list(json.loads(good)["quantization_config"]):
        config = json.loads(good)
        del config["quantization_config"][name]
        (folder / "config.json").write_text(json.dumps(config))
        load_or_refuse(folder)


def test_any_odd_model_configuration_gives_the_model_or_one_error(saved):
    _, folder = saved()
    good = json.loads((folder / "config.json").read_text())
    for name in MODEL_FIELDS.split():
        for value in ODD:
            (folder / "config.json").write_text(json.dumps(good | {name: value}))
            load_or_refuse(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"group_size": None}, "group_size is None"),
        ({"group_size": 0}, "group_size is 0"),
        ({"group_size": -2}, "group_size is -2"),
        ({"bits": "four"}, "bits is 'four'"),
        ({"lm_head": True}, "lm_head is True"),
        ({"pack_dtype": "int16"}, "pack_dtype is 'int16'"),
        ({"dynamic": {"+:.*": {"pack_dtype": "int16"}}}, "pack_dtype is 'int16'"),
        ({"dynamic": {"-:(": {}}}, "dynamic has a pattern that is none"),
        ({"checkpoint_format": "marlin"}, "checkpoint_format is 'marlin'"),
    ],
)
def test_the_field_and_the_file_that_cannot_be_read_are_named(saved, change, told):
    _, folder = saved()
    edit_settings(folder, **change)
    with pytest.raises(BenchsuiteError) as caught:
        checkpoint.load(folder)
    assert told in str(caught.value)
    assert str(folder / "config.json") in str(caught.value)


# --- layers that differ


LEFT = [
    ("gptq", {"dynamic": {r"-:.*\.down_proj": {}}}),
    ("gptq", {"modules_in_block_to_quantize": [["self_attn.q_proj", "self_attn.k_proj"],
              ["self_attn.v_proj"], ["self_attn.o_proj"], ["mlp.gate_proj", "mlp.up_proj"]]}),
    ("awq", {"modules_to_not_convert": ["down_proj"]}),
    ("awq", {"modules_to_not_convert": ["model.layers.0.mlp.down_proj"]}),
    ("compressed-tensors", {"ignore": ["lm_head", "re:.*down_proj$"]}),
    ("compressed-tensors", {"ignore": ["lm_head", "model.layers.0.mlp.down_proj"]}),
]  # fmt: skip


@pytest.mark.parametrize(("format", "settings"), LEFT, ids=str)
def test_a_layer_that_the_settings_leave_out_keeps_its_weight(
    saved, format, settings, tokens, tmp_path
):
    model, folder = saved("llama", format)
    name = "model.layers.0.mlp.down_proj"
    weight = torch.randn(128, 256).bfloat16()
    plain = {f"{name}.weight": weight}
    rewrite(folder, lambda s: {k: v for k, v in s.items() if not k.startswith(f"{name}.")} | plain)
    with pytest.raises(BenchsuiteError, match=f"missing {name}"):
        checkpoint.load(folder)
    edit_settings(folder, **settings)
    back = checkpoint.load(folder)
    assert torch.equal(back.get_submodule(name).weight, weight)
    assert quantized_linears(back).keys() == quantized_linears(model).keys() - {name}
    checkpoint.save(back, tmp_path / "again", format=format)
    assert_same(tmp_path / "again", back, tokens)


def test_a_layer_may_have_bits_and_groups_of_its_own(saved, make_model):
    _, folder = saved()
    eight = make_model("llama", torch.bfloat16, num_hidden_layers=1, tie_word_embeddings=False)
    rtn.quantize(eight, bits=8, group_size=64)
    name = "model.layers.0.mlp.down_proj"
    layer = eight.get_submodule(name)
    parts = {
        f"{name}.{k}": v.contiguous() for k, v in checkpoint.FORMATS["gptq"].parts(layer).items()
    }
    rewrite(folder, lambda state: state | parts)
    edit_settings(folder, dynamic={r"+:.*\.down_proj": {"bits": 8, "group_size": "64"}, ".*": {}})
    back = checkpoint.load(folder)
    assert back.get_submodule(name).digest == layer.digest
    assert back.model.layers[0].mlp.up_proj.bits == 4


def test_an_entry_within_a_word_leaves_packed_layers_packed(saved, tokens):
    """The router of a mixture of experts is called ``gate``, and so begins ``gate_proj``."""
    model, folder = saved("llama", "awq")
    edit_settings(folder, modules_to_not_convert=["gate"])
    assert_same(folder, model, tokens)


# --- names


def text_and_images():
    text = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    image = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    image |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    config = AutoConfig.for_model("gemma3", text_config=text, vision_config=image)
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "gemma3", "llama", "opt"])
def test_tensors_are_called_what_the_hub_calls_them(family, make_model, tmp_path):
    """Names as transformers' own ``save_pretrained`` writes them."""
    model = text_and_images() if family == "gemma3" else make_model(family)
    model.save_pretrained(tmp_path)
    theirs = set(load_file(tmp_path / WEIGHTS))
    architecture_of(model)  # takes experts apart
    ours = {hub_name(family, name): name for name in model.state_dict()}
    assert theirs <= ours.keys()
    assert ours.keys() - theirs <= {"lm_head.weight", "language_model.lm_head.weight"}  # tied
    assert all(tree_name(family, hub) == name for hub, name in ours.items())


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
@pytest.mark.parametrize("format", checkpoint.FORMATS)
def test_experts_are_saved_under_the_hub_s_names_and_read_under_both(family, format, saved, tokens):
    model, folder = saved(family, format)
    part = checkpoint.FORMATS[format].PARTS[0]
    down = {"mixtral": "block_sparse_moe.experts.1.w2", "qwen3_moe": "mlp.experts.1.down_proj"}
    state = load_file(folder / WEIGHTS)
    assert f"model.layers.0.{down[family]}.{part}" in state
    assert_same(folder, model, tokens)
    rewrite(folder, lambda s: {tree_name(family, k): v for k, v in s.items()})
    assert f"model.layers.0.mlp.experts.1.down_proj.{part}" in load_file(folder / WEIGHTS)
    assert_same(folder, model, tokens)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_engines_are_told_that_routers_are_not_packed(family, saved):
    router = {"mixtral": "block_sparse_moe.gate", "qwen3_moe": "mlp.gate"}[family]
    name = f"model.layers.0.{router}"
    _, folder = saved(family, "awq")
    settings = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert settings["modules_to_not_convert"] == [name]


def test_embeddings_that_are_packed_are_named(saved):
    """As llm-compressor packs them where a recipe says so: no tensor of theirs is missing."""
    _, folder = saved("llama", "pack-quantized")

    def packed(state):
        table = state.pop("model.embed_tokens.weight")
        parts = {"packed": table.int(), "scale": table[:, :1], "shape": torch.tensor(table.shape)}
        return state | {f"model.embed_tokens.weight_{n}": t.clone() for n, t in parts.items()}

    rewrite(folder, packed)
    with pytest.raises(BenchsuiteError, match=r"its model\.embed_tokens is quantized, and only"):
        checkpoint.load(folder)
