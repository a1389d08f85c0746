"""What can be known of the Triton kernels without a GPU, wherever Triton is installed."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

pytestmark = pytest.mark.skipif(
    not find_spec("triton") or INTERPRETED, reason="needs Triton, not its interpreter"
)

# Their bits are those of plain operations: nothing may be fused, approximated or flushed to zero.
EXACT = (
    *("gptq_kernel._block_kernel", "fp4_gptq_kernel", "sparsegpt_kernel"),
    *("rounding_kernels", "_unpacking_kernel", "hqq_kernel._encode_kernel", "signround_kernel"),
)
INEXACT = re.compile(r"\b(fma|mad)\.\S*f32|\bdiv\.(full|approx)|\brcp\.|\.ftz\b")


@pytest.fixture(scope="module")
def found():
    from tests.compiled_kernels import all_compiled

    return all_compiled()


def test_every_kernel_compiles_for_hopper_as_it_is_launched(found):
    from tests.compiled_kernels import kernels

    assert {one.name for one in found} == set(kernels())
    for one in found:
        assert one.cubin.startswith(b"\x7fELF")


def test_none_needs_more_registers_or_shared_memory_than_there_are(found):
    for one in found:
        assert one.spilled == 0, f"{one.name} for {one.case} spills {one.spilled} bytes"
        assert one.shared <= 227 * 1024, f"{one.name} for {one.case}"


def test_what_has_the_bits_of_plain_operations_computes_as_they_do(found):
    exact = [one for one in found if any(name in one.name for name in EXACT)]
    assert len(exact) > 20
    for one in exact:
        if not one.name.startswith("few_tokens"):
            assert one.options["enable_fp_fusion"] is False, one.name
        inexact = INEXACT.search(one.ptx)
        assert not inexact, f"{one.name} for {one.case}: {inexact}"


def test_packed_weights_are_read_sixteen_bytes_at_once(found):
    products = [
        one
        for one in found
        if one.name.startswith(("fp4_few_tokens._product", "fp8_few_tokens._product"))
    ]
    assert len({one.name for one in products}) == 2
    for one in products:
        assert "ld.global.v4.b32" in one.ptx, one.case


def test_weights_of_whole_groups_stay_in_the_thread_that_read_their_word(found):
    products = [one for one in found if one.name == "few_tokens._grouped_kernel"]
    assert products
    for one in products:
        loop = one.ptx[: one.ptx.rindex("bra")]
        assert "ld.global.v4.b32" in loop, one.case  # eight inputs
        assert "bar.sync" not in loop, one.case
        zeros = re.findall(r"cvt\.rn\.f32\.[su]", loop)  # of a word for each row, and no code
        assert bool(zeros) == ("zeros" in one.case), one.case
        assert len(zeros) <= 4, one.case


def test_e4m3_codes_pass_through_subnormal_numbers_that_nothing_makes_zero(found):
    products = [one for one in found if one.name.startswith("fp8_few_tokens")]
    assert products
    for one in products:
        assert one.options["enable_fp_fusion"] is False, one.case
        assert ".ftz" not in one.ptx, one.case


@pytest.mark.stress
def test_kernels_give_the_numbers_of_plain_operations_when_they_are_interpreted():
    """Their own tests, by Triton's interpreter on the CPU: a process that starts with it."""
    names = ("formats/test_rounding_kernels", "formats/test_fp4_few_tokens")
    names += ("formats/test_fp8_few_tokens", "test_grid_kernel", "test_hqq_kernel")
    names += ("formats/test_few_tokens", "test_fp4_gptq_kernel", "test_gptq_kernel")
    names += ("test_signround_kernel",)
    files = [f"tests/quantizers/{name}.py" for name in names] + ["tests/latent/test_fused.py"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-W", "ignore", *files],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) > 200
