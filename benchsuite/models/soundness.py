"""What must be true of a model's weights and tokenizer once they are read, each fault by name."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchsuite.errors import BenchsuiteError, out_of_memory
from benchsuite.models.folder import read_config, tensor_headers
from benchsuite.printable import some

# In the names of tensors that stand beside codes: ModelOpt's, FP8's and GPTQ's among them.
_OF_CODES = ("scale", "qweight", "qzeros", "weight_packed", "absmax")


def check_complete(report: Any, where: str) -> None:
    """Raise where the files' tensors are not exactly the model's."""
    read = report.get if isinstance(report, dict) else lambda key: getattr(report, key, None)
    missing = sorted(map(str, read("missing_keys") or ()))
    extra = sorted(map(str, read("unexpected_keys") or ()))
    mismatched = sorted(
        f"{key[0]} ({list(key[1])} in the file, {list(key[2])} in the model)"
        if isinstance(key, tuple)
        else str(key)
        for key in read("mismatched_keys") or ()
    )
    faults = [
        f"{label} {some(names)}"
        for label, names in (
            ("missing tensors", missing),
            ("tensors that the model does not have", extra),
            ("tensors of another shape", mismatched),
        )
        if names
    ]
    if faults:
        coded = any(word in name.rpartition(".")[2] for name in extra for word in _OF_CODES)
        raise BenchsuiteError(
            f"the checkpoint does not fit its config.json: {'; '.join(faults)}"
            + ("; it is a quantized model, in a format that is not read here" if coded else ""),
            where,
            "Give it in a format of `benchsuite compare` (AutoGPTQ's, AutoAWQ's, "
            "compressed-tensors', GGUF and what transformers reads), or the original model"
            if coded
            else "Give the weights and the config.json of one and the same model",
        )


def check_stored(folder: Path, parameters: Mapping[str, nn.Parameter], where: str) -> None:
    """Raise where weights are stored as whole numbers: codes, whose scales nobody would apply.

    Not asked of a folder with a quantization config: there its reader knows what is a code.
    """
    if "quantization_config" in read_config(folder):
        return
    floats = {name for name, tensor in parameters.items() if tensor.is_floating_point()}
    whole = [
        f"{name} ({dtype})"
        for _, name, dtype, _ in tensor_headers(folder)
        if name in floats and not dtype.startswith(("F", "BF"))
    ]
    if whole:
        raise BenchsuiteError(
            f"weights are stored as whole numbers, and config.json names no quantization that "
            f"says what they stand for: {some(whole)}",
            where,
            "Give the config.json that was saved with the quantized weights, or the original model",
        )


_NO_LANGUAGE_MODEL = re.compile(r"Unrecognized configuration class <class '[\w.]*?(\w+)'>.*")


def said_of_loading(error: Exception) -> str:
    """Return in short what transformers said when it could not load a model."""
    said = " ".join(str(error).split())
    plain = _NO_LANGUAGE_MODEL.sub(
        r"\1 is no language model's, but of one for images and text or of another kind", said
    )
    return f"{type(error).__name__}: {plain[:300]}"


@torch.no_grad()
def try_unknown(model: nn.Module, where: str) -> None:
    """Raise where a model of a family that is not known here sees tokens that come later.

    Encoders (BERT) load as language models too, and the perplexity of one says nothing. One that
    cannot compute at all is named here.
    """
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
    shared, later = torch.arange(1, 5).expand(2, 4), torch.arange(5, 13).view(2, 4)
    rows = torch.cat([shared, later], 1) % len(embeddings.weight)
    device = embeddings.weight.device
    model.eval()
    try:
        with quiet_transformers():
            logits = model(input_ids=rows.to(device), use_cache=False).logits[:, :4]
    except Exception as error:  # a configuration that does not fit itself fails anywhere
        if out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:300]
        raise BenchsuiteError(
            f"it loads, and cannot compute a token: {type(error).__name__}: {said}",
            where,
            "Check that transformers itself runs the model of this folder",
        ) from error
    rounding = max(1e-4, 10 * torch.finfo(logits.dtype).eps)  # more than kernels differ by
    one, other = logits.float()
    if not torch.allclose(one, other, rtol=rounding, atol=rounding * float(one.std())):
        raise BenchsuiteError(
            "it is no causal language model: what it predicts at a place depends on the tokens "
            "after it",
            where,
            "Give a decoder: the perplexity of a model that sees the answer says nothing",
        )


def check_finite(model: nn.Module, where: str) -> None:
    """Raise where a parameter that is here holds NaN or infinite values."""
    bad = [
        name
        for name, tensor in model.named_parameters()
        if tensor.is_floating_point()
        and not tensor.is_meta
        and not bool(torch.isfinite(tensor).all())
    ]
    if bad:
        raise BenchsuiteError(
            f"the checkpoint holds NaN or infinite weights: {some(bad)}",
            where,
            "Copy or download it again; if it is your own, it diverged in training or overflowed "
            "in conversion to a smaller dtype",
        )


def check_vocabulary(model: nn.Module, tokenizer: Any, where: str) -> None:
    """Raise where a tokenizer has ids that the model embeds nothing for."""
    rows = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    top = top_id(tokenizer)
    if top >= rows:
        raise BenchsuiteError(
            f"the tokenizer goes up to id {top}, but the model embeds {rows} ids (0 to {rows - 1})",
            where,
            "Give the tokenizer that the model was trained with, or resize the embeddings and "
            "save the model again",
        )


def top_id(tokenizer: Any) -> int:
    """Return the largest id that a tokenizer gives."""
    return max([len(tokenizer) - 1, *tokenizer.get_vocab().values()])


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the loading report and its progress bar: what they tell is checked and raised."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
