"""GGUF as a method: llama.cpp's own files byte by byte, and what readers make of ours."""

import shutil

import numpy as np
import pytest
import torch

from benchsuite import catalog, models
from benchsuite.engines import EngineProcess, engine
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.evaluation.checkpoints import open_model
from benchsuite.evaluation.generation import log_likelihoods
from benchsuite.models.folder import folder_digest
from benchsuite.models.gguf import writer
from benchsuite.quantizers import checkpoint, gguf, rtn
from benchsuite.quantizers.formats.gguf_blocks import BLOCKS, decode
from benchsuite.quantizers.formats.gguf_linear import GgufEmbedding, GgufLinear
from benchsuite.quantizers.gguf_mixes import Shape, type_of
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.linear import quantized_linears, stored_bytes
from benchsuite.quantizers.registry import GGUF
from tests.models import tiny
from tests.quantizers import ggml_libraries
from tests.quantizers.conftest import build, logits

WIDE = {"hidden_size": 256, "intermediate_size": 512}
LETTERS = {"0": "Q4_0", "1": "Q4_1", "8": "Q8_0", "n": "IQ4_NL"} | {d: f"Q{d}_K" for d in "3456"}
# What llama_model_quantize of build 10434 chose for a model of 17 blocks of width 256 with four
# queries to a key: attn_v, attn_output, ffn_down and ffn_up of each block; embeddings and head.
CHOSEN = {
    ("q8_0", False): ("8" * 17, "8" * 17, "8" * 17, "8" * 17, "88"),
    ("q5_k_m", False): ("66556556556556666", "5" * 17, "66556556556556666", "5" * 17, "56"),
    ("q4_k_m", False): ("66446446446446666", "4" * 17, "66446446446446666", "4" * 17, "46"),
    ("q3_k_m", False): ("55444444444444444", "4" * 17, "54444444444444444", "3" * 17, "36"),
    ("q4_0", False): ("0" * 17, "0" * 17, "0" * 17, "0" * 17, "06"),
    ("q4_0", True): ("0" * 17, "0" * 17, "11" + "0" * 15, "0" * 17, "06"),
    ("iq4_nl", False): ("5" * 17, "n" * 17, "55" + "n" * 15, "n" * 17, "n6"),
    ("iq4_nl", True): ("5" * 17, "n" * 17, "n" * 17, "n" * 17, "n6"),
}


def read(path):
    library = pytest.importorskip("gguf")
    return {t.name: (t.tensor_type.name, t.data) for t in library.GGUFReader(path).tensors}


def plain_file(model, path):
    """Write a model in float32, for llama.cpp to quantize."""
    state = model.state_dict()
    tensors = (
        (place.name, place.ordered(state[place.path].float().numpy()), "F32")
        for place in writer.places(model.config, tied=model.config.tie_word_embeddings)
    )
    writer.write(path, model.config, tensors)
    return path


@pytest.mark.parametrize(("mix", "imatrix"), CHOSEN)
def test_a_mix_gives_each_tensor_the_type_that_llama_cpp_gives_it(mix, imatrix):
    model = Shape(n_blocks=17, queries_per_key=4.0)

    def letters(role, blocks):
        kinds = [type_of(mix, role, block, 256, model, imatrix=imatrix) for block in blocks]
        return "".join({kind: letter for letter, kind in LETTERS.items()}[kind] for kind in kinds)

    found = [letters(r, range(17)) for r in ("attn_v", "attn_output", "ffn_down", "ffn_up")]
    ends = letters("token_embd", (0,)) + letters("output", (0,))
    assert (*found, ends) == CHOSEN[mix, imatrix]


def test_rows_that_are_no_whole_super_blocks_get_other_types():
    """The third mix of a Q4_K_M is Q6_K, whose stand-in is Q8_0."""
    model = Shape(n_blocks=2, tied=True)
    kinds = {
        (role, width): type_of("q4_k_m", role, 1, width, model, imatrix=False)
        for role in ("attn_q", "attn_v", "token_embd")
        for width in (512, 576, 30)
    }
    assert kinds == {
        ("attn_q", 512): "Q4_K",
        ("attn_q", 576): "Q5_0",
        ("attn_q", 30): "F16",
        ("attn_v", 512): "Q6_K",
        ("attn_v", 576): "Q8_0",
        ("attn_v", 30): "F16",
        ("token_embd", 512): "Q6_K",
        ("token_embd", 576): "Q8_0",
        ("token_embd", 30): "F16",
    }
    fallbacks = [type_of(m, "attn_q", 0, 576, model, imatrix=False) for m in ("q3_k_m", "q5_k_m")]
    assert fallbacks == ["Q4_0", "Q5_1"]


@pytest.mark.stress
@pytest.mark.parametrize("name", GGUF)
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", WIDE | {"num_hidden_layers": 3}),
        ("llama", {"num_attention_heads": 8}),
        ("qwen2", WIDE | {"tie_word_embeddings": True}),
    ],
)
def test_a_file_is_llama_cpps_own_byte_by_byte(
    name, family, changes, tokens, tmp_path, monkeypatch
):
    setting, weighed = GGUF[name], {}
    encoded, roles = gguf._Rounding.linear, gguf.ROLES

    def noting(rounding, path, block, linear, importance=None):
        weighed[f"blk.{block}.{roles[path.rpartition('.')[2]]}.weight"] = importance
        return encoded(rounding, path, block, linear, importance)

    monkeypatch.setattr(gguf._Rounding, "linear", noting)
    model = build(family, **changes)
    source = plain_file(model, tmp_path / "plain.gguf")
    gguf.quantize(model, tokens if setting["imatrix"] else None, **setting)
    checkpoint.save(model, tmp_path)
    columns = weighed if setting["imatrix"] else None
    ggml_libraries.quantized_file(source, tmp_path / "theirs.gguf", setting["mix"], columns)
    ours, theirs = read(tmp_path / checkpoint.checkpoint_gguf.FILE), read(tmp_path / "theirs.gguf")
    assert ours.keys() == theirs.keys()
    for tensor, (kind, data) in ours.items():
        assert kind == theirs[tensor][0], tensor
        assert data.tobytes() == theirs[tensor][1].tobytes(), tensor


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", WIDE),
        ("qwen2", {"tie_word_embeddings": True}),
        ("qwen3", {"head_dim": 128}),  # transformers 5.17 does not read another
        ("mistral", {"sliding_window": None}),
    ],
)
def test_a_saved_file_is_read_as_the_same_model(family, changes, tokens, tmp_path, monkeypatch):
    """By `models.gguf` and by transformers: equal logits."""
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = build(family, **changes)
    gguf.quantize(model, mix="q4_k_m")
    checkpoint.save(model, tmp_path / "saved")
    (file,) = (tmp_path / "saved").iterdir()
    expected = logits(model, tokens)
    assert torch.equal(logits(checkpoint.load(file), tokens), expected)
    theirs = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    assert torch.equal(logits(theirs, tokens), expected)


def test_the_file_holds_the_tokenizer(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    entry = catalog.model("tiny_llama_1m")
    lease = models.load(entry)
    result = gguf.quantize(lease.model, mix="q8_0")
    checkpoint.save(lease.model, tmp_path, tokenizer=lease.tokenizer)
    file = tmp_path / "model.gguf"
    again = models.load_tokenizer(entry, models.model_folder(file))
    text = "It's 12 foxes,\n\n  3.5 caf\u00e9 </s>"
    assert again(text).input_ids == lease.tokenizer(text).input_ids
    assert 0 < file.stat().st_size - result.size_after_bytes < 100_000  # names, and 2,048 tokens


@pytest.mark.parametrize("method", [gguf, rtn])
def test_a_head_of_its_own_is_saved_whatever_the_configuration_says(
    method, tokens, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = build("llama")
    model.config.tie_word_embeddings = True
    method.quantize(model, **({"mix": "q8_0"} if method is gguf else {"bits": 4}))
    checkpoint.save(model, tmp_path / "saved")
    file = tmp_path / "saved" / "model.gguf"
    read = checkpoint.load(file if file.exists() else file.parent)
    assert torch.equal(logits(read, tokens), logits(model, tokens))
    assert not read.config.tie_word_embeddings


def test_a_tokenizer_that_is_not_in_the_file_is_read_from_beside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, tokenizer = build("llama", vocab_size=300), tiny.tokenizer()  # without merges: unnamed
    gguf.quantize(model, mix="q8_0")
    checkpoint.save(model, tmp_path / "saved", tokenizer=tokenizer)
    file = tmp_path / "saved" / "model.gguf"
    opened = open_model(str(tmp_path / "saved"))
    assert opened.tokenizer("It's 12").input_ids == tokenizer("It's 12").input_ids
    digests = [folder_digest(file)]
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (file.parent / name).write_text('{"bos_token": "none"}')
        digests.append(folder_digest(file))
    assert len(set(digests)) == 4, "prompts are of the configuration and the template too"
    alone = shutil.copy(file, tmp_path / "alone.gguf")
    with pytest.raises(BenchsuiteError, match="numbers in place of its tokens"):
        open_model(str(alone))


@pytest.mark.parametrize(
    ("family", "imatrix"),
    [("llama", False), ("opt", True), ("mixtral", True), ("qwen3_moe", False)],
)
def test_every_family_is_rounded_and_accounted_for(family, imatrix, tokens):
    model, original = build(family), build(family)
    result = gguf.quantize(model, tokens if imatrix else None, mix="q4_k_m", imatrix=imatrix)
    expected, found = logits(original, tokens), logits(model, tokens)
    assert 0 < (found - expected).norm() / expected.norm() < 0.15
    layers = {n: m for n, m in model.named_modules() if isinstance(m, GgufLinear | GgufEmbedding)}
    packed = {m.packed.data_ptr(): m.packed.numel() for m in layers.values()}
    assert result.size_after_bytes == stored_bytes(model)
    weights = sum(p.numel() for p in {*original.parameters()} if p.dim() > 1)
    positions = 0 if family != "opt" else original.model.decoder.embed_positions.weight.numel()
    routers = sum(p.numel() for n, p in model.named_parameters() if p.dim() > 1) - positions
    said = result.recorded["bits_per_weight_with_embeddings"]
    assert said == pytest.approx(8 * sum(packed.values()) / (weights - positions - routers))
    assert sum(map(len, result.recorded["tensor_types"].values())) == len(layers)
    assert result.latency_simulated
    again = build(family)
    assert (
        gguf.quantize(
            again, tokens if imatrix else None, mix="q4_k_m", imatrix=imatrix
        ).weights_sha256
        == result.weights_sha256
    )


def test_importance_is_the_mean_square_of_what_the_unrounded_model_reads(tokens, monkeypatch):
    seen, original = {}, build()
    for name, module in original.named_modules():
        if name.endswith("_proj"):
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen.__setitem__(
                    name, args[0].double().square().mean((0, 1))
                )
            )
    logits(original, tokens)
    given, encode = {}, gguf._Rounding.encoded

    def noting(rounding, name, weight, kind, importance=None):
        given[name] = importance
        return encode(rounding, name, weight, kind, importance)

    monkeypatch.setattr(gguf._Rounding, "encoded", noting)
    gguf.quantize(build(), tokens, mix="q4_0", imatrix=True)
    assert given.pop("model.embed_tokens") is given.pop("lm_head") is None
    assert given.keys() == seen.keys()
    for name, columns in given.items():
        assert torch.allclose(columns.double(), seen[name], rtol=1e-5), name


def test_importance_lowers_the_error_at_the_outputs(tokens):
    """Of inputs whose columns differ; the first block is read by both alike."""
    found = []
    for imatrix in (False, True):
        model = build(hidden_size=256, intermediate_size=256, num_hidden_layers=1)
        scales = torch.logspace(0, 2, 256)[torch.randperm(256, generator=torch.Generator())]
        model.model.layers[0].input_layernorm.weight.data = scales
        inputs = torch.cat([logits_of_norm(model, row[None]) for row in tokens])
        exact = model.model.layers[0].self_attn.q_proj(inputs)
        gguf.quantize(model, tokens if imatrix else None, mix="q3_k_m", imatrix=imatrix)
        found.append((model.model.layers[0].self_attn.q_proj(inputs) - exact).square().mean())
    assert found[1] < 0.9 * found[0]


def logits_of_norm(model, ids):
    with torch.no_grad():
        return model.model.layers[0].input_layernorm(model.model.embed_tokens(ids))


def test_rows_of_embeddings_are_those_of_the_whole_table(tokens):
    model = tiny.model("gemma3_text", head_dim=32, sliding_window=4)
    expected = model.get_input_embeddings()(tokens)
    gguf.quantize(model, mix="q8_0")
    table = model.get_input_embeddings()
    whole = decode(table.packed, table.kind) * table.factor
    assert torch.equal(table(tokens), whole[tokens])
    assert (table(tokens) - expected).abs().max() < expected.abs().max() / 200


def test_products_are_those_of_the_decoded_weight(tokens):
    model = build()
    gguf.quantize(model, mix="q4_k_m")
    expected = logits(model, tokens)
    with using_kernel(model, "held"):
        assert torch.equal(logits(model, tokens), expected)
    with using_kernel(model, "few_tokens"):
        assert torch.equal(logits(model, tokens), expected)
    layer = quantized_linears(model)["model.layers.0.mlp.up_proj"]
    assert layer.packed_bytes == 256 * 128 // 32 * BLOCKS[layer.kind].n_bytes
    assert model.to(torch.bfloat16).get_submodule("lm_head").packed.dtype == torch.uint8
    with pytest.raises(UsageError, match="no kernel 'triton'"):
        layer.use("triton")


def test_what_cannot_be_done_is_named(tmp_path):
    with pytest.raises(UsageError, match="unknown GGUF mix 'q9'"):
        gguf.quantize(build(), mix="q9")
    with pytest.raises(UsageError, match="needs calibration data"):
        gguf.quantize(build(), mix="q4_0", imatrix=True)
    model = build()
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = 1e5
    with pytest.raises(BenchsuiteError, match=r"too large for scales in float16") as caught:
        gguf.quantize(model, mix="q4_0")
    assert caught.value.where == "model.layers.1.mlp.up_proj"
    model = build("opt")
    gguf.quantize(model, mix="q4_0")
    with pytest.raises(UsageError, match="a opt with this rope is not written as GGUF"):
        checkpoint.save(model, tmp_path / "saved")
    with pytest.raises(UsageError, match="in another way"):
        checkpoint.save(model, tmp_path / "saved", format="gptq")
    with pytest.raises(UsageError, match="no layer is in one of ggml's types"):
        checkpoint.save(build(), tmp_path / "saved", format="gguf")
    assert not (tmp_path / "saved").exists()


def test_biases_are_in_the_file_or_it_is_not_written(tokens, tmp_path, monkeypatch):
    """llama.cpp's llama has them all, its Qwen3 none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number, told in enumerate(({"attention_bias": True}, {"mlp_bias": True})):
        model = build("llama", **told)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.data.normal_()
        gguf.quantize(model, mix="q8_0")
        checkpoint.save(model, tmp_path / f"{number}")
        read = checkpoint.load(tmp_path / f"{number}" / "model.gguf")
        assert torch.equal(logits(read, tokens), logits(model, tokens))
    model = build("qwen3", attention_bias=True)
    gguf.quantize(model, mix="q8_0")
    with pytest.raises(UsageError, match=r"no place for model\.layers\.0\.self_attn\.k_proj\.bias"):
        checkpoint.save(model, tmp_path / "lost")
    for changes, said in (({"hidden_act": "gelu"}, "with gelu"), ({}, "with a sliding window")):
        model = build("qwen2", use_sliding_window=True, max_window_layers=0, **changes)
        gguf.quantize(model, mix="q8_0")
        with pytest.raises(UsageError, match=said):
            checkpoint.save(model, tmp_path / "lost")
    assert not (tmp_path / "lost").exists()


@pytest.mark.stress
@pytest.mark.parametrize("mix", ["q8_0", "q4_k_m"])
def test_llama_server_serves_the_saved_file(mix, tmp_path):
    """It rounds inputs to 8 bits, of 256 for K types, so that its numbers are only near."""
    program = shutil.which("llama-server")
    if program is None:
        pytest.skip(f"llama-server is not on the PATH: {engine('llama_server').install}")
    lease = models.load(catalog.model("tiny_llama_4m"))
    gguf.quantize(lease.model, mix=mix)
    checkpoint.save(lease.model, tmp_path, tokenizer=lease.tokenizer)
    prompts = [[(7 * i + 3 * n) % 2000 + 5 for i in range(24)] for n in range(3)]
    log = tmp_path / "log"
    with EngineProcess("llama_server", engine("llama_server"), log=log) as process:
        process.load(program=program, checkpoint_folder=str(tmp_path), batch=3, sample_tokens=64)
        made = process.generate(prompts, 6)
    ours = log_likelihoods(lease.model, prompts, made.tokens.tolist())
    distance = np.abs(made.logprobs - np.stack(ours))
    assert distance.max() < 0.15
    assert distance.mean() < 0.04
