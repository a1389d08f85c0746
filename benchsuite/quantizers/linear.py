"""A linear layer whose weight is packed integers."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchsuite.errors import UsageError
from benchsuite.quantizers.formats.last_rounded import RoundsInputs
from benchsuite.quantizers.formats.packing import pack, unpack
from benchsuite.quantizers.formats.stacked import stacked_weights
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.hashing import hash_tensor

KERNELS = ("dequantize", "held", "int4_cpu", "triton")
"""How a QuantizedLinear multiplies: see ``QuantizedLinear.use``."""

FEW_TOKENS = 4
"""Up to here a product reads packed codes, once for all tokens. Eight tokens would read them twice:
an H100 takes 1.3 to 2 times as long for that as to unpack the weight and multiply by it whole."""

LARGE = 2**23
"""Weights of a layer that a few tokens take longer to multiply than Python to launch. 128 layers of
1.6 million for 16 tokens took an H200 30 ms one by one and 3 ms unpacked at once. Where above them
the turn lies was not measured."""
HASHING_THREADS = 16
"""At most: with more, four workers of one host take each other's processors."""


class QuantizedLinear(nn.Module, RoundsInputs):
    """``y = x W^T + b`` with ``W[r, c] = scale[r, g] * (code[r, c] - zero[r, g])``, g = g_idx[c].

    Buffers: ``packed`` uint8 [out, packed bytes], ``scales`` [out, groups], ``packed_zeros`` uint8
    [groups, packed bytes] (None on a symmetric grid, whose zero is 2^(bits-1)), ``free_zeros``
    [out, groups] instead where zero points are not integers (HQQ), ``g_idx`` int32 [in] (None where
    column c belongs to group c // group_size). ``dtype`` is that of the weight it replaces:
    dequantized weights and outputs have it.
    """

    # What `use` makes of the buffers: a replica makes its own, which is faster than moving it.
    REMADE = ("_operand", "_operand_parameters")
    rounds_inputs = False

    packed: Tensor
    scales: Tensor
    packed_zeros: Tensor | None
    free_zeros: Tensor | None
    g_idx: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        codes: Tensor,
        scales: Tensor,
        zeros: Tensor | None,
        *,
        bits: int,
        group_size: int,
        bias: Tensor | None = None,
        g_idx: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        free_zeros: bool = False,
    ) -> None:
        """Pack ``codes`` uint8 [out, in] and ``zeros`` [out, groups] (None: symmetric).

        ``free_zeros`` stores the zero points as the floating-point numbers they are.
        """
        super().__init__()
        self.out_features, self.in_features = codes.shape
        self.bits, self.dtype = bits, dtype
        self.group_size = self.in_features if group_size == -1 else group_size
        self.kernel = "dequantize"
        self.register_buffer("packed", pack(codes, bits))
        self.register_buffer("scales", scales)
        free, integers = (zeros, None) if free_zeros else (None, zeros)
        packed_zeros = None if integers is None else pack(integers.t().to(torch.uint8), bits)
        self.register_buffer("packed_zeros", packed_zeros)
        self.register_buffer("free_zeros", free)
        self.register_buffer("g_idx", None if g_idx is None else g_idx.to(torch.int32))
        # The bias is the original's own tensor, shared with other trees and never written.
        self.register_buffer("bias", None if bias is None else bias.detach())
        self._operand: Tensor | None = None
        self._operand_parameters: Tensor | None = None

    @property
    def sym(self) -> bool:
        """Whether the grid is symmetric: all zero points are 2^(bits-1)."""
        return self.packed_zeros is None and self.free_zeros is None

    @property
    def codes(self) -> Tensor:
        """The integers, uint8 [out, in]."""
        return unpack(self.packed, self.bits, self.in_features)

    @property
    def zeros(self) -> Tensor:
        """The zero points [out, groups]: uint8, or floating point where they are free."""
        if self.free_zeros is not None:
            return self.free_zeros
        if self.packed_zeros is None:
            return torch.full_like(self.scales, 2 ** (self.bits - 1), dtype=torch.uint8)
        return unpack(self.packed_zeros, self.bits, self.out_features).t()

    @property
    def packed_bytes(self) -> int:
        """Bytes of everything stored in place of the weight: codes, scales, zeros, g_idx."""
        stored = (self.packed, self.scales, self.packed_zeros, self.free_zeros, self.g_idx)
        return sum(t.numel() * t.element_size() for t in stored if t is not None)

    @property
    def digest(self) -> str:
        """Hex sha256 of codes, scales, zeros and groups, equal on any device for equal values.

        Zeros that are all 2^(bits-1) and groups in the columns' own order say what None says, so
        they have the digest of None.
        """
        sha = hashlib.sha256(repr((self.bits, self.group_size, *self.packed.shape)).encode())
        told = {
            "packed": self.packed,
            "scales": self.scales.float(),
            "packed_zeros": self._telling_zeros(),
            "free_zeros": None if self.free_zeros is None else self.free_zeros.float(),
            "g_idx": self._telling_groups(),
        }
        for name, tensor in told.items():
            if tensor is not None:
                sha.update(f"{name}{tuple(tensor.shape)}".encode())
                hash_tensor(sha, tensor)
        return sha.hexdigest()

    def _telling_zeros(self) -> Tensor | None:
        middle = 2 ** (self.bits - 1)
        packed = self.packed_zeros
        return None if packed is None or bool((self.zeros == middle).all()) else packed

    def _telling_groups(self) -> Tensor | None:
        if self.g_idx is None:
            return None
        columns = torch.arange(self.in_features, device=self.g_idx.device)
        plain = torch.equal(self.g_idx, (columns // self.group_size).to(self.g_idx.dtype))
        return None if plain else self.g_idx

    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return the weight [out, in] in ``dtype`` (default: the replaced weight's).

        On CUDA one kernel makes it, where Triton is, to the bits of `plainly_dequantized`.
        """
        if self.packed.is_cuda and find_spec("triton"):
            zeros = None if self.sym else self.zeros.contiguous()
            return self._unpacked(zeros, dtype or self.dtype)
        return self.plainly_dequantized(dtype)

    def plainly_dequantized(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return the weight [out, in] by PyTorch's own operations, a dozen passes over it."""
        columns = self._column_groups()
        zeros = 2 ** (self.bits - 1) if self.sym else self._spread(self.zeros.float(), columns)
        weight = (self.codes.float() - zeros) * self._spread(self.scales.float(), columns)
        return weight.to(dtype or self.dtype)

    def _unpacked(self, zeros: Tensor | None, dtype: torch.dtype) -> Tensor:
        from benchsuite.quantizers.formats import few_tokens

        return few_tokens.unpacked(
            self.packed,
            self.scales,
            zeros,
            self.g_idx,
            bits=self.bits,
            group_size=self.group_size,
            n_columns=self.in_features,
            dtype=dtype,
        )

    def _column_groups(self) -> Tensor | None:
        return None if self.g_idx is None else self.g_idx.long()

    def _spread(self, parameters: Tensor, columns: Tensor | None) -> Tensor:
        if columns is not None:
            return parameters[:, columns]
        if parameters.shape[1] == 1:
            return parameters
        return parameters.repeat_interleave(self.group_size, 1)[:, : self.in_features]

    def use(self, kernel: str) -> "QuantizedLinear":
        """Choose how ``forward`` multiplies, and return self.

        ``dequantize`` rebuilds the weight in every call: memory stays that of the packed model.
        ``held`` keeps the dequantized weight from its first use until another choice: fastest for
        large batches, at the memory of the original. ``int4_cpu`` runs PyTorch's own 4-bit kernel
        (symmetric or not, group size 32, 64, 128 or 256, no g_idx): fastest for a few tokens in
        bfloat16 on a CPU. ``triton`` reads the packed codes of any layer on CUDA for up to
        `FEW_TOKENS` at once, and rebuilds the weight, in one kernel, for more: fastest for
        generating. Raises ``UsageError`` for an unknown kernel.
        """
        if kernel not in KERNELS:
            raise UsageError(f"unknown kernel {kernel!r}", fix=f"Known: {', '.join(KERNELS)}")
        self._operand = self._operand_parameters = None
        if kernel == "triton":
            self._check_triton()
            # Unpacked once: they lie the other way round, and are 1 / group_size of the weight.
            self._operand_parameters = None if self.sym else self.zeros.contiguous()
        elif kernel == "int4_cpu":
            self._operand = self._int4_operand()
            self._operand_parameters = self._int4_parameters()
        self.kernel = kernel
        return self

    def remake(self) -> None:
        """Make what the chosen kernel keeps anew, of the buffers that are here now."""
        self.use(self.kernel)

    def fastest_for_few_tokens(self) -> str:
        """Return the kernel to generate with where the layer lies; memory stays the packed one."""
        if self.packed.is_cuda and find_spec("triton"):
            return "triton"
        on_cpu = self.packed.device.type == "cpu" and self.dtype == torch.bfloat16
        return "int4_cpu" if on_cpu and self._fits_int4_cpu() else "dequantize"

    def _check_triton(self) -> None:
        if not find_spec("triton"):
            raise UsageError(
                "kernel 'triton' needs the package triton, which PyTorch for CUDA brings along",
                fix="use kernel 'dequantize' or 'held'",
            )

    def _fits_int4_cpu(self) -> bool:
        fits = self.bits == 4 and self.g_idx is None and self.packed.device.type == "cpu"
        fits = fits and self.group_size in (32, 64, 128, 256)
        return fits and self.in_features % self.group_size == 0 and self.out_features % 16 == 0

    def _int4_operand(self) -> Tensor:
        if not self._fits_int4_cpu():
            raise UsageError(
                f"PyTorch's int4 CPU kernel takes 4-bit weights with group size 32 to 256 and no "
                f"act order, not {self.extra_repr()}",
                fix="use kernel 'dequantize' or 'held'",
            )
        return torch.ops.aten._convert_weight_to_int4pack_for_cpu(self.codes.int(), 1)

    def _int4_parameters(self) -> Tensor:
        # The kernel computes scale * (code - 8) + offset, groups first.
        scales = self.scales.float()
        offset = (8 - self.zeros.float()) * scales
        return torch.stack((scales.t(), offset.t()), -1).to(self.dtype).contiguous()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [..., out] for inputs [..., in]."""
        if self.kernel == "int4_cpu":
            flat = inputs.reshape(-1, self.in_features)
            outputs = torch.ops.aten._weight_int4pack_mm_for_cpu(
                flat, self._operand, self.group_size, self._operand_parameters
            )
            return self._finished(outputs, inputs)
        return self._by_triton(inputs) if self.kernel == "triton" else self._by_weight(inputs)

    def _by_weight(self, inputs: Tensor) -> Tensor:
        """Multiply by the weight itself: held from the first use on, or rebuilt in every call."""
        if self.kernel == "held" and self._operand is None:
            self._operand = self.dequantize()
        weight = self._operand
        if weight is None or weight.dtype != inputs.dtype:
            weight = self.dequantize(inputs.dtype)
        return F.linear(inputs, weight, self.bias)

    def _finished(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return products [tokens, out] in the shape of ``inputs`` [..., in], with the bias."""
        outputs = outputs.reshape(*inputs.shape[:-1], self.out_features)
        return outputs if self.bias is None else outputs + self.bias

    @staticmethod
    def stacked(layers: "Sequence[QuantizedLinear]", inputs: Tensor) -> Tensor | None:
        """Return the weights [layers, out, in] that layers of one class multiply inputs [n, in] by.

        None where they round inputs or are not alike, and where reading packed codes is faster: of
        large layers, for a few tokens each. Of small ones a launch each takes longer than all.
        """
        first = layers[0]
        few = first.kernel == "triton" and len(inputs) <= FEW_TOKENS * len(layers)
        few = few and first.in_features * first.out_features >= LARGE
        rounded = any(layer.rounds_inputs for layer in layers)
        return None if few or rounded else stacked_weights(layers, inputs.dtype)

    def _by_triton(self, inputs: Tensor) -> Tensor:
        from benchsuite.quantizers.formats import few_tokens

        if inputs.numel() > FEW_TOKENS * self.in_features:
            weight = self._unpacked(self._operand_parameters, inputs.dtype)
            return F.linear(inputs, weight, self.bias)
        outputs = few_tokens.product(
            inputs.reshape(-1, self.in_features),
            self.packed,
            self.scales,
            self._operand_parameters,
            self.g_idx,
            bits=self.bits,
            group_size=self.group_size,
        )
        return self._finished(outputs, inputs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantizedLinear":
        """Move like any module, but keep the dtype of stored scales and zeros."""
        scales, zeros = self.scales, self.free_zeros
        super()._apply(fn, recurse)
        if self.scales.dtype != scales.dtype:
            self.scales = scales.to(self.scales.device)
            self.free_zeros = None if zeros is None else zeros.to(self.scales.device)
        return self.use(self.kernel)

    def extra_repr(self) -> str:
        """Return the shape and grid, for the module's repr."""
        order = "" if self.g_idx is None else ", act order"
        return (
            f"in={self.in_features}, out={self.out_features}, bits={self.bits}, "
            f"group_size={self.group_size}, sym={self.sym}{order}"
        )


def quantized_linear(
    linear: nn.Linear,
    grid: QuantizationGrid,
    codes: Tensor,
    scales: Tensor,
    zeros: Tensor,
    g_idx: Tensor | None = None,
    bias: Tensor | None = None,
) -> QuantizedLinear:
    """Return the layer that replaces ``linear``, sharing its bias unless another one is given.

    ``codes`` are uint8 [out, in], ``scales`` and ``zeros`` [out, groups] of ``grid``.
    """
    return QuantizedLinear(
        codes,
        scales.to(grid.scale_dtype),
        None if grid.sym else zeros,
        bits=grid.bits,
        group_size=grid.group_size,
        bias=linear.bias if bias is None else bias,
        g_idx=g_idx,
        dtype=linear.weight.dtype,
    )


def quantized_linears(model: nn.Module) -> dict[str, QuantizedLinear]:
    """Return the model's quantized linears by their paths."""
    return {n: m for n, m in model.named_modules() if isinstance(m, QuantizedLinear)}


def stored_bytes(model: nn.Module) -> int:
    """Return the bytes of the model's state: parameters and saved buffers, tied ones once."""
    tensors = model.state_dict(keep_vars=True).values()
    unique = {
        id(t) if t.is_meta else (t.data_ptr(), t.shape, t.dtype): t for t in tensors if t.numel()
    }
    return sum(t.numel() * t.element_size() for t in unique.values())


def widened_bytes(model: nn.Module, dtype: str) -> int:
    """Return the bytes of a model's state that are there because it runs wider than it is stored.

    ``dtype`` is the one that its floating-point tensors are stored in, ``bfloat16`` for one. Tied
    tensors count once.
    """
    stored = getattr(torch, dtype).itemsize
    tensors = model.state_dict(keep_vars=True).values()
    floats = [t for t in tensors if t.numel() and t.is_floating_point()]
    unique = {(t.data_ptr(), t.shape, t.dtype): t for t in floats}
    return sum(t.numel() * max(0, t.element_size() - stored) for t in unique.values())


def model_digest(model: nn.Module) -> str:
    """Return the hex sha256 over the names and digests of the model's quantized linears."""
    linears = sorted(quantized_linears(model).items())
    # Hashing releases the interpreter lock, but on a CPU the cell's own threads are all it may use.
    # The blocks of a streamed model lie in host memory, whatever it runs on.
    on_gpu = any(tensor.is_cuda for tensor in model.parameters())
    threads = min(HASHING_THREADS, len(os.sched_getaffinity(0))) if on_gpu else 1
    with ThreadPoolExecutor(threads) as pool:
        digests = pool.map(lambda item: item[1].digest, linears)
    lines = (f"{name} {digest}\n" for (name, _), digest in zip(linears, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
