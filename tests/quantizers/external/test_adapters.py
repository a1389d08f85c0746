"""Every library really run on an embedded model: what it leaves in the model, and nowhere else."""

import copy
import logging
import os
import random
import threading
from concurrent.futures.thread import _threads_queues

import pytest
import torch

from benchsuite.evaluation.perplexity import perplexity
from benchsuite.quantizers import apply
from benchsuite.quantizers.external import autoround
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.registry import LIBRARIES
from benchsuite.records import environment

# The others are long to import or to run, up to 21 seconds each.
FAST = ("hqq_reference", "torchao_int4", "bitsandbytes_int8")


def run(name, model, batch):
    """Quantize as a cell does; AutoRound with few of its 200 iterations."""
    if name == "autoround":
        return autoround.quantize(model, batch, seed=42, iters=3)
    return apply(name, model, batch, seed=42, progress=None, group_size=128)


def process_state():
    """What a library might change for those who come after it in the process."""
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "python": random.getstate(),
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "printing": copy.copy(vars(torch._tensor_str.PRINT_OPTS)),
        "precision": torch.backends.cuda.matmul.fp32_precision,
        "handlers": list(logging.getLogger().handlers),
        "level": logging.getLogger().level,
        # A pool's idle threads are ended by concurrent.futures itself when the process ends.
        "foreground": [
            t.name for t in threading.enumerate() if not t.daemon and t not in _threads_queues
        ],
    }


@pytest.fixture(scope="module")
def texts(text_ids):
    """Calibration sequences int64 [4, 64], and text held out int64 [4000]."""
    return text_ids("train", 4 * 64).reshape(4, 64), text_ids("test", 4000)


@pytest.fixture(scope="module")
def known(lend, texts):
    """The original's perplexity, and the digest of our GPTQ before any library ran."""
    batch, held_out = texts
    with lend() as original, lend() as own:
        reference = perplexity(original.model, held_out, seq_len=256, batch_size=16).value
        ours = apply("gptq_w4", own.model, batch, seed=42, progress=None).weights_sha256
    return reference, ours


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in FAST else [pytest.mark.stress]) for n in LIBRARIES],
)
def test_a_library_leaves_its_quantized_model_and_nothing_else(name, lend, texts, known):
    absent = [p for p in LIBRARIES[name].packages if environment.version(p) == "absent"]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    (batch, held_out), (reference, ours) = texts, known
    before = process_state()
    found = []
    for _ in range(1 if name == "autoround" else 2):
        # Leaving the lease checks that no tensor of the original was written.
        with lend() as lease:
            result = run(name, lease.model, batch)
            assert process_state() == before
            with using_kernel(lease.model, "held"):
                quality = perplexity(lease.model, held_out, seq_len=256, batch_size=16).value
            generated = lease.model.generate(
                batch[:1, :8], max_new_tokens=4, do_sample=False, pad_token_id=0
            )
        assert generated.shape == (1, 12)
        assert reference < quality < 1.5 * reference
        assert 1.5 < result.compression_ratio < 3.5
        assert result.size_before_bytes == 4_198_912
        assert len(result.layers) == 28
        found.append((result.weights_sha256, quality))
    assert found[0] == found[-1]
    with lend() as own:
        again = apply("gptq_w4", own.model, batch, seed=42, progress=None).weights_sha256
    assert again == ours
