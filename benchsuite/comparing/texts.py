"""The text that both models read: a catalogued corpus' test split, or a file of the user's."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchsuite import catalog
from benchsuite.catalog import Sources
from benchsuite.corpora import load_text
from benchsuite.corpora.rows import read_column, read_text
from benchsuite.corpora.table import ROWS, TEXT_COLUMN
from benchsuite.errors import UsageError, unknown_name
from benchsuite.evaluation.elsewhere import Elsewhere
from benchsuite.evaluation.fitting import context_of, refuse_beyond
from benchsuite.evaluation.perplexity import begun_chunks, tokenize_protocol
from benchsuite.printable import count

SEQ_LEN = 512
"""Tokens a chunk: enough context to predict by, and many chunks for an interval."""

# Bytes of text that give a token at least, in the tokenizers of which one has heard.
_BYTES_A_TOKEN = 16


@dataclass(frozen=True)
class Text:
    """A text with its ``name`` and the sha256 ``digest`` of its bytes."""

    name: str
    joined: str = field(repr=False)
    digest: str


def open_text(word: str, sources: Sources = Sources()) -> Text:
    """Return the test split of a catalogued corpus, or the text of the file that ``word`` names.

    Of a file of rows (JSON lines, CSV, Parquet) that is its column ``text``, the rows joined with
    blank lines as a corpus' are. Raises ``UsageError`` for what is neither, and
    ``BenchsuiteError`` for a file that cannot be read or is no text.
    """
    if word in catalog.CORPORA:
        found = load_text(word, "test", sources)
        return Text(word, found.joined, found.digest)
    path = Path(word).expanduser()
    if not path.is_file():
        what = unknown_name("corpus", word, catalog.CORPORA)
        raise UsageError(f"{what.what}, and no file of that name is here", fix=what.fix)
    if path.name.endswith(ROWS):
        joined = "\n\n".join(read_column([path], TEXT_COLUMN))
    else:
        joined = read_text(path)
    return Text(path.name, joined, hashlib.sha256(joined.encode()).hexdigest())


def usual_length(model: nn.Module | Elsewhere) -> int:
    """Return the length of a chunk unless told: ``SEQ_LEN``, or the model's context if shorter."""
    return min(SEQ_LEN, context_of(model) or SEQ_LEN)


def chunk_ids(
    text: Text,
    tokenizer: Any,
    model: nn.Module | Elsewhere,
    tokens: int,
    seq_len: int,
    group: int = 1,
) -> Tensor:
    """Return the ids [N] int64 of the first whole chunks, at most ``tokens``, 0 for all.

    Raises ``UsageError`` for chunks beyond the model's context and for a text of fewer than two.
    """
    refuse_beyond(context_of(model), seq_len, "--seq-len", "--seq-len ")
    if seq_len < 2:
        raise UsageError(
            f"--seq-len is {seq_len}, and a chunk of one token predicts nothing",
            fix="Give --seq-len 2 or more",
        )
    shown = text.joined[: tokens * _BYTES_A_TOKEN] if tokens else text.joined
    ids = begun_chunks(tokenize_protocol(tokenizer, shown), tokenizer, seq_len)
    n_chunks = min(len(ids), tokens or len(ids)) // seq_len
    if n_chunks < 2:
        raise UsageError(
            f"{text.name} gives {count(n_chunks, 'chunk')} of {seq_len} tokens, and an interval "
            "needs two",
            fix="Give more --tokens, a longer text or a shorter --seq-len",
        )
    if n_chunks <= group:
        raise UsageError(
            f"--group {group} makes one item of the {n_chunks} chunks of {seq_len} tokens that "
            f"{text.name} gives, and an interval needs two",
            fix="Give more --tokens, a longer text, or a smaller --group",
        )
    return ids[: n_chunks * seq_len]
