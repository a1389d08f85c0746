"""Where a data set's files are: one directory, four layouts, no network and no data library.

A hub snapshot (parquet, jsonl or text files named by split), a ``datasets.save_to_disk`` folder, a
hub cache (``datasets--org--name/snapshots/...``, or the folder that holds it), a plain folder.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from benchsuite.corpora.file_digests import FileDigests
from benchsuite.errors import UsageError

# In the order of preference where one split is there in several formats.
FORMATS = (
    (".parquet",),
    (".arrow",),
    (".jsonl", ".json", ".jsonl.gz", ".json.gz"),
    (".txt", ".raw", ".tokens"),
)
_SPLIT_NAMES = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev"},
    "test": {"test", "testing"},
}
_digests = FileDigests()


def find(root: Path, split: str, *, config: str | None = None, hub_id: str = "") -> list[Path]:
    """Return the files of one split under ``root``, in the order of their names.

    ``config`` narrows a snapshot to the folder of that name where there is one. Raises
    ``UsageError`` naming the directory, the splits found and what is expected.
    """
    if not root.is_dir():
        raise UsageError(
            f"{'not a directory' if root.exists() else 'no such directory'}: {root}",
            fix="Give the directory that holds the data set's files",
        )
    base = _snapshot(root, hub_id)
    if (base / "dataset_dict.json").exists() or (base / "state.json").exists():
        return _saved(base, split)
    if config and (base / config).is_dir():
        base = base / config
    data = [path for path in sorted(base.rglob("*")) if _is_data(path, base)]
    wanted = [path for path in data if _words(path, base) & split_names(split)]
    for suffixes in FORMATS:
        found = [path for path in wanted if path.name.endswith(suffixes)]
        if found:
            return found
    seen = sorted(
        known
        for known, names in _SPLIT_NAMES.items()
        if any(_words(path, base) & names for path in data)
    )
    raise _missing_split(base, split, seen, len(data))


def split_names(split: str) -> set[str]:
    """Return the words that name a split in a file's path: ``valid`` or ``dev`` for validation."""
    return _SPLIT_NAMES.get(split, {split})


def digest(files: list[Path], read: str) -> str:
    """Return the sha256 of what is read: the files' formats and contents in order, and ``read``.

    ``read`` says what is taken from them: a column, a schema. The format is a name's ending, as the
    same bytes are other rows in ``train.txt`` and in ``train.raw``.
    """
    total = hashlib.sha256(read.encode())
    for file in files:
        ending = next(suffix for group in FORMATS for suffix in group if file.name.endswith(suffix))
        total.update(f"\0{ending}\0{_digests.sha256(file)}".encode())
    return total.hexdigest()


def _snapshot(root: Path, hub_id: str) -> Path:
    """Follow a hub cache down to the snapshot that ``main`` points to, or its only one."""
    folder = "datasets--" + hub_id.replace("/", "--")
    for repository in (root, root / folder, root / "hub" / folder):
        snapshots = repository / "snapshots"
        if not snapshots.is_dir():
            continue
        main = repository / "refs" / "main"
        names = sorted(path.name for path in snapshots.iterdir() if path.is_dir())
        if main.is_file() and main.read_text().strip() in names:
            return snapshots / main.read_text().strip()
        if len(names) == 1:
            return snapshots / names[0]
        raise UsageError(
            f"the hub cache {repository} holds {len(names)} snapshots and no refs/main to choose",
            fix=f"Give one of {snapshots}/*",
        )
    return root


def _saved(base: Path, split: str) -> list[Path]:
    """Return the Arrow files of a ``save_to_disk`` folder: of one split, or of a dictionary."""
    if (base / "dataset_dict.json").exists():
        splits = _state(base / "dataset_dict.json", "splits")
        folder = base / split
    else:
        splits = [_state(base / "state.json").get("_split") or split]
        folder = base
    if split not in splits or not (folder / "state.json").exists():
        raise _missing_split(base, split, sorted(map(str, splits)), len(splits))
    parts = _state(folder / "state.json", "_data_files")
    names = [part.get("filename") if isinstance(part, dict) else None for part in parts]
    missing = [str(name) for name in names if not name or not (folder / name).is_file()]
    if missing or not names:
        raise _unreadable(folder / "state.json", f"names no files that are there: {missing}")
    return [folder / str(name) for name in names]


def _state(file: Path, key: str = "") -> Any:
    """Return what a ``save_to_disk`` folder says of itself: all of it, or the list under a key."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(file, f"is not JSON: {error}") from error
    if not isinstance(content, dict) or (key and not isinstance(content.get(key), list)):
        raise _unreadable(file, f"is no JSON object{f' with a list {key!r}' if key else ''}")
    return content[key] if key else content


def _unreadable(file: Path, why: str) -> UsageError:
    return UsageError(f"{file} {why}", fix="Save the data set again with save_to_disk, or copy it")


def _is_data(path: Path, base: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(base).parts)
    return not hidden and path.name.endswith(sum(FORMATS, ())) and path.is_file()


def _words(path: Path, base: Path) -> set[str]:
    """Return the words of the file's name, and of its folders where the name says no split."""
    name, *folders = (set(re.split(r"[^a-z0-9]+", part.lower())) for part in _parts(path, base))
    known = set().union(*_SPLIT_NAMES.values())
    return name if name & known else name.union(*folders)


def _parts(path: Path, base: Path) -> tuple[str, ...]:
    return path.relative_to(base).parts[::-1]


def _missing_split(base: Path, split: str, seen: list[str], n_files: int) -> UsageError:
    there = f"found {n_files} data files" + (f" of {', '.join(seen)}" if seen else "")
    return UsageError(
        f"no {split} split under {base}: {there}",
        fix=f"Expected files with {split!r} in their name or folder, as {split}.parquet, "
        f"{split}-00000-of-00001.parquet, {split}.jsonl or {split}.txt, or a save_to_disk folder",
    )
