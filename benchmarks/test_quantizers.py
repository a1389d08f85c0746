"""Which quantizer costs a model least, at which size?

The study is declared in ``benchsuite/studies/quantizers/``; this is its method.
"""

import pytest

from benchsuite import evaluation, models, quantizers


@pytest.mark.study("quantizers")
def test_quantizers(
    cell,
    model,
    original,
    calibrate,
    evaluation_tokens,
    questions,
    original_answers,
    save_model,
    latency,
    served_latency,
    record,
    progress,
):
    """Quantize, then ask what it saved and what it cost."""
    network, seq_len = model.model, cell["seq_len"]
    given, batch, quantized = model.weights == "checkpoint", None, None
    if cell.method in quantizers.QUANTIZERS and quantizers.quantizer(cell.method).calibrated:
        with record.stage("selection"):
            batch = None if given else calibrate("random", cell.seed)
    if given or cell.method != "fp16":
        with record.stage("quant"):
            quantized = quantize(cell, model, batch, progress)
    record.update(**sizes(original.model, quantized, model.entry.dtype))
    save_model(model, quantized)
    with (
        record.stage("evaluation"),
        quantizers.using_kernel(network, "held"),
        models.replicas_kept(network),
    ):
        quality = evaluation.perplexity.perplexity(network, evaluation_tokens, seq_len=seq_len)
        change = evaluation.divergence.divergence(
            original.model, network, evaluation_tokens, seq_len=seq_len
        )
        answers = questions(network)
    record.update(perplexity=quality.value, kl=change.value, **answers.values())
    record.update(**evaluation.answers.changed(answers, original_answers()))
    passages = evaluation.shown.worst_passages(
        evaluation_tokens, change.token_kl, model.tokenizer, seq_len
    )
    record.items(chunk=quality.chunks, chunk_nll=quality.chunk_nll, chunk_kl=change.chunk_kl)
    record.items(chunk_passage=passages)
    record.items(**answers.rows())
    with record.stage("latency"), quantizers.using_kernel(network, "few_tokens"):
        record.clock(**latency(network, evaluation_tokens[: seq_len // 2]))
    with record.stage("served"):
        record.clock(**served_latency(network, evaluation_tokens[: seq_len // 2]))


def quantize(cell, model, batch, progress):
    """Quantize with the cell's method; the control is broken.

    A checkpoint that was given is what the method made.
    """
    network = model.model
    if model.weights == "checkpoint":
        return quantizers.given(cell.method, network, model.file_bytes)
    if cell.method == "zeroed_layer":
        return quantizers.zero_first_mlp(network)
    return quantizers.apply(
        cell.method, network, batch, seed=cell.seed, progress=progress, **cell.parameters
    )


def sizes(original, quantized, dtype):
    """Return what quantization saved, for methods that save anything.

    The original counts in the dtype that its weights are stored in: a CPU runs embedded models of
    half precision in float32. The quantized model counts as it is saved.
    """
    before = quantizers.stored_bytes(original) - quantizers.widened_bytes(original, dtype)
    if quantized is None:
        return {
            "weights_sha256": None,
            "size_before_mb": before / 1e6,
            "size_after_mb": before / 1e6,
            "compression_ratio": 1.0,
        }
    of_cache = "cache_bits" in quantized.recorded  # which leaves the weights as they are stored
    after = before if of_cache else quantized.size_after_bytes
    return {
        "weights_sha256": quantized.weights_sha256 or None,
        "size_before_mb": before / 1e6,
        "size_after_mb": after / 1e6,
        "compression_ratio": before / after,
        "latency_simulated": quantized.latency_simulated,
        **quantized.recorded,
    }
