"""Layers whose weight is in one of ggml's block formats, byte by byte as a GGUF file has it.

They compute with the numbers that the bytes stand for. How fast llama.cpp multiplies such blocks,
and that it rounds what they are multiplied by to 8 bits, is its own.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.quantizers.formats.gguf_blocks import BLOCKS, decode
from benchsuite.quantizers.hashing import hash_tensor
from benchsuite.quantizers.linear import QuantizedLinear


class GgufLinear(QuantizedLinear):
    """``y = x W^T + b``, W in the type ``kind`` of `gguf_blocks.BLOCKS`.

    Buffer ``packed`` uint8 [out, bytes of a row].
    """

    def __init__(
        self, octets: Tensor, kind: str, *, bias: Tensor | None = None, dtype: torch.dtype
    ) -> None:
        """Take the rows' bytes, uint8 [out, bytes]; ``dtype`` is the replaced weight's."""
        nn.Module.__init__(self)
        block = BLOCKS[kind]
        self.kind, self.dtype, self.kernel = kind, dtype, "dequantize"
        self.out_features = len(octets)
        self.in_features = octets.shape[1] // block.n_bytes * block.size
        self.bits, self.group_size = int(block.bits), block.size
        self.register_buffer("packed", octets)
        self.register_buffer("bias", None if bias is None else bias.detach())
        self._operand: Tensor | None = None
        self._operand_parameters: Tensor | None = None

    @property
    def packed_bytes(self) -> int:
        """Bytes of the blocks."""
        return self.packed.numel()

    @property
    def digest(self) -> str:
        """Hex sha256 of type and bytes."""
        sha = hashlib.sha256(repr((self.kind, *self.packed.shape)).encode())
        hash_tensor(sha, self.packed)
        return sha.hexdigest()

    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return the weight [out, in] in ``dtype`` (default: the replaced weight's)."""
        return decode(self.packed, self.kind).to(dtype or self.dtype)

    def use(self, kernel: str) -> "GgufLinear":
        """Choose ``dequantize``, which rebuilds the weight in every call, or ``held``.

        Raises ``UsageError`` for another.
        """
        if kernel not in ("dequantize", "held"):
            raise UsageError(f"a layer of ggml's blocks has no kernel {kernel!r}")
        self._operand, self.kernel = None, kernel
        return self

    def fastest_for_few_tokens(self) -> str:
        """Return ``held``: the weight as it is multiplied, at the memory of the original."""
        return "held"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "GgufLinear":
        """Move and convert like any module: bytes stay bytes."""
        nn.Module._apply(self, fn, recurse)
        return self.use(self.kernel)  # type: ignore[return-value]

    def extra_repr(self) -> str:
        """Return the shape and type, for the module's repr."""
        return f"in={self.in_features}, out={self.out_features}, {self.kind}"


class GgufEmbedding(nn.Module):
    """A table of embeddings in one of ggml's types; only rows that are asked for are decoded.

    ``packed`` uint8 [rows, bytes] may be that of the head. ``factor`` multiplies them, as Gemma
    does.
    """

    packed: Tensor
    factor: Tensor | None

    def __init__(self, octets: Tensor, kind: str, table: nn.Embedding) -> None:
        """Take the place of ``table``, whose rows' bytes are uint8 [rows, bytes]."""
        super().__init__()
        self.kind, self.dtype = kind, table.weight.dtype
        self.num_embeddings, self.embedding_dim = table.weight.shape
        self.register_buffer("packed", octets)
        factor = getattr(table, "embed_scale", None)
        self.register_buffer("factor", None if factor is None else torch.as_tensor(factor))

    def forward(self, ids: Tensor) -> Tensor:
        """Return [..., width] for ids int64 [...], in the replaced table's dtype."""
        rows = self.packed[ids.flatten()]
        numbers = decode(rows, self.kind).to(self.dtype).view(*ids.shape, -1)
        return numbers if self.factor is None else numbers * self.factor.to(numbers.dtype)

    def extra_repr(self) -> str:
        """Return the shape and type, for the module's repr."""
        return f"{self.num_embeddings}, {self.embedding_dim}, {self.kind}"
