"""Our AWQ against llm-compressor's on an embedded model, same data, whole pipeline.

Its exponents are i / 19 and it searches no clipping, so for the comparison ours does likewise.
Bar: perplexity within 0.5 %. Exponents that are as good as equal are chosen by the last bits, which
moves the logits' error by a percent or two; where both choose alike it agrees (test_awq.py).
"""

import copy

import pytest
import torch

from benchsuite import catalog
from benchsuite.corpora.text import load_text
from benchsuite.evaluation.perplexity import perplexity, tokenize_protocol
from benchsuite.models.pool import ModelPool
from benchsuite.quantizers import awq, awq_search
from benchsuite.quantizers.kernels import using_kernel
from tests.quantizers.compressors import llm_compressor


def by_llm_compressor(model, batch, monkeypatch):
    pytest.importorskip("llmcompressor")
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    rounded = QuantizationModifier(scheme="W4A16_ASYM", targets=["Linear"], ignore=["lm_head"])
    return llm_compressor(model, batch, [AWQModifier(duo_scaling=False), rounded], monkeypatch)


@pytest.mark.stress
def test_the_whole_method_agrees(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # it writes its recipe's log into the working folder
    pool, entry = ModelPool(), catalog.model("tiny_llama_1m")
    with pool.lease(entry) as original, pool.lease(entry) as lease:
        text = tokenize_protocol(
            lease.tokenizer, load_text("embedded_text", "train").joined[:15_000]
        )
        batch = text.flatten()[: 4 * 256].reshape(4, 256)
        held_out = load_text("embedded_text", "test").joined[:15_000]
        held_out = tokenize_protocol(lease.tokenizer, held_out).flatten()
        with torch.no_grad():
            goal = original.model(input_ids=batch).logits
        theirs = by_llm_compressor(copy.deepcopy(original.model), batch, monkeypatch)
        monkeypatch.setattr(awq_search, "EXPONENTS", tuple(i / 19 for i in range(20)))
        awq.quantize(lease.model, batch, clip=False)
        found = []
        for model in (lease.model, theirs):
            with torch.no_grad(), using_kernel(model, "held"):
                off = (model(input_ids=batch).logits - goal).square().mean().item()
                found.append((off, perplexity(model, held_out, seq_len=256, batch_size=16).value))
    (our_error, our_perplexity), (their_error, their_perplexity) = found
    assert our_error == pytest.approx(their_error, rel=0.03)
    assert our_perplexity == pytest.approx(their_perplexity, rel=0.005)
