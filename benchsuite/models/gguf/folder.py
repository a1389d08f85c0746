"""A GGUF file as an ordinary checkpoint folder: dequantized once into a cache, by its digest."""

import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import numpy as np

from benchsuite.catalog import is_gguf
from benchsuite.corpora.file_digests import FileDigests, file_state, is_settled
from benchsuite.errors import BenchsuiteError
from benchsuite.models.cache import user_cache
from benchsuite.models.gguf.card import CARD, FORM
from benchsuite.models.gguf.config import Model, architecture_of, read_model
from benchsuite.models.gguf.names import FACTORS, Target, targets
from benchsuite.models.gguf.numbers import are_numbers
from benchsuite.models.gguf.reader import Gguf, Tensor

_WEIGHTS = "model.safetensors"
_DIGESTS = "digests.json"
# Bytes of one number as safetensors stores it.
_WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True)
class GgufFile:
    """What a GGUF file says of itself.

    ``types`` has the number of tensors by type, the most frequent first; ``n_parameters`` leaves
    tables of rope factors out; ``context`` is the longest text in tokens, None where unsaid;
    ``numbered`` says that numbers stand in place of the tokens (`numbers`).
    """

    path: Path
    sha256: str
    architecture: str
    name: str
    n_parameters: int
    types: dict[str, int]
    vocabulary_size: int
    context: int | None
    numbered: bool


def describe(path: Path, digests: FileDigests | None = None) -> GgufFile:
    """Return what the file holds, from its header and its digest; torch is not imported.

    ``digests`` remembers the sha256. Raises ``BenchsuiteError`` for a file that is no whole GGUF,
    or of an architecture that is not read. A file is read once while it stays as it is: a
    vocabulary takes half a second, and every cell of a model asks.
    """
    if not path.is_file():
        return _described(path, digests)
    state, asked = file_state(path), time.time_ns()
    known = _DESCRIBED.get(path)
    if known is None or known[0] != state:
        found = _described(path, digests)
        if not (is_settled(state, asked) and file_state(path) == state):
            return found
        known = _DESCRIBED[path] = (state, found)
    return known[1]


_DESCRIBED: dict[Path, tuple[list[int], GgufFile]] = {}


def _described(path: Path, digests: FileDigests | None) -> GgufFile:
    file = Gguf(path)
    architecture = architecture_of(file)
    weights = [tensor for tensor in file.tensors.values() if tensor.name not in FACTORS]
    return GgufFile(
        path=path,
        sha256=(digests or FileDigests()).sha256(path),
        architecture=architecture,
        name=str(file.metadata.get("general.name", "")),
        n_parameters=sum(tensor.n_elements for tensor in weights),
        types=file.kinds(),
        vocabulary_size=file.tensors["token_embd.weight"].shape[0],
        context=file.metadata.get(f"{architecture}.context_length"),
        numbered=are_numbers(file.metadata.get("tokenizer.ggml.tokens")),
    )


def configuration(path: Path) -> dict[str, Any]:
    """Return the ``config.json`` of the folder that a file becomes, from its header alone."""
    return read_model(Gguf(path)).config


def model_folder(path: Path) -> Path:
    """Return a model's folder as the user named it, or the one that a GGUF file becomes.

    Those lie in ``benchsuite/gguf`` of the user's cache (``XDG_CACHE_HOME``, or ``~/.cache``).
    """
    if not is_gguf(path):
        return path
    return dequantized_folder(path, user_cache() / "gguf")


def tokenizer_folder(path: Path) -> Path:
    """Return where the tokenizer of a model folder, or of a GGUF file, is.

    A file whose tokens are numbers has it beside itself, as ``--save-models`` writes it. Raises
    ``BenchsuiteError`` where it is not there: the numbers would be taken for a text's tokens.
    """
    if not is_gguf(path) or not describe(path).numbered:
        return model_folder(path)
    if not (path.parent / "tokenizer_config.json").is_file():
        raise BenchsuiteError(
            "the file has numbers in place of its tokens, and no tokenizer lies beside it",
            str(path),
            "Put the original's tokenizer.json and tokenizer_config.json into its folder",
        )
    return path.parent


def dequantized_folder(path: Path, cache: Path) -> Path:
    """Return the checkpoint folder that the file becomes, written below ``cache`` if need be.

    It holds ``config.json``, ``generation_config.json``, ``model.safetensors``, the tokenizer's
    files, and ``gguf.json``, which says what it was made of. F16 and BF16 stay what they are; all
    other types become float32, which holds their values exactly. Several processes may ask at
    once: one writes. A folder whose files were changed is written again. Raises
    ``BenchsuiteError`` where the file cannot be read as the model that it names.
    """
    cache.mkdir(parents=True, exist_ok=True)
    digests = FileDigests(cache / _DIGESTS)
    try:
        sha256 = digests.sha256(path)
    except OSError:
        Gguf(path)  # says what is wrong with it
        raise
    final = cache / f"{sha256[:40]}-{FORM}"
    with filelock.FileLock(f"{final}.lock"):
        if not _whole(final, sha256, digests):
            shutil.rmtree(final, ignore_errors=True)
            _write(path, sha256, final)
    digests.save()
    return final


def _whole(folder: Path, sha256: str, digests: FileDigests) -> bool:
    """Return whether a folder is what was written for the file."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        files = dict(card["files"])
        found = {name: digests.sha256(folder / name) for name in files}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return card.get("sha256") == sha256 and found == files


def _write(path: Path, sha256: str, final: Path) -> None:
    from benchsuite.models.gguf.tokenizer import read_tokenizer

    file = Gguf(path)
    model = read_model(file)
    places = targets(file, model.architecture, model.n_blocks, model.sizes)
    tokenizer = read_tokenizer(file, model.config["max_position_embeddings"])
    generation = tokenizer.special_ids | {"eos_token_id": tokenizer.end_ids or None}
    folder = Path(tempfile.mkdtemp(prefix=f"{final.name}.", dir=final.parent))
    try:
        _write_json(folder / "config.json", model.config | tokenizer.special_ids)
        _write_json(folder / "generation_config.json", generation)
        _write_json(folder / "tokenizer_config.json", tokenizer.config)
        (folder / "tokenizer.json").write_text(tokenizer.backend.to_str(), encoding="utf-8")
        with (folder / _WEIGHTS).open("wb") as stream:
            _write_weights(stream, file, model, places)
        digests = FileDigests()
        files = {each.name: digests.sha256(each) for each in sorted(folder.iterdir())}
        said = {"sha256": sha256, "types": file.kinds(), "form": FORM, "files": files}
        _write_json(folder / CARD, said)
        folder.chmod(0o755)  # a temporary folder is its owner's alone
        os.rename(folder, final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_weights(stream: BinaryIO, file: Gguf, model: Model, places: dict[str, Target]) -> None:
    """Write a safetensors file tensor by tensor: never more than one is held in float32."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, target in places.items():
        tensor, stored = file.tensors[name], _stored(file.tensors[name], target)
        end = at + tensor.n_elements * _WIDTHS[stored]
        header[target.name] = {
            "dtype": stored,
            "shape": list(tensor.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(8, "little") + text)
    for name, target in places.items():
        values = target.undone(file.values(name), model.sizes)
        if not np.isfinite(values).all():
            raise file.error(
                f"tensor {name} holds NaN or infinite values", "Download the file again"
            )
        stream.write(_encoded(values, _stored(file.tensors[name], target)))


def _stored(tensor: Tensor, target: Target) -> str:
    """Return the narrowest dtype of safetensors that holds a tensor's values exactly."""
    return tensor.kind if tensor.kind in _WIDTHS and not target.offset else "F32"


def _encoded(values: np.ndarray, dtype: str) -> bytes:
    """Return float32 values as the bytes of ``dtype``; those of BF16 are the upper halves."""
    if dtype == "F16":
        values = values.astype(np.float16)
    elif dtype == "BF16":
        values = (np.ascontiguousarray(values).view(np.uint32) >> 16).astype(np.uint16)
    return values.tobytes()
