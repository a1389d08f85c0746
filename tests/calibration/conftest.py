import random

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchsuite.calibration import CalibrationPool

SPECIAL = ["<s>", "</s>", "<pad>", "<unk>"]
WORDS = [f"w{i}" for i in range(120)]


@pytest.fixture(scope="session")
def tokenizer():
    """One token per word and one per blank line; BOS in front where specials are asked for."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, "\n\n", *WORDS])}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n\n", behavior="isolated"),
            pre_tokenizers.Split(" ", behavior="removed"),
        ]
    )
    fast.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=64,
    )


@pytest.fixture(scope="session")
def model(tokenizer):
    config = LlamaConfig(
        vocab_size=128,  # three rows more than the tokenizer has
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def documents():
    return corpus(90, shortest=20, longest=60)


@pytest.fixture
def pool(documents, tokenizer, model):
    return CalibrationPool(documents, tokenizer, model=model)


def corpus(n: int, *, shortest: int, longest: int, seed: int = 0) -> tuple[str, ...]:
    """Documents of three topics, so that clusters have something to find."""
    generator = random.Random(seed)
    made = []
    for i in range(n):
        topic = WORDS[40 * (i % 3) : 40 * (i % 3) + 40]
        length = generator.randint(shortest, longest)
        made.append(" ".join(generator.choice(topic) for _ in range(length)))
    return tuple(made)
