"""What is said where vLLM does not load, with a stand-in for vLLM, which needs a GPU."""

import importlib
import sys
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture
def engine(monkeypatch):
    """An engine whose vLLM raises the error that it was last given."""

    def refuse(**settings):
        raise library.error

    library = SimpleNamespace(LLM=refuse, SamplingParams=None)
    monkeypatch.setitem(sys.modules, "vllm", library)
    monkeypatch.delitem(sys.modules, "benchsuite.engines.vllm_engine", raising=False)
    loaded = importlib.import_module("benchsuite.engines.vllm_engine").Engine()
    yield loaded, library
    sys.modules.pop("benchsuite.engines.vllm_engine")


@pytest.mark.parametrize(
    ("error", "cache", "dtype", "hinted"),
    [
        (RuntimeError("unsupported"), "fp8", "float16", True),
        (RuntimeError("unsupported"), "fp8", "bfloat16", False),
        (RuntimeError("unsupported"), "auto", "float16", False),
        (torch.OutOfMemoryError("no room"), "fp8", "float16", False),
    ],
)
def test_a_dtype_is_blamed_only_where_it_may_be_the_cause(engine, error, cache, dtype, hinted):
    loaded, library = engine
    library.error = error
    with pytest.raises(type(error), match=str(error)) as raised:
        loaded.load(checkpoint_folder="here", kv_cache_dtype=cache, dtype=dtype)
    assert ("set dtype to bfloat16" in str(raised.value)) == hinted
