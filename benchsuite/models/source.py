"""Where a model's weights are, told without torch: collection fingerprints cells by this alone.

A model comes from the embedded folder, from a local folder (``--local NAME=PATH``), from the hub's
cache, or from a random generator at the catalogue's true shapes. Whatever it is, a folder holds a
``config.json`` and safetensors files: no pickle is ever opened.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchsuite.catalog import DTYPE_BYTES, ModelEntry
from benchsuite.errors import BenchsuiteError, UsageError

INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# Everything beside the weights that changes what the model computes.
_BESIDE = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Source:
    """Where a model's weights come from.

    ``weights`` is ``embedded``, ``local``, ``hub`` or ``random``; ``folder`` is None for random
    weights and for a hub model that is not in the cache (yet).
    """

    weights: str
    folder: Path | None


def hub_cache() -> Path:
    """Return the hub's cache folder, from the same variables as huggingface_hub reads."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home).expanduser() / "hub"


def hub_offline() -> bool:
    """Return whether the user forbade network access to the hub."""
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in values)


def locate(entry: ModelEntry, *, weights: str = "hub", local: Path | None = None) -> Source:
    """Return where the weights of ``entry`` are.

    ``weights="random"`` wins over ``local``, which says where the real weights are; embedded
    models always use their own. A ``local`` path that holds no model is a ``UsageError``.
    """
    if entry.embedded:
        from benchsuite.embedded import models as embedded_models

        return Source("embedded", Path(embedded_models.path(entry.name)))
    if weights == "random":
        return Source("random", None)
    if weights != "hub":
        raise UsageError(f"unknown weights {weights!r}", fix="Use 'hub' or 'random'")
    if local is not None:
        return Source("local", _local_folder(entry, Path(local).expanduser()))
    repository = hub_cache() / _repository_folder(entry)
    folder = _snapshot(repository, entry.revision)
    if folder and not _complete(folder):
        folder = _converted_snapshot(repository)
    return Source("hub", folder if folder and _complete(folder) else None)


def weight_files(folder: Path, where: str = "") -> list[Path]:
    """Return the safetensors files of a checkpoint folder, in the order of the index.

    Raises ``BenchsuiteError`` where there are none, only pickled ones, or fewer than indexed.
    """
    where = where or str(folder)
    if (folder / _SINGLE).exists():
        return [folder / _SINGLE]
    if (folder / INDEX).exists():
        indexed = _read_json(folder / INDEX).get("weight_map", {})
        if not isinstance(indexed, dict) or not all(isinstance(v, str) for v in indexed.values()):
            raise _broken(folder / INDEX, "its weight_map is not an object of file names")
        files = [folder / name for name in sorted(set(indexed.values()))]
        missing = [file.name for file in files if not file.exists()]
        if missing or not files:
            raise BenchsuiteError(
                f"the index names weight files that are not there: {', '.join(missing) or 'none'}",
                where=where,
                fix="Copy or download the missing files",
            )
        return files
    if any(any(folder.glob(pattern)) for pattern in _PICKLES):
        raise BenchsuiteError(
            "the folder holds pickled weights only, and unpickling can run any code",
            where=where,
            fix="Give safetensors: load it once where you trust it and call "
            "model.save_pretrained(folder), which writes model.safetensors",
        )
    raise BenchsuiteError(
        f"the folder holds no weights: neither {_SINGLE} nor {INDEX}",
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


def weights_digest(
    entry: ModelEntry,
    *,
    weights: str = "hub",
    local: Path | None = None,
    seed: int = 0,
    cache_file: Path | None = None,
) -> str:
    """Return what identifies the weights (and tokenizer) that ``load`` would give, without torch.

    Files: sha256 over the safetensors files' own sha256 and the small files beside them. A file's
    sha256 is the name of its blob in a hub cache; elsewhere it is computed once and remembered in
    ``cache_file`` under path, size and modification time. A hub model that is not in the cache is
    ``hub:<id>@<revision>``, random weights are ``random:<shape digest>:<seed>``.
    """
    source = locate(entry, weights=weights, local=local)
    if source.weights == "embedded":
        from benchsuite.embedded import models as embedded_models

        return str(embedded_models.digest(entry.name))
    if source.weights == "random":
        shape = json.dumps([entry.model_type, dict(entry.shape), entry.dtype], sort_keys=True)
        return f"random:{hashlib.sha256(shape.encode()).hexdigest()[:16]}:{seed}"
    if source.folder is None:
        return f"hub:{entry.hub_id}@{entry.revision}"
    return folder_digest(source.folder, cache_file)


def folder_digest(folder: Path, cache_file: Path | None = None) -> str:
    """Return the sha256 of a checkpoint folder: its weights, configuration, tokenizer and code."""
    beside = [folder / name for name in _BESIDE if (folder / name).exists()]
    code = sorted(folder.glob("*.py"))
    total = hashlib.sha256()
    memo = _Memo(cache_file)
    for file in [*weight_files(folder), *beside, *code]:
        total.update(f"{file.name}\0{memo.sha256(file)}\0".encode())
    memo.save()
    return total.hexdigest()


def requirements(
    entry: ModelEntry,
    *,
    weights: str = "hub",
    local: Path | None = None,
    device: str = "cpu",
    dtype: str | None = None,
) -> int:
    """Return the bytes of the weights on ``device`` as ``load`` would place them there.

    Counted from the files' headers where they are present, from the catalogue's shape otherwise.
    """
    size = DTYPE_BYTES[dtype or default_dtype(entry, device)]
    folder = locate(entry, weights=weights, local=local).folder
    if folder is None:
        return entry.n_parameters * size
    count = 0
    for _, _, _, shape in tensor_headers(folder):
        n = 1
        for length in shape:
            n *= length
        count += n
    return count * size


def default_dtype(entry: ModelEntry, device: str) -> str:
    """Return the dtype that a model runs in unless asked otherwise: its own.

    Embedded models are stored in bfloat16 and run in float32 on the CPU. The conversion is exact,
    so they are the same models, and their sums are then accurate enough for differences of a few
    thousandths of a nat between two quantizations to be the quantizations' own.
    """
    return "float32" if entry.embedded and str(device).startswith("cpu") else entry.dtype


def _repository_folder(entry: ModelEntry) -> str:
    return "models--" + entry.hub_id.replace("/", "--")


def _local_folder(entry: ModelEntry, path: Path) -> Path:
    """Return the snapshot inside a folder that the user named: a checkpoint or a hub cache."""
    if (path / "config.json").exists():
        return path
    name = _repository_folder(entry)
    for repository in (path, path / name, path / "hub" / name):
        if (repository / "snapshots").is_dir():
            folder = _snapshot(repository, entry.revision)
            if folder is not None:
                return folder
    raise UsageError(
        f"--local {entry.name}={path} holds no model: neither config.json nor {name}/snapshots",
        fix="Give the folder of a checkpoint as save_pretrained writes it, or a hub cache folder",
    )


def _snapshot(repository: Path, revision: str) -> Path | None:
    """Return the snapshot folder of ``revision`` in a hub cache, or the only one there is."""
    reference = repository / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    folder = repository / "snapshots" / commit
    if folder.is_dir():
        return folder
    snapshots = sorted(repository.glob("snapshots/*/"))
    return snapshots[0] if len(snapshots) == 1 and revision == "main" else None


def _converted_snapshot(repository: Path) -> Path | None:
    """Return the cached safetensors conversion of a model that has pickled weights on main.

    The hub's bot offers conversions as pull requests, whose revision is ``refs/pr/N``.
    """
    requests = sorted((repository / "refs" / "refs" / "pr").glob("*"))
    found = [_snapshot(repository, f"refs/pr/{request.name}") for request in requests]
    return next((folder for folder in found if folder and _complete(folder)), None)


def _complete(folder: Path) -> bool:
    """Return whether a hub snapshot holds all that loading needs (a download can stop half-way)."""
    try:
        weight_files(folder)
    except BenchsuiteError:
        return False
    return (folder / "config.json").exists()


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


class _Memo:
    """sha256 of files, remembered in a JSON file under path, size and modification time."""

    def __init__(self, file: Path | None) -> None:
        self._file, self._changed = file, False
        self._known: dict[str, list[Any]] = {}
        if file is not None and file.exists():
            try:
                self._known = dict(json.loads(file.read_text(encoding="utf-8")))
            except ValueError:
                self._known = {}  # only a cache: compute again

    def sha256(self, file: Path) -> str:
        resolved = file.resolve()
        if resolved.parent.name == "blobs" and _SHA256.fullmatch(resolved.name):
            return resolved.name  # the hub names large files by their sha256
        status = resolved.stat()
        key = [status.st_size, status.st_mtime_ns]
        known = self._known.get(str(resolved))
        if isinstance(known, list) and known[:2] == key and len(known) == 3:
            return str(known[2])
        with resolved.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        self._known[str(resolved)] = [*key, digest]
        self._changed = True
        return digest

    def save(self) -> None:
        if self._file is None or not self._changed:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # Written whole and renamed: two workers may do this at once, and either result is right.
        temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        temporary.write_text(json.dumps(self._known, indent=0), encoding="utf-8")
        os.replace(temporary, self._file)
