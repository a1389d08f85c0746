"""Every Triton kernel of the project, compiled for a GPU that need not be there.

    python -m tests.compiled_kernels

prints what Hopper's assembler says of each kernel as it is launched. The project's own functions
are called with tensors on the CPU; a launch is caught, and its kernel is compiled for those
arguments as Triton would on the GPU. Nothing runs.
"""

import inspect
import re
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from benchsuite.decoding import slot_kernel
from benchsuite.latent import loss_kernels, training_kernels
from benchsuite.models import fused_kernels
from benchsuite.quantizers import (
    fp4_gptq_kernel,
    gptq_kernel,
    grid_kernel,
    hqq_kernel,
    signround_kernel,
    sparsegpt_kernel,
)
from benchsuite.quantizers.formats import (
    few_tokens,
    fp4_few_tokens,
    fp8_few_tokens,
    int8_few_tokens,
    rounding_kernels,
)
from benchsuite.quantizers.formats.fp8_linear import SCHEMES

MODULES = (
    few_tokens,
    fp4_few_tokens,
    fp8_few_tokens,
    int8_few_tokens,
    rounding_kernels,
    gptq_kernel,
    fp4_gptq_kernel,
    grid_kernel,
    hqq_kernel,
    signround_kernel,
    sparsegpt_kernel,
    slot_kernel,
    fused_kernels,
    training_kernels,
    loss_kernels,
)
HOPPER = GPUTarget("cuda", 90, 32)
TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.uint8: "*u8",
    torch.int8: "*i8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


@dataclass(frozen=True)
class Compiled:
    """A kernel as it was launched; registers of a thread, bytes of spills and of shared memory."""

    name: str
    case: str
    ptx: str
    cubin: bytes
    options: dict
    registers: int
    spilled: int
    shared: int


def kernels():
    """The project's kernels by their modules' and their own names."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": found
        for module in MODULES
        for name, found in vars(module).items()
        if name.endswith("_kernel") and isinstance(found, JITFunction)
    }


def compiled(kernel, arguments, options, case=""):
    """Compile one launch: whole multiples of 16 and ones are known to Triton, as on a GPU."""
    names = list(inspect.signature(kernel.fn).parameters)
    values = dict(zip(names, arguments, strict=False)) | {
        n: options[n] for n in names[len(arguments) :]
    }
    signature, constants, attributes = {}, {}, {}
    for place, name in enumerate(names):
        value = values[name]
        if name in options or (isinstance(value, int) and value == 1):
            signature[name], constants[(place,)] = "constexpr", value
        elif torch.is_tensor(value):
            signature[name] = TYPES[value.dtype]
            attributes[(place,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
            if isinstance(value, int) and value % 16 == 0:
                attributes[(place,)] = [["tt.divisibility", 16]]
    told = {name: value for name, value in options.items() if name not in names}
    source = ASTSource(kernel, signature, constants, attributes)
    made = triton.compile(source, target=HOPPER, options=told)
    registers, spilled = assembled(made.asm["ptx"], told.get("enable_fp_fusion", True))
    return Compiled(
        f"{kernel.fn.__module__.rpartition('.')[2]}.{kernel.fn.__name__}",
        case,
        made.asm["ptx"],
        made.asm["cubin"],
        told,
        registers,
        spilled,
        made.metadata.shared,
    )


def assembled(ptx, fused):
    """What the assembler says: registers of a thread, and bytes that it spills."""
    assembler = triton.knobs.nvidia.ptxas.path
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "kernel.ptx")
        text.write_text(ptx)
        command = [assembler, "-v", "--gpu-name=sm_90a", str(text), "-o", str(text) + ".o"]
        command += [] if fused else ["--fmad=false"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", said)
    return int(re.search(r"Used (\d+) registers", said)[1]), sum(map(int, spilled.groups()))


@contextmanager
def catching(found, case):
    """Compile what is launched inside, instead of running it."""

    def run(self, *arguments, grid, warmup, **options):
        found.append(compiled(self, arguments, options, case))

    before, JITFunction.run = JITFunction.run, run
    try:
        yield
    finally:
        JITFunction.run = before


def launches():
    """(case, what launches a kernel) of each way in which the project launches one."""
    yield from loops()
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        yield from roundings(dtype)
        for group, g in ((16, torch.ones(1)), (32, None)):
            yield from fp4_products(dtype, group, g)
        yield from fp8_products(dtype)
    yield from integer_products()
    yield from forwards()
    yield from trainings()


def octets(*shape):
    return torch.zeros(shape, dtype=torch.uint8)


def loops():
    """GPTQ's, on integer and on FP4 grids, GPTAQ's and SparseGPT's; HQQ's solver, SignRound."""
    cases = (
        (gptq_kernel, 128, False),
        (gptq_kernel, 128, True),
        (gptq_kernel, 32, False),
        (fp4_gptq_kernel, 16, False),
        (fp4_gptq_kernel, 32, False),
        (fp4_gptq_kernel, 128, True),
    )
    for module, width, static in cases:
        scale = torch.ones(width, 512) if static else torch.ones(512)
        given = (torch.zeros(width, 512), torch.zeros(width, width), scale, scale, 15)
        told = f"{width} columns{', static' if static else ''}"
        yield told, partial(module.quantize_block, *given)
    block, square, scale = torch.zeros(128, 512), torch.zeros(128, 128), torch.ones(512)
    drifted = gptq_kernel.quantize_drifted_block
    yield "128 drifted columns", partial(drifted, block, square, square, scale, scale, 15)
    yield "128 columns to prune", partial(sparsegpt_kernel.prune_block, block, square)
    limits = {"max_code": 15, "smallest": 2.0**-24, "norm": 2.4}
    for sym in (True, False):
        given = (torch.zeros(128, 512).t(), torch.zeros(512), torch.zeros(512), torch.ones(80))
        told = f"a group of 128{'' if sym else ', zeros'}"
        yield told, partial(grid_kernel.best_range, *given, sym=sym, **limits)
    for width, g in ((16, torch.ones(512)), (32, None)):
        yield f"{width} columns", partial(fp4_gptq_kernel.fit, torch.zeros(width, 512), g)
    solver = {"norm": 0.7, "beta": 10.0, "kappa": 1.01, "iterations": 20}
    for width, dtype in ((64, torch.bfloat16), (64, torch.float32), (8192, torch.bfloat16)):
        groups, each = torch.zeros(512, width, dtype=dtype), torch.ones(512, 1)
        told = f"groups of {width}, {str(dtype).removeprefix('torch.')}"
        yield told, partial(hqq_kernel.fit_zeros, groups, each, each, 15, **solver)
        yield told, partial(hqq_kernel.encode, groups, each, each, 15)
    yield from learned_roundings()


def learned_roundings():
    """SignRound's, forward, backward and its step."""
    for dtype, width in ((torch.bfloat16, 128), (torch.float16, 32), (torch.float32, 4096)):
        weight, offset = torch.zeros(64, 4096, dtype=dtype), torch.zeros(64, 4096)
        scale = torch.ones(64, 4096 // width)
        told = f"groups of {width}, {str(dtype).removeprefix('torch.')}"
        given = (weight, offset.requires_grad_(), scale, scale)

        def both_ways(given=given, width=width, weight=weight):
            out = signround_kernel.rounded(*given, width=width, max_code=15)
            torch.autograd.grad(out, given[1], weight)

        yield told, both_ways
    better, each = torch.ones(1, dtype=torch.bool), torch.zeros(64, 128)
    yield "a step", partial(signround_kernel.move, each, each, each, better, each[0], -0.5, 0.5)


def roundings(dtype):
    """Of inputs to E4M3 and E2M1."""
    name, wide = str(dtype).removeprefix("torch."), torch.zeros(3, 14336, dtype=dtype)
    x = wide[:, :4096].contiguous()
    yield f"per token, {name}", partial(rounding_kernels.round_tokens, x)
    many = wide[:1].expand(64, -1)
    yield f"per token of 14336, {name}", partial(rounding_kernels.round_tokens, wide)
    yield f"64 tokens of 14336, {name}", partial(rounding_kernels.round_tokens, many)
    yield f"blocks, {name}", partial(rounding_kernels.round_groups, x, 128, 4)
    yield f"fixed, {name}", partial(rounding_kernels.round_fixed, x, torch.ones(1))
    for group, g in ((16, torch.ones(1)), (32, None)):
        yield f"groups of {group}, {name}", partial(rounding_kernels.rounded_e2m1, x, g, group)


def fp4_products(dtype, group, g):
    """Of FP4 weights."""
    for n in (640, 4096):
        told = f"groups of {group}, {n} columns, {str(dtype).removeprefix('torch.')}"
        weight = (octets(64, n // 2), octets(64, n // group), g, group)
        for tokens in (1, 2, 8):
            x = torch.zeros(tokens, n, dtype=dtype)
            yield f"{told}, {tokens} tokens", partial(fp4_few_tokens.product, x, *weight)
        yield told, partial(fp4_few_tokens.unpacked, *weight, n_columns=n, dtype=dtype)


def fp8_products(dtype):
    """Of E4M3 weights, with a scale a tensor, a row and a block."""
    name, n = str(dtype).removeprefix("torch."), 4096
    for scheme in SCHEMES:
        shape = {"static": (1,), "dynamic": (256, 1), "block": (2, n // 128)}[scheme]
        for tokens in (1, 2, 8):
            codes = octets(tokens, n)
            shared = {"static": (1,), "dynamic": (tokens, 1), "block": (tokens, n // 128)}[scheme]
            weight = (octets(256, n), torch.ones(shape), torch.zeros(256, dtype=dtype))
            given = (codes, torch.ones(shared), *weight)
            how = {"n_tokens": tokens, "scheme": scheme, "dtype": dtype}
            told = f"{scheme}, {tokens} tokens, {name}"
            yield told, partial(fp8_few_tokens.product, *given, **how)


def integer_products():
    """Of packed integers, and W8A8's."""
    x, scales = torch.zeros(1, 4096, dtype=torch.float16), torch.zeros(64, 32).half()
    order = torch.zeros(4096, dtype=torch.int32)
    for bits, zeros, groups in (
        (4, None, None),
        (4, octets(64, 32), None),
        (8, None, None),
        (3, None, None),
        (4, octets(64, 32), order),
    ):
        given = (octets(64, 512 * bits), scales, zeros, groups)
        grid = {"bits": bits, "group_size": 128}
        told = f"{bits} bits{', zeros' if zeros is not None else ''}"
        told += ", act order" if groups is not None else ""
        for tokens in (1, 2, 8):
            few = x.expand(tokens, -1)
            yield f"{told}, {tokens} tokens", partial(few_tokens.product, few, *given, **grid)
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            unpacked = {"n_columns": 4096, "dtype": dtype}
            yield told, partial(few_tokens.unpacked, *given, **grid, **unpacked)
    wide = (octets(2048, 2048), torch.zeros(2048, 32).half(), None, None)
    for tokens in (1, 4):
        given = partial(few_tokens.product, x.expand(tokens, -1), *wide, bits=4, group_size=128)
        yield f"4 bits, 2048 rows, {tokens} tokens", given
    whole = torch.zeros(64, 4096, dtype=torch.int8)
    yield "W8A8's inputs", partial(int8_few_tokens.round_tokens, x)
    codes, one = whole[:1], torch.ones(1, 1)
    product = partial(int8_few_tokens.integer_product, codes, one, whole, scales[:, :1], None)
    yield "W8A8", partial(product, dtype=x.dtype)


def forwards():
    """Attention of a new token, and a block's element-wise chains."""
    for softcap in (None, 50.0):
        for rows, length in ((64, 1024), (1, 8192)):
            q, kv = torch.zeros(rows, 32, 128).half(), torch.zeros(rows, 8, 128).half()
            cache = torch.zeros(rows, 8, length, 128).half()
            given = (q, kv, kv, cache, cache, torch.zeros(rows, dtype=torch.int64))
            told = f"{rows} rows{', capped' if softcap else ''}"
            how = {"scaling": 0.1, "softcap": softcap}
            yield told, partial(slot_kernel.attend, *given, **how)
            prefix = (torch.zeros(8, 512, 128).half(),) * 2
            yield f"{told}, a prefix", partial(slot_kernel.attend, *given, **how, prefix=prefix)
    x = torch.zeros(2, 8, 16, 128, dtype=torch.bfloat16)
    angles = torch.zeros(1, 16, 128, dtype=torch.bfloat16)
    yield "bfloat16", partial(fused_kernels.rms_norm, x, x[0, 0, 0], 1e-6)
    yield "bfloat16", partial(fused_kernels.rotate, x, x, angles, angles)
    yield "bfloat16", partial(fused_kernels.gated, x, x)


def trainings():
    """Half a block each way at Llama-3.2-1B's widths and others, and the loss of its logits."""
    of = training_kernels
    how = of.Dropout.of(torch.zeros(1, dtype=torch.int64), 0.1, 0.25)
    for width, dtype in ((2048, torch.bfloat16), (896, torch.bfloat16), (32, torch.float32)):
        x, name = torch.zeros(16, width, dtype=dtype), str(dtype).removeprefix("torch.")
        for n, added in ((3, None), (3, x), (2, x), (0, x)):
            told = f"{name}, {width} columns, {n} copies{', a sum' if added is not None else ''}"
            yield told, partial(of.normed, x, added, x[0], 1e-5, how, 7, n)
            several = torch.zeros(n, *x.shape, dtype=dtype)
            given = (x, several, x, x[0], x if n else None)
            yield told, partial(of.normed_backward, *given, 1e-5, how, 7)
    x = torch.zeros(16, 8192, dtype=torch.bfloat16)
    for added in (None, x):
        told = "bfloat16" + (", a sum" if added is not None else "")
        yield told, partial(of.dropped, x, how, 7, added)
    yield "bfloat16", partial(of.gated, x, x, how, 7)
    yield "bfloat16", partial(of.gated_backward, x, x, x, x, how, 7)
    for dtype in (torch.bfloat16, torch.float32):
        logits, targets = torch.zeros(3, 128256, dtype=dtype), torch.zeros(3, dtype=torch.int64)
        name, each = str(dtype).removeprefix("torch."), torch.zeros(3)
        yield name, partial(loss_kernels.nll, logits, targets)
        yield name, partial(loss_kernels.nll_backward, logits, targets, each, each)


def all_compiled():
    """Every launch of every kernel, compiled."""
    found: list[Compiled] = []
    for case, launch in launches():
        with catching(found, case):
            launch()
    return found


def main():
    """Print a row a kernel."""
    print("| kernel | launched for | warps | registers | spilled | shared |")
    print("|---|---|---|---|---|---|")
    for one in all_compiled():
        warps = one.options.get("num_warps", 4)
        numbers = f"{warps} | {one.registers} | {one.spilled} | {one.shared}"
        print(f"| {one.name} | {one.case} | {numbers} |")


if __name__ == "__main__":
    main()
