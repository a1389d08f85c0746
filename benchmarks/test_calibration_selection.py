"""Does the choice of calibration text change the quality of a GPTQ model?

The study is declared in ``benchsuite/studies/calibration_selection/``; this is its method.
"""

import pytest

from benchsuite import evaluation, quantizers


@pytest.mark.study("calibration_selection")
def test_calibration_selection(
    cell, model, calibrate, evaluation_tokens, downstream, save_model, record, progress
):
    """Select calibration text, quantize with GPTQ, measure what is left."""
    if model.weights != "checkpoint" and cell.method != "fp16":
        with record.stage("selection"):
            batch = None if cell.method == "rtn" else calibrate(cell.method, cell.seed)
        with record.stage("quant"):
            quantized = quantize(cell, model, batch, progress)
        record.update(raised_damping=quantized.raised_damping)
        save_model(model, quantized)
    with record.stage("evaluation"), quantizers.using_kernel(model.model, "held"):
        quality = evaluation.perplexity.perplexity(
            model.model, evaluation_tokens, seq_len=cell["seq_len"], progress=progress
        )
    record.update(perplexity=quality.value, evaluated_tokens=quality.n_tokens)
    sha256 = None if cell.method == "fp16" else quantizers.model_digest(model.model)
    record.update(weights_sha256=sha256, downstream=downstream(model))
    record.items(chunk=quality.chunks, chunk_nll=quality.chunk_nll)


def quantize(cell, model, batch, progress):
    """Quantize at the study's settings: with GPTQ, or rounding to nearest as the reference."""
    grid = {"bits": cell["quant_bits"], "group_size": cell["group_size"], "sym": cell["sym"]}
    if cell.method == "rtn":
        return quantizers.method("rtn").quantize(model.model, **grid, progress=progress)
    return quantizers.method("gptq").quantize(
        model.model,
        batch,
        **grid,
        desc_act=cell["desc_act"],
        damp_percent=cell["damp_percent"],
        hessian_permutation_seed=cell.seed if cell.method == "shuffled_hessian" else None,
        progress=progress,
    )
