"""Errors are one paragraph: what, where, what to do."""

import pytest
import torch

from benchsuite.errors import BenchsuiteError, out_of_memory
from benchsuite.printable import count


@pytest.mark.parametrize(
    ("what", "fix", "told"),
    [
        ("no folder x", "check the path", "no folder x. Check the path"),
        ("--set a.quant_bits=9 is not possible", "quant_bits is one of 2, 3", ". quant_bits is"),
        ("--set a.shift=-4 is out of range", "shift is at least -3", ". shift is at least"),
        ("it is damaged", "benchsuite verify says where", ". benchsuite verify says"),
        ("unknown model: 'gpt3'", "did you mean 'gpt2'? Known: a", ". Did you mean 'gpt2'"),
        ("unknown method: 'did'", "known: a, b", ". Known: a, b"),
        ("it lacks a study", "`study` names it", ". `study` names it"),
    ],
)
def test_a_fix_begins_with_a_capital_but_names_stay_as_they_are(what, fix, told):
    assert told in str(BenchsuiteError(what, fix=fix))


def test_the_place_stands_in_brackets():
    assert str(BenchsuiteError("it broke", "a.py", "mend it")) == "it broke (a.py). Mend it"
    assert str(BenchsuiteError("it broke")) == "it broke."


def test_a_number_of_things_is_plural_unless_it_is_one():
    assert [count(n, "cell") for n in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
    assert [count(n, "study", "studies") for n in (1, 3)] == ["1 study", "3 studies"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB"), True),
        (RuntimeError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_memory_that_is_used_up_is_told_from_other_errors(error, expected):
    assert out_of_memory(error) == expected
