"""What stands around another library's work on a model.

A library may write into weights and change the process that it runs in. So it gets a copy of the
model, and environment, generators, precision switches, loggers, warnings, standard streams and
working folder are put back behind it. What it leaves are modules that can be told apart by nothing
but their tensors: ``held_tensors`` finds those, for size and digest.
"""

import contextlib
import copy
import hashlib
import io
import logging
import os
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from benchsuite.models import generation_settings
from benchsuite.models.architecture import architecture_of
from benchsuite.models.folder import weight_files
from benchsuite.quantizers import checkpoint
from benchsuite.quantizers.layers import Progress, block_linears, replace
from benchsuite.quantizers.linear import model_digest, quantized_linears, stored_bytes
from benchsuite.quantizers.result import LayerResult, QuantizationResult

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass
class Stay:
    """A library's stay with a model of ``before`` bytes: an empty ``folder`` to write in, and the
    ``seconds`` that it took."""

    model: nn.Module
    before: int
    folder: Path
    seconds: float = 0.0

    def account(self, after: int | None = None, *, simulated: bool = False) -> QuantizationResult:
        """Return what the stay came to; ``after`` (default: measured) is in bytes.

        Digests are of codes, scales and zeros where the library's were taken over, which makes them
        comparable with ours, and otherwise of the library's own tensors.
        """
        names = [name for name, _ in architecture_of(self.model).named_linears(self.model)]
        digest = model_digest if quantized_linears(self.model) else held_digest
        return QuantizationResult(
            layers=[LayerResult(name) for name in names],
            weights_sha256=digest(self.model),
            size_before_bytes=self.before,
            size_after_bytes=held_bytes(self.model) if after is None else after,
            stage_seconds={"library": self.seconds},
            latency_simulated=simulated,
        )


@contextlib.contextmanager
def guest(
    model: nn.Module, name: str, seed: int, progress: Progress | None = None
) -> Iterator[Stay]:
    """Let the library ``name`` work on a model inside the ``with`` block: seeded, offline, leaving
    no trace.

    What it printed is added to an error that it raises. Threads that it starts may stay; they are
    idle.
    """
    if progress is not None:
        progress(name, 0, 1)
    before, said = stored_bytes(model), io.StringIO()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="benchsuite-"))
        for restore in (_environment, _generators, _switches, _loggers):
            stack.enter_context(restore())
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(contextlib.redirect_stdout(said))
        stack.enter_context(contextlib.redirect_stderr(said))
        os.environ.update(OFFLINE)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        began = time.perf_counter()
        stay = Stay(model, before, Path(folder))
        try:
            yield stay
        except Exception as error:
            error.add_note(f"The last that {name} printed:\n{said.getvalue()[-2000:]}")
            raise
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        stay.seconds = time.perf_counter() - began
    if progress is not None:
        progress(name, 1, 1)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _generators() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def _switches() -> Iterator[None]:
    """Put back PyTorch's process-wide switches."""
    dtype, threads, grad = (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
    )
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    printing = copy.copy(torch._tensor_str.PRINT_OPTS)
    owners: tuple[Any, ...] = (
        torch.backends,
        torch.backends.cuda.matmul,
        torch.backends.cudnn,
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        torch.backends.cudnn.rnn,  # type: ignore[attr-defined]
        torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    )
    precisions = [owner.fp32_precision for owner in owners]
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch._tensor_str.PRINT_OPTS = printing
        torch.backends.cudnn.benchmark = benchmark
        for owner, precision in zip(owners, precisions, strict=True):
            if owner.fp32_precision != precision:
                owner.fp32_precision = precision


@contextlib.contextmanager
def _loggers() -> Iterator[None]:
    """Put back the root logger's handlers and every logger's level."""
    root = logging.getLogger()
    handlers, disabled = list(root.handlers), logging.root.manager.disable
    known = [root, *(x for x in root.manager.loggerDict.values() if isinstance(x, logging.Logger))]
    levels = [(one, one.level) for one in known]
    try:
        yield
    finally:
        root.handlers[:] = handlers
        logging.disable(disabled)
        for one, level in levels:
            one.setLevel(level)


def own_copy(model: nn.Module) -> Any:
    """Return a copy of a leased model whose tensors may be written, with ties kept."""
    return copy.deepcopy(model)


def write_model(model: Any, folder: Path, dtype: torch.dtype | None = None) -> Path:
    """Save a model for libraries that read folders only, in ``dtype`` (default: its own)."""
    writable = own_copy(model).to(dtype or model.dtype)
    writable.config.dtype = writable.dtype
    generation_settings.save_pretrained(writable, folder)
    placeholder_tokenizer().save_pretrained(folder)
    return folder


def placeholder_tokenizer() -> Any:
    """Return a tokenizer of one word: libraries insist on one, even for data that is token ids."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    known = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=known, unk_token="<unk>", pad_token="<unk>")


def adopt(model: Any, quantized: Any) -> None:
    """Put the modules of a quantized copy into the leased module tree."""
    for name, child in list(quantized.named_children()):
        setattr(model, name, child)
    model.config.tie_word_embeddings = quantized.config.tie_word_embeddings
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.eval()


def replace_linears(model: Any, make: Callable[[nn.Linear], nn.Module]) -> None:
    """Put the library's layer in the place of every block linear, which ``make`` only reads."""
    for name, linear in block_linears(model):
        replace(model, name, make(linear))


def adopt_checkpoint(model: Any, folder: Path) -> int:
    """Take an AutoGPTQ or AutoAWQ checkpoint over, code by code; return the bytes that it comes to.

    Those are of the checkpoint's own tensors for the packed linears. The rest counts, and runs, in
    the model's dtype, also where the library could only hold it in half precision.
    """
    dtype, device = model.dtype, model.device
    loaded = checkpoint.load(folder, device=str(device)).to(dtype)
    linears = quantized_linears(loaded)
    for linear in linears.values():
        linear.dtype = dtype
    adopt(model, loaded)
    n_bytes = stored_bytes(model) - sum(stored_bytes(linear) for linear in linears.values())
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as handle:
            names = [n for n in handle.keys() if n.rpartition(".")[0] in linears]  # noqa: SIM118
            n_bytes += sum(handle.get_tensor(name).nbytes for name in names)
    return n_bytes


def held_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, plain tensor) of everything in a module's state, tensor subclasses opened."""
    for name, value in module.state_dict(keep_vars=True).items():
        yield from _plain(name, value)


def _plain(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _plain(f"{name}.{key}", inner)
    elif isinstance(value, Tensor) and hasattr(value, "__tensor_flatten__"):
        for key in value.__tensor_flatten__()[0]:
            yield from _plain(f"{name}.{key}", getattr(value, key))
    elif isinstance(value, Tensor):
        yield name, value.detach()


def held_bytes(module: nn.Module) -> int:
    """Return the bytes of a module's state in whatever form its library keeps it, ties once."""
    unique = {(t.data_ptr(), t.shape, t.dtype): t for _, t in held_tensors(module) if t.numel()}
    return sum(t.nbytes for t in unique.values())


def held_digest(model: Any) -> str:
    """Return the hex sha256 of all that the blocks' linears hold, in the library's own form."""
    sha = hashlib.sha256()
    for path, linear in architecture_of(model).named_linears(model):
        for name, tensor in held_tensors(linear):
            sha.update(f"{path}.{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            sha.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()
