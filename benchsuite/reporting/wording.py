"""The study documents' sentences, filled from the numbers."""

from collections.abc import Mapping
from typing import Any

from benchsuite.statistics.inference.claims import Judgement
from benchsuite.statistics.inference.wording import TEST_NAMES, power_sentence
from benchsuite.statistics.rounding import p_text, signed, with_uncertainty

# How the documents call a method in running text.
METHOD_NAMES = {
    "cola_zero": "COLA-Zero",
    "random": "random sampling",
    "gptq_default": "sequential (default) sampling",
    "cola_balanced": "the balanced COLA variant",
    "activation_clusters": "COLA activation clusters",
    "self_generated": "self-generated text",
}
METRIC_NAMES = {"perplexity": "PPL"}
# The calibration document calls coefficients of 1.4 and 2.1 % low.
LOW_CV = 2.5


def null_result(judgement: Judgement, parameters: Mapping[str, Any]) -> str:
    """Return the calibration document's null-result paragraph for one comparison.

    Its last sentence is replaced: that a difference was not found is not evidence of "minimal
    benefit"; what could have been found is said instead.
    """
    seen, claim = judgement.evidence, judgement.claim
    metric = METRIC_NAMES.get(claim.metric, claim.metric)
    first, second = (METHOD_NAMES.get(m or "", m) for m in (claim.method, claim.other))
    arms = [
        f"{metric}={with_uncertainty(seen[f'mean{end}'], seen[f'std{end}'], plus_minus='±')}"
        for end in ("", "_other")
    ]
    n, n_other = seen["n"], seen["n_other"]
    size = f"N={n}" if n == n_other else f"N={n} and {n_other}"
    effect = "" if seen["cohens_d"] is None else f", d={signed(seen['cohens_d'], 3)}"
    p_value = p_text(seen["p_value"]).replace(" ", "")
    correction = f", Holm {p_text(seen['p_holm'])}" if seen["family_size"] > 1 else ""
    return (
        f"Multi-seed evaluation ({size}) on {judgement.model} showed no statistically significant "
        f"difference between {first} ({arms[0]}) and {second} ({arms[1]}; {p_value}{effect}, "
        f"{TEST_NAMES.get(seen['test'], seen['test'])}{correction}). {_variation(seen)} "
        f"{power_sentence(seen)}{_setting(parameters)}"
    )


def _variation(seen: Mapping[str, Any]) -> str:
    cvs = [seen["cv_percent"], seen["cv_percent_other"]]
    if None in cvs:
        return ""
    one, two = (f"{cv:.2g}%" if cv >= 0.01 or cv == 0 else "<0.01%" for cv in cvs)
    if max(cvs) > LOW_CV:
        return f"The coefficient of variation (CV) was {one} and {two} respectively."
    return (
        f"The coefficient of variation (CV) for both methods was low ({one} and {two} "
        "respectively), indicating stable quality across seeds."
    )


def _setting(parameters: Mapping[str, Any]) -> str:
    bits, samples = parameters.get("quant_bits"), parameters.get("n_calibration_samples")
    if bits is None or samples is None:
        return ""
    return f" The result holds for {bits}-bit GPTQ with {samples} calibration samples."
