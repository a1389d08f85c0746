"""ggml's block formats: against bytes that ggml made, ggml itself, and the gguf package."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchsuite.quantizers.formats.gguf_blocks import BLOCKS, decode, encode
from tests.quantizers import ggml_libraries

STORED = Path(__file__).with_name("gguf_reference.npz")
"""What build 10434 of llama.cpp made of `weight` and `importance`, by `write_reference`."""
KINDS = [kind for kind in BLOCKS if kind != "F16"]
ROWS, WIDTH = 6, 512


def scrambled(count, seed):
    """Numbers between -1 and 1 that any machine makes alike: integers, divided once."""
    state = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed)) * np.uint64(2654435761)
    state = (state ^ (state >> np.uint64(15))) * np.uint64(2246822519) % np.uint64(2**32)
    state = (state ^ (state >> np.uint64(13))) * np.uint64(3266489917) % np.uint64(2**32)
    return (state.astype(np.float64) / 2**31 - 1).astype(np.float32)


def weight():
    """Rows with a bell's middle, equal numbers, zeros, numbers of one sign, and one outlier."""
    made = scrambled(ROWS * WIDTH, 1).reshape(ROWS, WIDTH)
    made = torch.from_numpy(made) ** 3 * 0.05
    made[1, :300] = 0
    made[2, 256:] = made[2, 256:].abs() + 0.01
    made[3, 7] = 3.0
    made[4, :256] = -0.5
    made[5] = torch.round(made[5] * 100) / 64
    return made


def importance():
    """Columns that count up to a thousand times as much as others, and one that does not."""
    made = (torch.from_numpy(scrambled(WIDTH, 2)) + 1.001) ** 4
    made[7] = 0
    return made


def write_reference():
    """Write the stored bytes anew: they change with the numbers above alone."""
    found = {}
    for kind in KINDS:
        found[kind] = ggml_libraries.encoded(weight(), kind).numpy()
        found[f"{kind} weighed"] = ggml_libraries.encoded(weight(), kind, importance()).numpy()
    np.savez_compressed(STORED, **found)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_those_that_ggml_made(kind, weighed, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU found")
    expected = np.load(STORED)[f"{kind} weighed" if weighed else kind]
    columns = importance().to(device) if weighed else None
    found = encode(weight().to(device), kind, columns)
    assert torch.equal(found.cpu(), torch.from_numpy(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_those_that_ggml_makes_here(kind):
    ggml_libraries.library("ggml-base")
    generator = torch.Generator().manual_seed(len(kind))
    bell = torch.randn(64, 1024, generator=generator)
    for numbers in (bell * 0.02, bell * 1e-7, bell.bfloat16().float(), (4 * bell).round() * 0.01):
        for columns in (None, torch.rand(1024, generator=generator) ** 8, torch.zeros(1024)):
            expected = ggml_libraries.encoded(numbers, kind, columns)
            assert torch.equal(encode(numbers, kind, columns), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_that_the_gguf_package_reads(kind):
    gguf = pytest.importorskip("gguf")
    octets = encode(weight(), kind)
    expected = gguf.dequantize(octets.numpy(), gguf.GGMLQuantizationType[kind])
    assert torch.equal(decode(octets, kind), torch.from_numpy(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_an_importance_matrix_lowers_the_error_that_it_weighs(kind):
    plain, weighed = (
        ((decode(encode(weight()[:1], kind, q), kind) - weight()[:1]) ** 2 * importance()).sum()
        for q in (None, importance())
    )
    assert weighed <= plain if kind != "Q8_0" else weighed == plain


def test_half_precision_is_what_rows_of_no_multiple_of_32_become():
    numbers = weight()[:, :30]
    assert torch.equal(decode(encode(numbers, "F16"), "F16"), numbers.half().float())
