"""Where a data set's files are: five layouts, no network and no data library.

A hub snapshot (parquet, jsonl, csv or text files named by split), a ``datasets.save_to_disk``
folder, a hub cache (``datasets--org--name/snapshots/...``, or the folder that holds it), a plain
folder, one file.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from benchsuite.corpora.file_digests import FileDigests
from benchsuite.corpora.shards import one_set
from benchsuite.corpora.table import JSONS, TABLES, TEXTS, unpacked
from benchsuite.errors import UsageError

# In the order of preference where one split is there in several formats.
FORMATS = ((".parquet",), (".arrow",), JSONS, TABLES, TEXTS)
SUFFIXES = sum(FORMATS, ())
# The first name that is there counts: beside ``val`` files, MMLU's ``dev`` ones are another split.
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_KNOWN_NAMES = {name for names in _SPLIT_NAMES.values() for name in names}
_digests = FileDigests()


class MissingSplit(UsageError):
    """The files hold other splits than the one that is asked for."""


def find(
    root: Path,
    split: str,
    *,
    config: str | None = None,
    hub_id: str = "",
    alone: str = "",
    per_subject: bool = False,
    partial: bool = False,
) -> list[Path]:
    """Return the files of one split in their order: under ``root``, or the file ``root``.

    ``config`` narrows to the folder of that name, or else to the paths that have its words, where
    there are any. ``alone`` is the split that a single file stands for whose name says none.
    ``per_subject`` says that a folder may hold one CSV file for each subject, and ``partial`` that
    shards may be missing. Raises ``MissingSplit`` naming the
    directory, the splits found and what is expected, and ``UsageError`` for files of which only
    one can be meant, and for missing shards.
    """
    if root.is_file():
        return _single(root, split, alone)
    if not root.is_dir():
        raise UsageError(
            f"{'not a file or directory' if root.exists() else 'no such directory'}: {root}",
            fix="Give the directory that holds the data set's files, or one file",
        )
    base = _snapshot(root, hub_id)
    if (base / "dataset_dict.json").exists() or (base / "state.json").exists():
        return _saved(base, split)
    if config and (base / config).is_dir():
        base = base / config
    there = {path for path in base.rglob("*") if _is_data(path, base)}
    # What lies beside its own packed form was unpacked there.
    data = sorted(path for path in there if unpacked(path) == path or unpacked(path) not in there)
    found, suffixes = _named(data, base, split)
    if found:
        parts = per_subject and suffixes == TABLES
        return one_set(_narrowed(found, base, config), split, per_subject=parts, partial=partial)
    unnamed = [path for path in data if not path.name.endswith(TEXTS)]
    if split == alone and len(unnamed) == 1 and not _words(unnamed[0], base) & _KNOWN_NAMES:
        return unnamed
    seen = sorted(
        known
        for known, names in _SPLIT_NAMES.items()
        if any(_words(path, base).intersection(names) for path in data)
    )
    raise _missing_split(base, split, seen, len(data)) if data else _no_files(base)


def _named(data: list[Path], base: Path, split: str) -> tuple[list[Path], tuple[str, ...]]:
    """Return the files whose names say the split, of the first format that has any, and that."""
    for name in split_names(split):
        wanted = [path for path in data if name in _words(path, base)]
        for suffixes in FORMATS:
            found = [path for path in wanted if path.name.endswith(suffixes)]
            if found:
                return found, suffixes
    return [], ()


def split_names(split: str) -> tuple[str, ...]:
    """Return the words that name a split in a file's path: ``valid`` or ``dev`` for validation."""
    return _SPLIT_NAMES.get(split, (split,))


def _single(file: Path, split: str, alone: str) -> list[Path]:
    """Return one file as a split: the one that its name says, ``alone``, or several joined."""
    if not file.name.endswith(SUFFIXES):
        raise UsageError(
            f"{file} is no data file", fix=f"Expected a name that ends in {', '.join(SUFFIXES)}"
        )
    words = _words(file, file.parent)
    mine = words.intersection(split_names(split)) or "+" in split
    if mine or (not words & _KNOWN_NAMES and split == alone):
        return [file]
    named = sorted(words & _KNOWN_NAMES)
    raise MissingSplit(
        f"the file {file} is not the {split} split: its name says "
        f"{named[0] if named else 'no split'}",
        fix=f"Give a folder with one file for each split, as {split}{_ending(file)}",
    )


def _narrowed(found: list[Path], base: Path, config: str | None) -> list[Path]:
    """Return the paths that have the words of ``config``, ``ARC-Easy-Test.jsonl``; or all."""
    words = _split_words(config or "")
    if not words or len(found) == 1:
        return found
    mine = [path for path in found if words <= _split_words(str(path.relative_to(base)))]
    return mine or found


def digest(files: list[Path], read: str) -> str:
    """Return the sha256 of what is read: the files' formats and contents in order, and ``read``.

    ``read`` says what is taken from them: a column, a schema. The format is a name's ending, as the
    same bytes are other rows in ``train.txt`` and in ``train.raw``; of a CSV file it is the name,
    which may say the subject of its questions.
    """
    total = hashlib.sha256(read.encode())
    for file in files:
        ending = _ending(file)
        if ending in TABLES:
            ending = file.name
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
    return not hidden and path.name.endswith(SUFFIXES) and path.is_file()


def _words(path: Path, base: Path) -> set[str]:
    """Return the words of the file's name, and of its folders where the name says no split."""
    name, *folders = map(_split_words, path.relative_to(base).parts[::-1])
    return name if name & _KNOWN_NAMES else name.union(*folders)


def _split_words(text: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", text.lower())) - {""}


def _ending(file: Path) -> str:
    return next(suffix for suffix in SUFFIXES if file.name.endswith(suffix))


def _no_files(base: Path) -> MissingSplit:
    others = sorted(path.name for path in base.rglob("*") if path.is_file())
    there = f": it holds {', '.join(others[:3])}" if others else ""
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return MissingSplit(
        f"no data file is under {base}{there}{more}",
        fix=f"Expected names that end in {', '.join(SUFFIXES)}, or a save_to_disk folder",
    )


def _missing_split(base: Path, split: str, seen: list[str], n_files: int) -> MissingSplit:
    there = f"found {n_files} data files" + (f" of {', '.join(seen)}" if seen else "")
    return MissingSplit(
        f"no {split} split under {base}: {there}",
        fix=f"Expected files with {split!r} in their name or folder, as {split}.parquet, "
        f"{split}-00000-of-00001.parquet, {split}.jsonl or {split}.txt, or a save_to_disk folder",
    )
