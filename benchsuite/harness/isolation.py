"""A cell's surroundings: its seeds, its threads, its memory, its log."""

import functools
import gc
import logging
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import pytest


@functools.lru_cache(maxsize=1)
def _threadpools(n_modules: int) -> Any:
    """Return the loaded BLAS and OpenMP libraries; looked up again once more modules are there."""
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


@contextmanager
def isolated(seed: int, threads: int, use_torch: bool) -> Iterator[None]:
    """Seed every global generator from the cell's seed, fix its threads, and restore both after.

    Sums and Cholesky factors differ bitwise between thread counts, so that a cell's must not
    depend on how many cells run beside it.
    """
    import numpy as np

    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    torch_here = _isolated_torch(seed, threads) if use_torch else nullcontext()
    try:
        with torch_here, _threadpools(len(sys.modules)).limit(limits=threads):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def _isolated_torch(seed: int, threads: int) -> Iterator[None]:
    import torch

    state, n_threads = torch.get_rng_state(), torch.get_num_threads()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_rng_state(state)
        torch.set_num_threads(n_threads)
        if on_gpus is not None:
            torch.cuda.set_rng_state_all(on_gpus)


def free_memory(excinfo: pytest.ExceptionInfo[BaseException] | None) -> None:
    """Let go of what a failed cell held, so that the next one has the memory."""
    if excinfo is not None:
        traceback.clear_frames(excinfo.tb)
    for name in ("last_value", "last_traceback", "last_exc"):
        with suppress(AttributeError):
            delattr(sys, name)
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def limit_threads(threads: int) -> Callable[[], None]:
    """Set what libraries and child processes read of their environment when they start.

    A variable that is set stays as it is. Returns what takes the others out again.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    wanted = dict.fromkeys(names, str(threads))
    wanted |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "TOKENIZERS_PARALLELISM": "false"}
    added = [name for name in wanted if name not in os.environ]
    os.environ.update({name: wanted[name] for name in added})

    def restore() -> None:
        for name in added:
            os.environ.pop(name, None)

    return restore


class CellLog(logging.Handler):
    """Collects what the measuring code logs during one cell: the record's ``.log`` side file."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(self.format(record))

    def text(self) -> str:
        """Return the log so far."""
        return "".join(f"{line}\n" for line in self.lines)
