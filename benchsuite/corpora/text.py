"""Text corpora: the documents that calibration draws from, and the text that perplexity reads.

One corpus has two faces. ``documents`` are its non-empty rows, the pool that samplers choose from;
``joined`` is the published perplexity protocol's text, all rows as stored joined with blank lines.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchsuite import catalog
from benchsuite.catalog import CorpusEntry, Sources
from benchsuite.corpora import files, hub
from benchsuite.corpora.rows import read_column
from benchsuite.errors import BenchsuiteError, UsageError


@dataclass(frozen=True)
class TextCorpus:
    """One split of a text corpus.

    ``documents`` are the rows that hold more than white space, unchanged. ``rows`` are all rows
    where some are empty, and ``()`` where the documents are all there is. ``digest`` is the
    sha256 of all rows. ``source`` is ``embedded``, ``hub`` or ``local``; ``revision`` is the
    hub's commit hash, the digest of the local files, or empty.
    """

    name: str
    split: str
    documents: tuple[str, ...] = field(repr=False)
    digest: str
    source: str
    revision: str = ""
    rows: tuple[str, ...] = field(default=(), repr=False)

    @property
    def joined(self) -> str:
        """All rows, empty ones too, joined with blank lines: the perplexity protocol's text."""
        return "\n\n".join(self.rows or self.documents)


def load_text(name: str, split: str, sources: Sources = Sources()) -> TextCorpus:
    """Return one split of a catalogued corpus.

    A folder or file of ``sources`` stands in for the hub: a snapshot with parquet, jsonl, csv or
    text files, a ``save_to_disk`` folder, or a hub cache. Without it an embedded corpus is
    benchsuite's own file, any other is taken from the hub's cache or, unless ``HF_HUB_OFFLINE`` is
    set, downloaded. Raises ``BenchsuiteError`` for a missing split or column, or no text.
    """
    entry, place = catalog.corpus(name), sources.folder(name)
    if place is not None:
        found = _local_files(entry, place, split)
        revision = files.digest(found, entry.column)
        return _from_files(entry, split, found, "local", revision)
    if entry.embedded:
        from benchsuite.embedded import text

        digest = _embedded_digest(split)
        return TextCorpus(name, split, text.documents(split), digest, "embedded")
    snapshot = hub.fetch(entry, split)
    return _from_files(entry, split, snapshot.files, "hub", snapshot.commit, snapshot.rows)


def text_digest(name: str, split: str, sources: Sources = Sources()) -> str:
    """Return what identifies a corpus' bytes, cheaply enough to be asked at collection.

    Embedded: the pinned digest. Local: the sha256 of the split's files, remembered while their
    size and time stay. Hub: its commit, configuration and column (``hub.digest``).
    """
    entry, local = catalog.corpus(name), sources.folder(name)
    if local is not None:
        found = _local_files(entry, local, split)
        return files.digest(found, entry.column)
    if entry.embedded:
        return _embedded_digest(split)
    return hub.digest(entry, entry.column)


def rows_digest(rows: Iterable[str]) -> str:
    """Return the sha256 hex digest of texts: each one's UTF-8 bytes, ended by a zero byte."""
    total = hashlib.sha256()
    for row in rows:
        total.update(row.encode("utf-8", "surrogatepass") + b"\0")
    return total.hexdigest()


def _local_files(entry: CorpusEntry, local: Path, split: str) -> list[Path]:
    partial = entry.hub_id in hub.PARTS
    return files.find(local, split, config=entry.config, hub_id=entry.hub_id, partial=partial)


def _embedded_digest(split: str) -> str:
    from benchsuite.embedded import text

    if split not in text.SPLITS:
        raise UsageError(
            f"the embedded text has no split {split!r}", fix=f"It has {', '.join(text.SPLITS)}"
        )
    return text.digest(split)


def _from_files(
    entry: CorpusEntry,
    split: str,
    found: list[Path],
    source: str,
    revision: str,
    limit: int | None = None,
) -> TextCorpus:
    rows = tuple(read_column(found, entry.column, limit))
    documents = tuple(row for row in rows if row.strip())
    if not documents:
        raise BenchsuiteError(
            f"the {split} split of {entry.name!r} holds no text: {len(rows)} rows, all empty",
            where=", ".join(map(str, found[:3])),
            fix=f"Give files whose column {entry.column!r} has text",
        )
    kept = rows if len(documents) < len(rows) else ()
    return TextCorpus(entry.name, split, documents, rows_digest(rows), source, revision, rows=kept)
