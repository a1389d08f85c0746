"""Tiny random models and the seeds that the quantizers' tests share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from benchsuite.quantizers import checkpoint
from benchsuite.quantizers.linear import model_digest

SHAPE = {
    "vocab_size": 256,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
SHAPES = {
    "llama": SHAPE | {"intermediate_size": 256, "num_key_value_heads": 2},
    "mistral": SHAPE | {"intermediate_size": 256, "num_key_value_heads": 2, "sliding_window": 16},
    "qwen2": SHAPE | {"intermediate_size": 256, "num_key_value_heads": 2},
    "qwen3": SHAPE | {"intermediate_size": 256, "num_key_value_heads": 2, "head_dim": 32},
    "opt": SHAPE | {"ffn_dim": 256, "word_embed_proj_dim": 128},
    "mixtral": SHAPE | {"intermediate_size": 64, "num_key_value_heads": 2, "num_local_experts": 2},
    "qwen3_moe": SHAPE
    | {"num_key_value_heads": 2, "moe_intermediate_size": 64, "num_experts": 2}
    | {"num_experts_per_tok": 1, "head_dim": 32},
}


def build(model_type: str = "llama", dtype: torch.dtype = torch.float32, **changes) -> nn.Module:
    """Return a random model in evaluation mode; equal calls return equal models."""
    config = AutoConfig.for_model(model_type, **(SHAPES[model_type] | changes))
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter, std=0.02)
    for parameter in model.parameters():  # rotary frequencies stay in float32, as in any model
        parameter.data = parameter.data.to(dtype)
    return model.eval()


def logits(model: nn.Module, tokens: torch.Tensor, **options) -> torch.Tensor:
    """Return what a model says of tokens [n, length]: [n, length, vocabulary]."""
    with torch.no_grad():
        return model(input_ids=tokens, **options).logits


def assert_same(folder: Path, model: nn.Module, tokens: torch.Tensor) -> None:
    """Assert that a checkpoint's folder holds a model: its codes and its logits."""
    back = checkpoint.load(folder)
    assert model_digest(back) == model_digest(model)
    assert torch.equal(logits(back, tokens[:2]), logits(model, tokens[:2]))


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of the random models' 256 words."""
    words = {f"w{i}": i for i in range(256)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")),
        unk_token="w0",
        pad_token="w0",
        eos_token="w1",
    )


def saved_by_llm_compressor(
    scheme: str, tokens: torch.Tensor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> torch.Tensor:
    """Save a model that llm-compressor rounded to ``scheme``; return its logits of ``tokens``."""
    llmcompressor = pytest.importorskip("llmcompressor")
    from llmcompressor.modifiers.quantization import QuantizationModifier

    monkeypatch.chdir(folder)  # it writes its recipe's log into the working folder
    theirs = build(dtype=torch.bfloat16)
    theirs.save_pretrained("original")
    theirs.config._name_or_path = "original"  # it wants a model with a name
    recipe = QuantizationModifier(targets="Linear", scheme=scheme, ignore=["lm_head"])
    llmcompressor.oneshot(model=theirs, recipe=recipe)
    said = logits(theirs, tokens)
    theirs.save_pretrained(folder, save_compressed=True)
    return said


def with_varied_norms(model):
    """Give every norm a weight (and bias) of its own: fresh ones are all ones and zeros."""
    generator = torch.Generator().manual_seed(5)
    for name, module in model.named_modules():
        for part in ("weight", "bias"):
            tensor = getattr(module, part, None)
            if "norm" in name.rpartition(".")[2] and tensor is not None:
                values = (part == "weight") + 0.3 * torch.randn(len(tensor), generator=generator)
                setattr(module, part, nn.Parameter(values.to(tensor.dtype)))
    return model


def oneshot(model, scheme, batch, monkeypatch, folder):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(folder)  # it writes its log into the working folder
    llmcompressor = pytest.importorskip("llmcompressor")
    from llmcompressor.modifiers.quantization import QuantizationModifier

    rows = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in batch]
    llmcompressor.oneshot(
        model=model,
        dataset=torch.utils.data.DataLoader(rows, batch_size=1),
        recipe=[QuantizationModifier(scheme=scheme, targets=["Linear"], ignore=["lm_head"])],
        num_calibration_samples=len(batch),
        max_seq_length=batch.shape[1],
    )
    return model.eval()


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_model() -> Callable[..., nn.Module]:
    return build


@pytest.fixture
def tokens() -> torch.Tensor:
    """Eight calibration sequences of 48 tokens."""
    return torch.randint(0, 256, (8, 48), generator=torch.Generator().manual_seed(3))
