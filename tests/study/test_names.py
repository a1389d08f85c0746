"""The names by which cells are chosen and files are called."""

import pytest

from benchsuite import catalog
from benchsuite.study import names, study

# The document's own names for what vLLM chooses by itself; `-m "cell(method='awq')"` is exact.
# An ablation bears its method's name, and `-k kava` means all of them. So do a method's variants
# and a model's dequantized twin.
THE_DOCUMENTS = {
    "calibration_selection": ("smollm2_135m",),
    "quantizers": ("smollm2_135m", "gptq_w4", "rtn_w4"),
    "determinism": ("awq", "gptq", "smollm2_135m"),
    "latent_training": ("kava", "codi"),
    "latent_reasoning": ("kava", "codi"),
}


@pytest.mark.parametrize("name", names())
def test_no_axis_value_hides_inside_another(name):
    for values in study(name).axes.values():
        ours = [value for value in values if value not in THE_DOCUMENTS.get(name, ())]
        hidden = [(a, b) for a in ours for b in values if a != b and a in b]
        assert not hidden, "`pytest -k` would select both"


def test_models_have_the_documents_names():
    names = {n: catalog.model(n).document_name for n in ("llama2_7b", "llama2_13b", "opt_6_7b")}
    assert list(names.values()) == ["llama-2-7b-hf", "llama-2-13b-hf", "opt-6.7b"]
