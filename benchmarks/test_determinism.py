"""Is INT4 inference deterministic, and if not, along which axis and why?

The study is declared in ``benchsuite/studies/determinism/``, the variants in
``benchsuite/determinism/variants.py``; this is its method.
"""

import pytest

from benchsuite import determinism


@pytest.mark.study("determinism")
def test_determinism(cell, engines, prompts, reference, record):
    """Repeat one prompt, change one thing at a time, and compare bits."""
    asked = cell["repetitions"], cell["max_tokens"]
    checked = reference.prompts()
    with record.stage("quant"):
        engines.prepare()
    with record.stage("baseline"), engines.running("baseline") as engine:
        baseline = determinism.repeat(engine, prompts[0], *asked)
        batches = determinism.batch_invariance(engine, prompts, baseline, cell["others"])
        prefill = determinism.prefill_scoring(engine, prompts[0], baseline)
        kernels = determinism.kernels_seen(engine, prompts, cell["others"])
        served = determinism.serve(engine, checked, cell["served_tokens"], engines.batch)
    axes = {"batch_invariance": batches, "prefill_scoring": prefill}
    for axis in ("fresh_process", "threads", "other_gpu"):
        with record.stage(axis):
            axes[axis] = engines.elsewhere(axis, prompts[0], baseline)
    with record.stage("deterministic"):
        deterministic = engines.deterministic(prompts, *asked)
    axes["quantizer"] = engines.quantized_again()
    with record.stage("verification"):
        verified, scores = reference.verify(checked, served)
    record.update(**engines.report(baseline, deterministic, axes, kernels, verified))
    if scores is not None:
        record.items(**scores.columns())
    record.clock(
        timestamp=record.started_at, kernels=kernels["alone"], kernels_in_batch=kernels["in_batch"]
    )
