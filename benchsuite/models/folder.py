"""What a model's folder holds: which files are read, and the digest of all that change an answer.

Told without torch. What loading reads and what the digest covers must agree, so both ask here.
"""

import fnmatch
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchsuite.catalog import is_gguf
from benchsuite.corpora.file_digests import FileDigests
from benchsuite.errors import BenchsuiteError

INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# Patterns over a file's path below the folder, as the hub has them: ``*`` stands for folders too.
# What nobody reads to compute an answer: hidden files, caches, documents, pictures, logs.
_NEVER_READ = (
    *(".*", "*/.*", "*__pycache__/*", "*.pyc"),
    *("*.md", "README*", "LICENSE*", "*.pdf"),
    *("*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp"),
    *("*.log", "logs/*", "runs/*", "*.tfevents.*"),
)
# Weights that only other libraries, or a model's own code, read: pickles, other frameworks',
# Mistral's second copy, and those of earlier checkpoints in folders below.
_FOREIGN_WEIGHTS = (
    *("pytorch_model*", "training_args.bin", "*.pt", "*.pth", "*.ckpt", "*/*.bin"),
    *("*.h5", "*.msgpack", "*.ot", "*.onnx", "*.onnx_data*", "*.gguf", "*.tflite"),
    *("consolidated*", "*/*.safetensors"),
)
UNREAD = (*_NEVER_READ, *_FOREIGN_WEIGHTS)
"""Patterns of a model folder's files that change no answer; every other file counts."""

# transformers applies these by itself where peft is installed, and engines do not.
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


def weight_files(folder: Path, where: str = "") -> list[Path]:
    """Return the safetensors files of a checkpoint folder, as transformers chooses them.

    That is the file or index which ``config.json`` names as ``transformers_weights``, else
    ``model.safetensors``, else the files of the index, else, as AutoGPTQ names it, the only one
    there is. Raises ``BenchsuiteError`` where there are none, only pickled ones, or fewer than
    indexed.
    """
    where = where or str(folder)
    named = _named_weights(folder)
    for name in [named] if named else [_SINGLE, INDEX]:
        if (folder / name).exists():
            return _indexed(folder / name, where) if name.endswith(".json") else [folder / name]
    if named:
        raise BenchsuiteError(
            f"config.json names weights that are not there: {named}",
            where=where,
            fix="Copy or download that file, or take transformers_weights out of config.json",
        )
    others = [file for file in folder.glob("*.safetensors") if file.name not in _ADAPTERS]
    if len(others) == 1:
        return others
    if any(any(folder.glob(pattern)) for pattern in _PICKLES):
        raise BenchsuiteError(
            "the folder holds pickled weights only, and unpickling can run any code",
            where=where,
            fix="Give safetensors: load it once where you trust it and call "
            "model.save_pretrained(folder), which writes model.safetensors",
        )
    raise BenchsuiteError(
        f"the folder holds no weights: neither {_SINGLE} nor {INDEX}"
        + (f", and {len(others)} other files that could be meant" if others else ""),
        where=where,
        fix="Give the folder of a checkpoint as save_pretrained writes it",
    )


def tensor_headers(folder: Path) -> Iterator[tuple[Path, str, str, list[int]]]:
    """Yield (file, tensor name, dtype, shape) of every stored tensor, reading headers only."""
    for file in weight_files(folder):
        try:
            with file.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                if length > file.stat().st_size:
                    raise ValueError("the header is longer than the file")
                header = json.loads(stream.read(length))
                stored = file.stat().st_size - 8 - length
            header.pop("__metadata__", None)
            tensors = [(file, k, v["dtype"], v["shape"]) for k, v in header.items()]
            end = max((item["data_offsets"][1] for item in header.values()), default=0)
        except (ValueError, RecursionError, OSError) as error:
            raise _broken(file, str(error)) from error
        except (AttributeError, LookupError, TypeError) as error:
            raise _broken(file, "its header is not that of a safetensors file") from error
        if end != stored:
            raise _broken(file, "its size does not match its header: it is truncated or edited")
        yield from tensors


def read_config(folder: Path) -> dict[str, Any]:
    """Return the folder's ``config.json``; a folder without one is a ``BenchsuiteError``."""
    if not (folder / "config.json").exists():
        raise BenchsuiteError(
            "the folder holds no config.json",
            where=str(folder),
            fix="Give the folder of a checkpoint as save_pretrained writes it",
        )
    return _read_json(folder / "config.json")


def refuse_adapter(folder: Path) -> None:
    """Raise ``BenchsuiteError`` where an adapter (LoRA) lies beside a model's weights.

    Whether it changes the answers would depend on the engine and on the packages installed.
    """
    found = [name for name in _ADAPTERS if (folder / name).exists()]
    if found:
        raise BenchsuiteError(
            f"an adapter lies beside the model's weights: {', '.join(found)}; transformers adds it "
            "to them where peft is installed, and other engines do not",
            where=str(folder),
            fix="Merge it into the weights (peft's merge_and_unload, then save_pretrained) and "
            "give the folder that this writes, or move the adapter's files out of the folder",
        )


def answering_files(folder: Path) -> dict[str, Path]:
    """Return every file of a model folder that can change an answer, by its path below the folder.

    All but those known not to (``UNREAD``) count. A model that brings its own code may read
    weights of any kind, so they count with it.
    """
    found = {file.relative_to(folder).as_posix(): file for file in _walk(folder)}
    own_code = any(name.endswith(".py") for name in found)
    unread = _NEVER_READ if own_code else UNREAD
    counted = {name: file for name, file in found.items() if not _matches(name, unread)}
    counted |= {os.path.relpath(file, folder): file for file in weight_files(folder)}
    return dict(sorted(counted.items()))


def folder_digest(folder: Path, cache_file: Path | None = None) -> str:
    """Return the sha256 of a model or checkpoint folder: all its ``answering_files``.

    Of a GGUF file it is ``models.gguf.identity``, so that none is dequantized only to be told.
    Raises ``BenchsuiteError`` where it holds no weights, an adapter, or a file that is unreadable.
    """
    digests = FileDigests(cache_file)
    if is_gguf(folder):
        from benchsuite.models.gguf import identity

        try:
            found = identity(digests.sha256(folder))
        except OSError as error:
            raise _broken(folder, str(error.strerror)) from error
        digests.save()
        return found
    refuse_adapter(folder)
    total = hashlib.sha256()
    for name, file in answering_files(folder).items():
        try:
            total.update(f"{name}\0{digests.sha256(file)}\0".encode())
        except OSError as error:
            raise _broken(file, str(error.strerror)) from error
    digests.save()
    return total.hexdigest()


def _named_weights(folder: Path) -> str | None:
    """Return the weights file or index that ``config.json`` makes transformers read, if any."""
    config = folder / "config.json"
    named = _read_json(config).get("transformers_weights") if config.exists() else None
    kinds = (".safetensors", ".safetensors.index.json")
    if named is not None and not (isinstance(named, str) and named.endswith(kinds)):
        raise _broken(config, f"its transformers_weights is {named!r}, no safetensors file")
    return named


def _indexed(index: Path, where: str) -> list[Path]:
    """Return the weight files that an index names, each once, in the order of their names."""
    indexed = _read_json(index).get("weight_map", {})
    if not isinstance(indexed, dict) or not all(isinstance(v, str) for v in indexed.values()):
        raise _broken(index, "its weight_map is not an object of file names")
    files = [index.parent / name for name in sorted(set(indexed.values()))]
    missing = [file.name for file in files if not file.exists()]
    if missing or not files:
        raise BenchsuiteError(
            f"the index names weight files that are not there: {', '.join(missing) or 'none'}",
            where=where,
            fix="Copy or download the missing files",
        )
    return files


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below ``folder``, through links too; folders that nobody reads are left."""
    seen = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, followlinks=True):
        below = Path(parent).relative_to(folder)
        kept = []
        for name in sorted(folders):
            target = os.path.realpath(os.path.join(parent, name))
            if target not in seen and not _matches((below / name).as_posix() + "/", _NEVER_READ):
                seen.add(target)  # a link that leads back is not followed for ever
                kept.append(name)
        folders[:] = kept
        yield from (Path(parent, name) for name in names if Path(parent, name).is_file())


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _broken(file, f"it is not JSON: {error}") from error
    except OSError as error:
        raise _broken(file, str(error.strerror)) from error
    if not isinstance(content, dict):
        raise _broken(file, "it is not a JSON object")
    return content


def _broken(file: Path, why: str) -> BenchsuiteError:
    return BenchsuiteError(
        f"cannot read {file.name}: {why}",
        where=str(file.parent),
        fix="Copy or download the file again",
    )
