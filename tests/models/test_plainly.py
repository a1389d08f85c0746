"""A model gives logits alone, whatever training left in its configuration."""

import json

import pytest
import torch

from benchsuite import models
from benchsuite.catalog import Sources
from benchsuite.comparing.subject import open_subject
from benchsuite.evaluation import generation, perplexity
from benchsuite.quantizers import checkpoint, rtn
from tests.models import tiny

PROMPTS = [list(range(3, 20)), list(range(40, 47)), list(range(90, 93))]
TEXT = torch.randint(3, 258, (128,), generator=torch.Generator().manual_seed(1))
ASKED = {"output_router_logits": True, "output_hidden_states": True, "return_dict": False}


def folder(path, **asked):
    tiny.checkpoint(path, model_type="mixtral", num_local_experts=4, num_experts_per_tok=2)
    config = path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | asked))
    return path


def measured(model, tokenizer):
    answers = generation.generate(model, tokenizer, PROMPTS, max_new_tokens=8)
    quality = perplexity.perplexity(model, TEXT, seq_len=64)
    return [ids.tolist() for ids in answers.token_ids], quality.value


@pytest.mark.parametrize("asked", [{key: value} for key, value in ASKED.items()], ids=ASKED)
def test_answers_and_perplexity_are_those_without_what_training_asked_for(asked, tmp_path):
    expected = open_subject(str(folder(tmp_path / "plain")))
    found = open_subject(str(folder(tmp_path / "asked", **asked)))
    assert measured(found.model, found.tokenizer) == measured(expected.model, expected.tokenizer)


def test_a_quantized_and_a_drawn_model_give_logits_alone_too(tmp_path):
    model = open_subject(str(folder(tmp_path / "given", **ASKED))).model
    rtn.quantize(model, group_size=32)
    checkpoint.save(model, tmp_path / "packed")
    config = tmp_path / "packed" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | ASKED))
    packed = checkpoint.load(tmp_path / "packed")
    drawn = models.load(tiny.entry(vocab_size=2048, **ASKED), Sources(weights="random")).model
    for made in (packed, drawn):
        given = made(input_ids=TEXT[None], use_cache=False)
        assert list(given) == ["logits"]
    assert torch.equal(packed(input_ids=TEXT[None]).logits, model(input_ids=TEXT[None]).logits)
