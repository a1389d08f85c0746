"""GGUF files of our models, beside those that the converter's rules give."""

import numpy as np
import pytest

pytest.importorskip("gguf")

import gguf

from benchsuite.engines import gguf_file
from tests.models.gguf import files


def tensors(path):
    return {t.name: (t.tensor_type.name, t.data) for t in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize(("quantizer", "kind"), [("gguf_f16", "F16"), ("gguf_q4_0", "Q4_0")])
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_the_tensors_are_those_of_the_converter(tmp_path, model_type, quantizer, kind):
    gguf_file.write(files.model(model_type), tmp_path / "ours.gguf", quantizer)
    ours = tensors(tmp_path / "ours.gguf")
    theirs = tensors(files.write(tmp_path / "theirs.gguf", files.model(model_type), kind))
    precise = tensors(files.write(tmp_path / "precise.gguf", files.model(model_type), "F16"))
    assert ours.keys() == theirs.keys()
    for name, (found, data) in ours.items():
        as_type, expected = (precise if name in gguf_file.PRECISE else theirs)[name]
        assert found == as_type
        assert np.array_equal(data, expected), name


def test_what_is_not_written_is_named(tmp_path):
    model = files.model("phi3")
    with pytest.raises(ValueError, match="a phi3 with this rope is not written as GGUF; llama"):
        gguf_file.write(model, tmp_path / "a.gguf", "gguf_f16")
    with pytest.raises(ValueError, match=r"no place for model\.layers\.0\.self_attn\.k_proj\.bias"):
        gguf_file.write(files.model("qwen3", attention_bias=True), tmp_path / "a.gguf", "gguf_f16")
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
    with pytest.raises(ValueError, match="a llama with this rope"):
        gguf_file.write(
            files.model("llama", rope_parameters=scaled), tmp_path / "a.gguf", "gguf_f16"
        )
