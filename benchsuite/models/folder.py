"""What a model's folder holds: which files are read, and the digest of all that change an answer.

Told without torch. What loading reads and what the digest covers must agree, so both ask here.
"""

import fnmatch
import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchsuite.catalog import DTYPE_BYTES, is_gguf
from benchsuite.corpora.file_digests import FileDigests
from benchsuite.corpora.pointers import refuse_pointer
from benchsuite.errors import BenchsuiteError

INDEX_SUFFIX = ".safetensors.index.json"
INDEX = f"model{INDEX_SUFFIX}"
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
# Safetensors files that are never a checkpoint's own: an adapter's, Mistral's second copy.
_BESIDE = ("adapter_model*", "consolidated*")
# Weights that only other libraries, or a model's own code, read: pickles, other frameworks',
# Mistral's second copy, and those of earlier checkpoints in folders below.
_FOREIGN_WEIGHTS = (
    *("pytorch_model*", "training_args.bin", "*.pt", "*.pth", "*.ckpt", "*/*.bin"),
    *("*.h5", "*.msgpack", "*.ot", "*.onnx", "*.onnx_data*", "*.gguf", "*.tflite"),
    *("consolidated*", "*/*.safetensors"),
)
UNREAD = (*_NEVER_READ, *_FOREIGN_WEIGHTS)
"""Patterns of a model folder's files that change no answer; every other file counts."""

# Where this lies and peft is installed, transformers adds the adapter to the weights by itself.
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class _Chosen:
    """The safetensors files that are read, and the index that named them, if one did."""

    files: list[Path]
    index: Path | None = None


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint folder, as transformers chooses them.

    That is the file or index which ``config.json`` names as ``transformers_weights``, else
    ``model.safetensors``, else the files of the index, else, as AutoGPTQ names them, the files of
    the only index or the only file there is. What else lies beside them is not read. Raises
    ``BenchsuiteError`` where there are none, only pickled ones, fewer than indexed, or several
    that could be meant.
    """
    return _choose(folder, str(folder)).files


def _choose(folder: Path, where: str) -> _Chosen:
    named = _named_weights(folder)
    if named and not (folder / named).exists():
        raise BenchsuiteError(
            f"config.json names weights that are not there: {named}",
            where=where,
            fix="Copy or download that file, or take transformers_weights out of config.json",
        )
    if named:
        return _read_from(folder / named, where)
    single, index = folder / _SINGLE, folder / INDEX
    if single.exists():
        _refuse_two_models(single, index, where)
        return _Chosen([single])
    indexes = [index] if index.exists() else _own(folder, f"*{INDEX_SUFFIX}")
    if len(indexes) == 1:
        return _read_from(indexes[0], where)
    others = _own(folder, "*.safetensors")
    if len(others) == 1 and not indexes:
        return _Chosen(others)
    if not others and not indexes and any(any(folder.glob(pattern)) for pattern in _PICKLES):
        raise BenchsuiteError(
            "the folder holds pickled weights only, and unpickling can run any code",
            where=where,
            fix="Give safetensors: load it once where you trust it and call "
            "model.save_pretrained(folder), which writes model.safetensors",
        )
    found = ", ".join(file.name for file in (indexes or others)[:6])
    several = len(indexes or others)
    raise BenchsuiteError(
        f"the folder holds no weights: neither {_SINGLE} nor {INDEX}"
        + (f", and {several} other files that could be meant: {found}" if several else ""),
        where=where,
        fix="Give the folder of a checkpoint as save_pretrained writes it",
    )


def _own(folder: Path, pattern: str) -> list[Path]:
    """Return the folder's files of a pattern that may be the checkpoint's own weights, sorted."""
    return sorted(file for file in folder.glob(pattern) if not _matches(file.name, _BESIDE))


def _read_from(file: Path, where: str) -> _Chosen:
    """Return what a file stands for: itself, or where it is an index, the files that it names."""
    indexed = file.name.endswith(".json")
    return _Chosen(_indexed(file, where), file) if indexed else _Chosen([file])


def _refuse_two_models(single: Path, index: Path, where: str) -> None:
    """Raise where an index beside the one file names others that are there.

    transformers reads the one file and vLLM those of the index, and saving a model over another
    leaves such a pair. An index that only an earlier, removed model needed says nothing.
    """
    if not index.exists():
        return
    named = {name for name in _weight_map(index).values() if (index.parent / name).exists()}
    if named - {single.name}:
        raise BenchsuiteError(
            f"the folder holds two models: {single.name}, and {', '.join(sorted(named)[:6])} of "
            f"{index.name}; some engines read the one and some the other",
            where=where,
            fix="Move away the files of the one that is not meant, or name the other as "
            "transformers_weights in config.json",
        )


def tensor_headers(folder: Path) -> Iterator[tuple[Path, str, str, list[int]]]:
    """Yield (file, tensor name, dtype, shape) of every stored tensor, reading headers only.

    Raises ``BenchsuiteError`` at a broken file, at a tensor that lies in two files, and at one
    that the index promises and its file lacks.
    """
    chosen = _choose(folder, str(folder))
    holders: dict[str, Path] = {}
    for file in chosen.files:
        for name, dtype, shape in _header(file):
            if name in holders:
                raise BenchsuiteError(
                    f"the tensor {name} lies in {holders[name].name} and in {file.name}",
                    where=str(folder),
                    fix="Copy or download the files again, those of one model alone",
                )
            holders[name] = file
            yield file, name, dtype, shape
    if chosen.index is not None:
        promised = _weight_map(chosen.index).items()
        lost = [k for k, v in promised if k not in holders or holders[k].name != Path(v).name]
        if lost:
            more = f" and {len(lost) - 6} more" if len(lost) > 6 else ""
            raise BenchsuiteError(
                f"{chosen.index.name} names tensors that their files do not hold: "
                f"missing {', '.join(lost[:6])}{more}",
                where=str(folder),
                fix="Copy or download the index and the weight files again",
            )


def _header(file: Path) -> list[tuple[str, str, list[int]]]:
    """Return (name, dtype, shape) of a safetensors file's tensors, its header checked."""
    try:
        refuse_pointer(file)
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if file.stat().st_size < 8:
                raise ValueError("it is empty" if not file.stat().st_size else "it is cut off")
            if length > file.stat().st_size:
                raise ValueError("the header is longer than the file")
            header = json.loads(stream.read(length))
            stored = file.stat().st_size - 8 - length
        header.pop("__metadata__", None)
        tensors = [(k, v["dtype"], v["shape"]) for k, v in header.items()]
        end = max((item["data_offsets"][1] for item in header.values()), default=0)
    except (ValueError, RecursionError, OSError) as error:
        raise _broken(file, str(error)) from error
    except (AttributeError, LookupError, TypeError) as error:
        raise _broken(file, "its header is not that of a safetensors file") from error
    if end != stored:
        raise _broken(file, "its size does not match its header: it is truncated or edited")
    return tensors


def read_config(folder: Path) -> dict[str, Any]:
    """Return the folder's ``config.json``; a folder without one is a ``BenchsuiteError``."""
    if not (folder / "config.json").exists():
        raise BenchsuiteError(
            "the folder holds no config.json",
            where=str(folder),
            fix="Give the folder of a checkpoint as save_pretrained writes it",
        )
    return read_json(folder / "config.json")


# Safetensors' names of the dtypes that weights are stored in, and what holds their values here.
_STORED_AS = {"F64": "float32", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def stored_dtype(folder: Path) -> str:
    """Return the dtype of a model folder's weights: one of ``catalog.DTYPE_BYTES``.

    ``config.json`` says it, for the whole or for its text part. Where it does not, or names a dtype
    that no model runs in here, it is that of most of the stored numbers, float64 as float32.
    Raises ``BenchsuiteError`` as ``read_config`` and ``tensor_headers`` do.
    """
    config = read_config(folder)
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        named = str(part.get("dtype") or part.get("torch_dtype")).removeprefix("torch.")
        if named in DTYPE_BYTES:
            return named
    counts = dict.fromkeys(DTYPE_BYTES, 0)
    for _, _, dtype, shape in tensor_headers(folder):
        if dtype in _STORED_AS:
            counts[_STORED_AS[dtype]] += math.prod(shape)
    return max(counts, key=counts.__getitem__)  # float32 where none has a floating-point number


def refuse_quantized(folder: Path, name: str) -> None:
    """Raise ``BenchsuiteError`` where a folder that is taken for a model is a quantized one.

    It would stand as the original beside its own quantizations, or be quantized once more.
    """
    settings = read_config(folder).get("quantization_config")
    if settings and isinstance(settings, dict):
        method = settings.get("quant_method") or "some method"
        raise BenchsuiteError(
            f"{name} is already quantized ({method}), and studies start from a model that is not",
            where=str(folder),
            fix="Give the original here. `benchsuite compare ORIGINAL FOLDER` compares the two, "
            f"and cells evaluate the quantized one with --checkpoint {name}=FOLDER beside it",
        )


def refuse_adapter(folder: Path) -> None:
    """Raise ``BenchsuiteError`` where an adapter (LoRA) lies beside a model's weights.

    Whether it changes the answers would depend on the engine and on the packages installed. An
    adapter's weights without its configuration are read by nobody.
    """
    if (folder / _ADAPTER).exists():
        raise BenchsuiteError(
            f"an adapter lies beside the model's weights: {_ADAPTER}; transformers adds it "
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


# What a tokenizer is read from, its chat template and its special tokens too.
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "chat_template.json", "tokenizer.model", "vocab.json", "merges.txt"),
)


def folder_digest(folder: Path, cache_file: Path | None = None) -> str:
    """Return the sha256 of a model or checkpoint folder: all its ``answering_files``.

    Of a GGUF file it is ``models.gguf.identity``, so that none is dequantized only to be told.
    Raises ``BenchsuiteError`` where it holds no weights, an adapter, or a file that is unreadable.
    """
    digests = FileDigests(cache_file)
    if is_gguf(folder):
        from benchsuite.models.gguf import describe, identity

        try:
            found = identity(digests.sha256(folder))
            beside = [file for n in _TOKENIZER_FILES if (file := folder.parent / n).is_file()]
            if beside and describe(folder, digests).numbered:
                told = "".join(f"{file.name}\0{digests.sha256(file)}\0" for file in beside)
                found += f":{hashlib.sha256(told.encode()).hexdigest()[:16]}"
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
    named = read_json(config).get("transformers_weights") if config.exists() else None
    kinds = (".safetensors", ".safetensors.index.json")
    if named is not None and not (isinstance(named, str) and named.endswith(kinds)):
        raise _broken(config, f"its transformers_weights is {named!r}, no safetensors file")
    if named is not None and _outside(named):
        raise _broken(config, f"its transformers_weights lies outside the folder: {named}")
    return named


def _indexed(index: Path, where: str) -> list[Path]:
    """Return the weight files that an index names, each once, in the order of their names."""
    files = [index.parent / name for name in sorted(set(_weight_map(index).values()))]
    missing = [file.name for file in files if not file.exists()]
    if missing or not files:
        raise BenchsuiteError(
            f"the index names weight files that are not there: {', '.join(missing) or 'none'}",
            where=where,
            fix="Copy or download the missing files",
        )
    return files


def _weight_map(index: Path) -> dict[str, str]:
    """Return which file holds which tensor, as an index says it; the files lie beside it."""
    indexed = read_json(index).get("weight_map", {})
    if not isinstance(indexed, dict) or not all(isinstance(v, str) for v in indexed.values()):
        raise _broken(index, "its weight_map is not an object of file names")
    outside = [name for name in indexed.values() if _outside(name)]
    if outside:
        raise _broken(index, f"it names a file outside the folder: {outside[0]}")
    return indexed


def _outside(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts


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


def read_json(file: Path) -> dict[str, Any]:
    """Return what a JSON file of a model folder says. Raises ``BenchsuiteError``."""
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
