"""Which files are one split: shards in their order, and no two alternatives joined by accident."""

import re
from collections.abc import Sequence
from pathlib import Path

from benchsuite.corpora.table import unpacked
from benchsuite.errors import UsageError

# The hub's shards, and C4's: train-00000-of-00003.parquet, c4-train.00000-of-01024.json.gz.
SHARD = re.compile(r"(?P<set>.*?)[-._](?P<number>\d{2,})-of-(?P<total>\d{2,})(?P<rest>\D.*)")
_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d{2,})(?P<after>\D*)")
_SHOWN = 6


def one_set(found: Sequence[Path], split: str, *, per_subject: bool, partial: bool) -> list[Path]:
    """Return the files of one split in their order.

    Several files are one split where they are shards (``-00000-of-00003``), or numbered from 0 or 1
    without a gap (``0000.parquet``, ``0001.parquet``), or with ``per_subject`` where they lie in
    one folder. ``partial`` takes the shards that are there. Raises ``UsageError`` naming the files
    where there are other ones, and the shards that are missing.
    """
    if len({_series(path, per_subject) for path in found}) > 1:
        raise _several(found, split)
    if per_subject:
        return sorted(found)
    shards = {path: match for path in found if (match := SHARD.fullmatch(path.name))}
    if shards:
        return _sharded(shards, split, partial)
    return _numbered(found, split) if len(found) > 1 else list(found)


def _series(path: Path, per_subject: bool) -> tuple[object, ...]:
    """Return what the files of one split have in common."""
    if per_subject:
        return path.parent, unpacked(path).suffix
    if shard := SHARD.fullmatch(path.name):
        return path.parent, shard["set"], int(shard["total"])
    if number := _NUMBERED.fullmatch(path.name):
        return path.parent, number["before"], len(number["number"]), number["after"]
    return (path,)


def _sharded(shards: dict[Path, re.Match[str]], split: str, partial: bool) -> list[Path]:
    order = sorted(shards, key=lambda path: (int(shards[path]["number"]), path.name))
    numbers = [int(shards[path]["number"]) for path in order]
    total = int(next(iter(shards.values()))["total"])
    first = 1 if numbers[0] == 1 and numbers[-1] == total else 0
    expected = set(range(first, total + first))
    missing = sorted(expected - set(numbers))
    if len(set(numbers)) < len(numbers) or not expected >= set(numbers):
        raise _several(order, split)
    if missing and not partial:
        names = ", ".join(f"{n:05d}-of-{total:05d}" for n in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise UsageError(
            f"the {split} split has {len(order)} of its {total} shards: {names}{more} missing",
            where=str(order[0].parent),
            fix="Copy or download the missing files",
        )
    return order


def _numbered(found: Sequence[Path], split: str) -> list[Path]:
    def number(path: Path) -> int:
        match = _NUMBERED.fullmatch(path.name)
        return int(match["number"]) if match else 0

    order = sorted(found, key=number)
    numbers = [number(path) for path in order]
    if numbers[0] not in (0, 1) or numbers != list(range(numbers[0], numbers[0] + len(order))):
        raise _several(order, split)
    return order


def _several(found: Sequence[Path], split: str) -> UsageError:
    names = [path.name for path in found]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{path.name}" for path in found]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return UsageError(
        f"{len(names)} files match the {split} split, and they are not shards of one set: "
        f"{', '.join(names[:_SHOWN])}{more}",
        where=str(found[0].parent),
        fix=f"Give the one that is meant, as --local NAME={found[0]}, or keep it alone in a folder",
    )
