"""llama.cpp's own quantizers, from the libraries that lie beside ``llama-server``, by ctypes."""

import ctypes
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from benchsuite.engines.registry import engine
from benchsuite.quantizers.formats.gguf_blocks import BLOCKS

_FILE_TYPES = {"q4_0": 2, "q8_0": 7, "q3_k_m": 12, "q4_k_m": 15, "q5_k_m": 17, "iq4_nl": 25}
"""``enum llama_ftype``, by the names of our mixes."""


class _Columns(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.POINTER(ctypes.c_float)),
        ("size", ctypes.c_size_t),
    )


class _Parameters(ctypes.Structure):
    """``llama_model_quantize_params`` of build 10434."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("threads", "file_type", "of_head", "of_embeddings")),
        *((f"flag_{number}", ctypes.c_bool) for number in range(6)),
        ("imatrix", ctypes.POINTER(_Columns)),
        *((f"pointer_{number}", ctypes.c_void_p) for number in range(3)),
    )


def library(name):
    """Load ``libNAME.so``, or skip."""
    program = shutil.which("llama-server")
    if program is None:
        pytest.skip(f"llama-server is not on the PATH: {engine('llama_server').install}")
    found = sorted(Path(program).resolve().parent.glob(f"lib{name}.so*"))
    if not found:
        pytest.skip(f"no lib{name}.so beside llama-server")
    return ctypes.CDLL(str(found[0]))


def encoded(numbers, kind, importance=None):
    """What ``ggml_quantize_chunk`` makes of float32 [rows, n]: uint8 [rows, bytes]."""
    gguf = pytest.importorskip("gguf")
    function = library("ggml-base").ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    pointers, sizes = (ctypes.c_void_p, ctypes.c_void_p), (ctypes.c_int64,) * 3
    function.argtypes = [ctypes.c_int, *pointers, *sizes, ctypes.c_void_p]
    block = BLOCKS[kind]
    source = np.ascontiguousarray(numbers.numpy())
    made = np.zeros((len(source), source.shape[1] // block.size * block.n_bytes), np.uint8)
    columns = None if importance is None else np.ascontiguousarray(importance.numpy())
    into = (source.ctypes.data, made.ctypes.data, 0, *source.shape)
    weighed = None if columns is None else columns.ctypes.data
    assert function(gguf.GGMLQuantizationType[kind], *into, weighed) == made.size
    return torch.from_numpy(made)


def quantized_file(source, target, mix, importance=None):
    """Let ``llama_model_quantize`` make a file of a file; ``importance`` by the tensors' names."""
    llama = library("llama")
    llama.llama_model_quantize_default_params.restype = _Parameters
    parameters = llama.llama_model_quantize_default_params()
    parameters.threads, parameters.file_type = 1, _FILE_TYPES[mix]
    kept = [np.ascontiguousarray(columns.numpy()) for columns in (importance or {}).values()]
    pointer = ctypes.POINTER(ctypes.c_float)
    rows = [
        _Columns(name.encode(), columns.ctypes.data_as(pointer), columns.size)
        for name, columns in zip(importance or {}, kept, strict=True)
    ]
    if rows:
        parameters.imatrix = (_Columns * (len(rows) + 1))(*rows, _Columns())
    paths = (str(source).encode(), str(target).encode())
    assert llama.llama_model_quantize(*paths, ctypes.byref(parameters)) == 0
