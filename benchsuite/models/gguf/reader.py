"""A GGUF file's metadata and tensors: the header is read here, the ``gguf`` package dequantizes.

The format (github.com/ggml-org/ggml/blob/master/docs/gguf.md): magic, version, counts, typed
key-value pairs, tensor descriptions, then the data at aligned offsets, all little-endian. The
package's own reader makes an array of every string, which takes many seconds for a vocabulary.
"""

import mmap
import struct
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchsuite.corpora.pointers import refuse_pointer
from benchsuite.errors import BenchsuiteError, CellCannotRun

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
# How many dimensions the format allows; a larger number is a damaged header.
_MAX_DIMENSIONS = 4


@dataclass(frozen=True)
class Tensor:
    """One tensor of the file.

    ``kind`` is the name of its type in the ``gguf`` package; ``shape`` has the outermost dimension
    first, as torch does; ``offset`` and ``n_bytes`` say where its data are in the file.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int

    @property
    def n_elements(self) -> int:
        """Return how many numbers it holds."""
        count = 1
        for length in self.shape:
            count *= length
        return count


class Gguf:
    """An open GGUF file: ``metadata`` by key, ``tensors`` by name, and the tensors' values.

    Raises ``BenchsuiteError`` where the file is not a whole GGUF of a kind that is read here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        library()
        try:
            with path.open("rb") as stream:
                self._data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise self.error(f"cannot read the file: {error.strerror}", "Check the path") from error
        except ValueError as error:  # nothing can be mapped of an empty file
            raise self._broken("it is empty") from error
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, Tensor] = {}
        try:
            self._read()
        except (struct.error, IndexError) as error:
            raise self._broken("it ends within its header") from error
        except UnicodeDecodeError as error:
            raise self._broken("a text in its header is not UTF-8") from error

    def kinds(self) -> dict[str, int]:
        """Return how many tensors there are of each type, the most frequent first."""
        return dict(Counter(tensor.kind for tensor in self.tensors.values()).most_common())

    def values(self, name: str) -> np.ndarray:
        """Return a tensor as float32 (F16 and BF16 are exact in it), outermost dimension first."""
        gguf, tensor = library(), self.tensors[name]
        kind = gguf.GGMLQuantizationType[tensor.kind]
        rows = int(np.prod(tensor.shape[:-1], dtype=np.int64))
        raw = np.frombuffer(self._data, np.uint8, tensor.n_bytes, tensor.offset)
        try:
            found = gguf.dequantize(raw.reshape(rows, -1), kind)
        except NotImplementedError as error:
            raise self._unread_type(name, tensor.kind) from error
        return np.asarray(found, np.float32).reshape(tensor.shape)

    def error(self, what: str, fix: str) -> BenchsuiteError:
        """Return an error about this file."""
        return BenchsuiteError(what, where=str(self.path), fix=fix)

    def _read(self) -> None:
        if self._data[:4] != _MAGIC:
            refuse_pointer(self.path)
            raise self.error(
                "this is no GGUF file: it does not begin with the letters GGUF",
                "Give the path of a .gguf file, or download it again",
            )
        version, n_tensors, n_pairs = struct.unpack_from("<IQQ", self._data, 4)
        if version not in _VERSIONS:
            big = int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS
            raise self.error(
                "the file is big-endian"
                if big
                else f"the file is of GGUF version {version}; versions 2 and 3 are read",
                "Convert it with gguf-convert-endian FILE little"
                if big
                else "Convert the model again with a present llama.cpp",
            )
        at = 24
        for _ in range(n_pairs):
            key, at = self._string(at)
            (kind,) = struct.unpack_from("<I", self._data, at)
            if key in self.metadata:
                raise self._broken(f"its key {key} is there twice")
            self.metadata[key], at = self._value(key, kind, at + 4)
        parts = self.metadata.get("split.count", 0)
        if parts > 1:
            raise self.error(
                f"the file is part {self.metadata.get('split.no', 0) + 1} of {parts} of a model",
                "Join the parts with llama-gguf-split --merge FIRST_PART WHOLE.gguf, and give that",
            )
        self._read_tensors(n_tensors, at)

    def _read_tensors(self, count: int, at: int) -> None:
        described = []
        for _ in range(count):
            name, at = self._string(at)
            (n_dimensions,) = struct.unpack_from("<I", self._data, at)
            if n_dimensions > _MAX_DIMENSIONS:
                raise self._broken(f"its tensor {name} has {n_dimensions} dimensions")
            form = f"<{n_dimensions}QIQ"
            *lengths, kind, offset = struct.unpack_from(form, self._data, at + 4)
            at += 4 + struct.calcsize(form)
            described.append((name, tuple(lengths[::-1]), kind, offset))
        alignment = self.metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise self._broken(f"its general.alignment is {alignment!r}")
        start = -(-at // alignment) * alignment
        for name, shape, kind, offset in described:
            if name in self.tensors:
                raise self._broken(f"its tensor {name} is there twice")
            self.tensors[name] = self._tensor(name, shape, kind, start + offset)
        for one, other in pairwise(sorted(self.tensors.values(), key=lambda t: t.offset)):
            if one.offset + one.n_bytes > other.offset:
                raise self._broken(f"its tensors {one.name} and {other.name} lie over one another")

    def _tensor(self, name: str, shape: tuple[int, ...], number: int, offset: int) -> Tensor:
        gguf = library()
        try:
            kind = gguf.GGMLQuantizationType(number)
            block, size = gguf.GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError) as error:
            raise self._unread_type(name, f"number {number}") from error
        if not shape or shape[-1] % block:
            raise self._broken(
                f"its tensor {name} of type {kind.name} has shape {list(shape)}, "
                f"whose rows are not whole blocks of {block}"
            )
        tensor = Tensor(name, kind.name, shape, offset, 0)
        n_bytes = tensor.n_elements // block * size
        if offset + n_bytes > len(self._data):
            raise self._broken(
                f"its tensor {name} would end at byte {offset + n_bytes}, "
                f"and the file has {len(self._data)}"
            )
        return Tensor(name, kind.name, shape, offset, n_bytes)

    def _string(self, at: int) -> tuple[str, int]:
        (length,) = struct.unpack_from("<Q", self._data, at)
        end = at + 8 + length
        if end > len(self._data):
            raise IndexError(end)
        return self._data[at + 8 : end].decode(), end

    def _value(self, key: str, kind: int, at: int) -> tuple[Any, int]:
        if kind == _STRING:
            return self._string(at)
        if kind != _ARRAY:
            form = "<" + self._form(key, kind)
            return struct.unpack_from(form, self._data, at)[0], at + struct.calcsize(form)
        kind, count = struct.unpack_from("<IQ", self._data, at)
        at += 12
        if count > len(self._data):
            raise IndexError(count)
        if kind == _STRING:
            texts = []
            for _ in range(count):
                text, at = self._string(at)
                texts.append(text)
            return texts, at
        form = f"<{count}{self._form(key, kind)}"
        return list(struct.unpack_from(form, self._data, at)), at + struct.calcsize(form)

    def _form(self, key: str, kind: int) -> str:
        if kind not in _SCALARS:
            raise self._broken(f"its key {key} has a value of the unknown type {kind}")
        return _SCALARS[kind]

    def _broken(self, why: str) -> BenchsuiteError:
        return self.error(
            f"the GGUF file is truncated or damaged: {why}", "Copy or download the file again"
        )

    def _unread_type(self, name: str, kind: str) -> BenchsuiteError:
        return self.error(
            f"tensor {name} is of type {kind}, which gguf {_library_version()} does not dequantize",
            "Give a file with other types (llama-quantize writes them), or a newer gguf package",
        )


def library() -> ModuleType:
    """Return the ``gguf`` package (numpy only), an optional part of the installation.

    Raises ``CellCannotRun`` where it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise CellCannotRun(
            "GGUF files need the package gguf, which is not installed",
            fix="Install it: pip install 'benchsuite[gguf]'",
        ) from error
    return gguf


def _library_version() -> str:
    from importlib.metadata import version

    return version("gguf")
