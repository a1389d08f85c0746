"""Which quantizer costs a model least, at which size?

The study is declared in ``benchsuite/studies/quantizers.py``; this is its method.
"""

import pytest

from benchsuite import evaluation, quantizers


@pytest.mark.study("quantizers")
def test_quantizers(
    cell, model, lease, calibrate, evaluation_tokens, questions, save_model, record, progress
):
    """Quantize, then ask what it saved and what it cost."""
    original, network, seq_len = lease(cell.model).model, model.model, cell["seq_len"]
    with record.stage("selection"):
        batch = calibrate("random", cell.seed)
    with record.stage("quant"):
        quantized = quantize(cell, network, batch, progress)
    record.update(**sizes(quantized))
    save_model(model, quantized)
    with record.stage("evaluation"), quantizers.using_kernel(network, "held"):
        quality = evaluation.perplexity.perplexity(network, evaluation_tokens, seq_len=seq_len)
        change = evaluation.divergence.divergence(
            original, network, evaluation_tokens, seq_len=seq_len
        )
        arc, squad, maths = questions(network)
    record.update(perplexity=quality.value, kl=change.value)
    record.update(arc_macro_f1=arc.macro_f1, arc_accuracy=arc.accuracy, arc_parsed=arc.parse_rate)
    record.update(squad_f1=squad.f1, squad_exact=squad.exact, n_questions_asked=arc.n)
    record.update(maths_mean_difference=maths.mean_difference, maths_accuracy=maths.accuracy)
    record.update(maths_median_difference=maths.median_difference, maths_parsed=maths.parse_rate)
    record.items(chunk_nll=quality.chunk_nll, chunk_kl=change.chunk_kl)
    with record.stage("latency"), quantizers.using_kernel(network, "few_tokens"):
        speed = evaluation.speed.measure(network, evaluation_tokens[: seq_len // 2], repeats=3)
    record.clock(latency_seconds=speed.latency_seconds, tokens_per_second=speed.tokens_per_second)
    record.clock(inference_memory_bytes=speed.peak_memory_bytes)


def quantize(cell, network, batch, progress):
    """Quantize with the cell's method; the reference is left alone, the control broken."""
    if cell.method == "fp16":
        return None
    if cell.method == "zeroed_layer":
        return quantizers.zero_first_mlp(network)
    options = {k: v for k, v in cell.parameters.items() if k in ("group_size", "iterations")}
    return quantizers.apply(
        cell.method, network, batch, seed=cell.seed, progress=progress, **options
    )


def sizes(quantized):
    """Return what quantization saved, for methods that save anything."""
    if quantized is None:
        return {"weights_sha256": None, "size_after_mb": None, "compression_ratio": 1.0}
    return {
        "weights_sha256": quantized.weights_sha256,
        "size_before_mb": quantized.size_before_bytes / 1e6,
        "size_after_mb": quantized.size_after_bytes / 1e6,
        "compression_ratio": quantized.compression_ratio,
    }
