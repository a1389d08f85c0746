"""Data sets of the hub: their files' place in its cache, downloaded once, read without scripts.

What is cached is used as it is, so that the commit that ``text_digest`` names at collection is the
one that the cell reads; a newer commit is taken by clearing the cache or pinning a revision.
"""

import fnmatch
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchsuite.catalog import CorpusEntry, TaskEntry
from benchsuite.corpora import files
from benchsuite.corpora.shards import SHARD
from benchsuite.errors import CellCannotRun


@dataclass(frozen=True)
class Part:
    """The part of a huge data set that is read: one file per split, its first rows."""

    patterns: dict[str, str]
    rows: int


@dataclass(frozen=True)
class Snapshot:
    """One split's files in the cache, their commit hash, and how many rows to read of them."""

    files: list[Path]
    commit: str
    rows: int | None


# C4 is 800 GB; the GPTQ protocol reads the first shard of each split, here its first rows. Of
# OpenMath's 14 million solutions, the first rows of its evenly drawn million.
PARTS = {
    "allenai/c4": Part(
        {
            "train": "en/c4-train.00000-of-01024.json.gz",
            "validation": "en/c4-validation.00000-of-00008.json.gz",
        },
        rows=20_000,
    ),
    "nvidia/OpenMathInstruct-2": Part(
        {"train": "data/train_1M-00000-of-00003.parquet"}, rows=20_000
    ),
}


def fetch(entry: CorpusEntry | TaskEntry, split: str) -> Snapshot:
    """Return one split's files, from the cache if they are there, downloaded otherwise.

    Raises ``CellCannotRun`` where the hub cannot be reached or refuses.
    """
    part = PARTS.get(entry.hub_id)
    if part and split not in part.patterns:
        raise files.MissingSplit(
            f"no {split} split in {entry.hub_id}", fix=f"It has {', '.join(part.patterns)}"
        )
    patterns = [part.patterns[split]] if part else _patterns(entry.config)
    folder = _cached(entry, patterns, split) or _download(entry, patterns)
    if part:
        return Snapshot([folder / part.patterns[split]], folder.name, part.rows)
    return Snapshot(files.find(folder, split, config=entry.config), folder.name, None)


def digest(entry: CorpusEntry | TaskEntry, read: str) -> str:
    """Return what identifies the rows of a hub set: its commit, configuration, and what is read.

    The commit is that in the local cache, or the catalogue's revision where nothing is cached yet.
    """
    commit = cached_commit(entry.hub_id, entry.revision) or entry.revision
    return f"hub:{entry.hub_id}@{commit}:{entry.config or ''}:{read}"


def cached_commit(hub_id: str, revision: str) -> str | None:
    """Return the commit hash that ``revision`` names in the local cache, or None."""
    repository = _repository(hub_id)
    if (repository / "snapshots" / revision).is_dir():
        return revision
    reference = repository / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else ""
    return commit if commit and (repository / "snapshots" / commit).is_dir() else None


def _repository(hub_id: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"datasets--{hub_id.replace('/', '--')}"


def _patterns(config: str | None) -> list[str]:
    return [f"{config}/*{suffix}" if config else f"*{suffix}" for suffix in files.SUFFIXES]


def _cached(entry: CorpusEntry | TaskEntry, patterns: list[str], split: str) -> Path | None:
    commit = cached_commit(entry.hub_id, entry.revision)
    if commit is None:
        return None
    folder = _repository(entry.hub_id) / "snapshots" / commit
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    words = files.split_names(split)
    there = [
        name
        for name in names
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
        and any(word in name for word in words)
    ]
    whole = entry.hub_id in PARTS or _whole(there)
    return folder if there and whole else None


def _whole(names: Iterable[str]) -> bool:
    """Return whether no shard is missing, as it is after a download that was cut off."""
    shards = [match for match in map(SHARD.fullmatch, names) if match]
    found = Counter((shard["set"], shard["total"]) for shard in shards)
    return all(n == int(total) for (_, total), n in found.items())


def _download(entry: CorpusEntry | TaskEntry, patterns: list[str]) -> Path:
    from huggingface_hub import constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        raise CellCannotRun(
            f"the files of {entry.hub_id} are not all in the hub's cache and HF_HUB_OFFLINE is set",
            where=str(_repository(entry.hub_id)),
            fix=f"Unset HF_HUB_OFFLINE, or give a local copy: --local {entry.name}=PATH",
        )
    try:
        return Path(
            snapshot_download(
                entry.hub_id,
                repo_type="dataset",
                revision=cached_commit(entry.hub_id, entry.revision) or entry.revision,
                allow_patterns=patterns,
            )
        )
    except (OSError, ValueError) as error:  # the hub's errors are OSErrors, a bad name a ValueError
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CellCannotRun(
            f"{entry.hub_id} could not be fetched from the hub: {reason}",
            fix="Check the network and `hf auth login`, or give a local copy: "
            f"--local {entry.name}=PATH",
        ) from error
