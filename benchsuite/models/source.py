"""Where a model's weights are, told without torch: collection fingerprints cells by this alone.

A model comes from the embedded folder, from a local folder or GGUF (``--local NAME=PATH``), from
the hub's cache, or from a random generator at the catalogue's true shapes. Whatever it is, a folder
holds a ``config.json`` and safetensors files: no pickle is ever opened.
"""

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from benchsuite.catalog import DTYPE_BYTES, ModelEntry, Sources
from benchsuite.corpora.file_digests import FileDigests
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.models.folder import folder_digest, tensor_headers, weight_files


@dataclass(frozen=True)
class Source:
    """Where a model's weights come from.

    ``weights`` is ``embedded``, ``local``, ``dequantized``, ``hub`` or ``random``; ``folder`` is
    None for random weights, for a hub model that is not in the cache (yet), and for dequantized
    weights, whose GGUF is ``file`` (None until the package index was asked for it).
    """

    weights: str
    folder: Path | None
    file: Path | None = None

    def checkpoint(self) -> Path | None:
        """Return the folder to load from: a GGUF is dequantized for it, once."""
        from benchsuite.models.gguf import model_folder

        return model_folder(self.file) if self.file else self.folder


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


def locate(entry: ModelEntry, sources: Sources = Sources()) -> Source:
    """Return where the weights of ``entry`` are.

    A folder of ``sources`` that holds no model is a ``UsageError``.
    """
    weights, local = sources.weights_of(entry), sources.folder(entry.name)
    if weights == "embedded":
        from benchsuite.embedded import models as embedded_models

        return Source(weights, Path(embedded_models.path(entry.name)))
    if weights == "random":
        return Source(weights, None)
    if weights == "dequantized":
        return Source(weights, None, local or _packaged(entry))
    if local is not None:
        return Source(weights, _local_folder(entry, local))
    if entry.packaged:
        file = _packaged(entry)
        return Source(weights, file.parent if file else None)
    repository = hub_cache() / _repository_folder(entry.hub_id)
    folder = _snapshot(repository, entry.revision)
    if folder and not _complete(folder):
        folder = _converted_snapshot(repository)
    return Source("hub", folder if folder and _complete(folder) else None)


def within(path: Path) -> Path:
    """Return the model that a folder stands for, where it is not one itself.

    A repository of a hub's cache (``models--OWNER--NAME``) stands for its snapshot, and a folder
    around a GGUF for that file.
    """
    if not path.is_dir() or (path / "config.json").exists():
        return path
    file = around_gguf(path)
    return file if file != path else _snapshot(path, "main") or path


def around_gguf(path: Path) -> Path:
    """Return the one GGUF of a folder without a model of its own; else the path as it is.

    So ``--save-models`` keeps one, its tokenizer's files beside it.
    """
    if not path.is_dir() or (path / "config.json").exists():
        return path
    files = sorted(path.glob("*.gguf"))
    return files[0] if len(files) == 1 else path


def weights_digest(
    entry: ModelEntry, sources: Sources = Sources(), *, dtype: str | None = None
) -> str:
    """Return what identifies the weights (and tokenizer) that ``load`` would give, without torch.

    Files: sha256 over the paths and contents of all ``answering_files``, and the dtype (the
    entry's own unless asked) that they are rounded to: ``<sha256>:<dtype>``. A file's own sha256
    is the name of its blob in a hub cache; elsewhere it is computed once and remembered in
    ``sources.digest_cache``. A GGUF's is ``gguf:<sha256>:<version>:<dtype>``, by the version of
    the way it is read; of a package's safetensors ``package:<sha256>:<dtype>``. A hub model that is
    not in the cache is ``hub:<id>@<revision>``,
    random weights are ``random:<shape digest>:<seed>``. An embedded model's is its card's: its
    dtype follows from the device alone.
    """
    source = locate(entry, sources)
    if source.weights == "embedded":
        from benchsuite.embedded import models as embedded_models

        return str(embedded_models.digest(entry.name))
    if source.weights == "random":
        shape = json.dumps([entry.model_type, dict(entry.shape), entry.dtype], sort_keys=True)
        return f"random:{hashlib.sha256(shape.encode()).hexdigest()[:16]}:{sources.seed}"
    path = source.file or source.folder
    if source.weights == "hub" and entry.packaged:
        return f"package:{entry.packaged.sha256}:{dtype or entry.dtype}"
    if path is None and entry.packaged:
        from benchsuite.models.gguf import identity

        return f"{identity(entry.packaged.sha256)}:{dtype or entry.dtype}"
    if path is None:
        return f"hub:{entry.hub_id}@{entry.revision}"
    return f"{folder_digest(path, sources.digest_cache)}:{dtype or entry.dtype}"


def requirements(
    entry: ModelEntry,
    sources: Sources = Sources(),
    *,
    device: str = "cpu",
    dtype: str | None = None,
) -> int:
    """Return the bytes of the weights on ``device`` as ``load`` would place them there.

    Counted from the files' headers where they are present, from the catalogue's shape otherwise.
    """
    size = DTYPE_BYTES[dtype or default_dtype(entry, device)]
    source = locate(entry, sources)
    if source.file:
        from benchsuite.models.gguf import describe

        return describe(source.file, FileDigests(sources.digest_cache)).n_parameters * size
    if source.folder is None:
        return entry.n_parameters * size
    return sum(math.prod(shape) for _, _, _, shape in tensor_headers(source.folder)) * size


def default_dtype(entry: ModelEntry, device: str) -> str:
    """Return the dtype that a model runs in unless asked otherwise: its own.

    Embedded and packaged models run in float32 on the CPU, which holds what they are stored in
    exactly. So they are the same models, and their sums are then accurate enough for differences
    of a few thousandths of a nat between two quantizations to be the quantizations' own. An entry
    that leaves its dtype to a ``config.json`` that is not here has bfloat16.
    """
    in_full = bool(entry.embedded or entry.packaged) and str(device).startswith("cpu")
    return "float32" if in_full else entry.dtype or "bfloat16"


def _packaged(entry: ModelEntry) -> Path | None:
    from benchsuite.models import packages

    here = entry.packaged and packages.is_here(entry.packaged)
    return packages.packaged_file(entry.packaged) if entry.packaged and here else None


def hub_commit(hub_id: str, revision: str = "main") -> str | None:
    """Return the commit of a hub repository that the cache has files of, or None."""
    folder = _snapshot(hub_cache() / _repository_folder(hub_id), revision)
    return folder.name if folder else None


def hub_digest(hub_id: str, revision: str = "main") -> str:
    """Return what identifies a hub repository's files without reading them: its commit.

    ``<id>@<commit>``, or ``hub:<id>@<revision>`` while the cache has nothing of it.
    """
    commit = hub_commit(hub_id, revision)
    return f"{hub_id}@{commit}" if commit else f"hub:{hub_id}@{revision}"


def _repository_folder(hub_id: str) -> str:
    return "models--" + hub_id.replace("/", "--")


def _local_folder(entry: ModelEntry, path: Path) -> Path:
    """Return the snapshot inside a folder that the user named: a checkpoint or a hub cache."""
    if (path / "config.json").exists():
        return path
    name = _repository_folder(entry.hub_id)
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
