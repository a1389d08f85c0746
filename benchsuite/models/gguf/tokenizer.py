"""A GGUF file's vocabulary as the tokenizer files of a transformers checkpoint.

Two models of it are read. ``gpt2`` is byte-level BPE with merges, whose text is split first by
rules that the file only names; ``llama`` is SentencePiece's BPE, whose merges follow from the
pieces' scores. The rules are those of the models' own ``tokenizer.json`` and of llama.cpp's
``src/llama-vocab.cpp``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from benchsuite.models.gguf.reader import Gguf

# The types of a token in the file.
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
_SPACE = "▁"  # SentencePiece's
_ENDS = ("eos", "eot", "eom")
# What ends an answer beside the ids that a file states; llama.cpp goes by these names too.
_END_NAMES = (
    *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>"),
    *("<EOT>", "_<EOT>", "<|end_of_text|>", "<end_of_utterance>"),
)


@dataclass(frozen=True)
class _Splitting:
    """How text is split before byte-level BPE: by each pattern in turn, then into bytes.

    ``whole`` takes a part that is itself in the vocabulary as one token, whatever the merges say;
    ``bos`` says whether a text begins with the bos token where the file does not say.
    """

    patterns: tuple[str, ...]
    nfc: bool = False
    whole: bool = False
    bos: bool = False


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_LLAMA3 = rf"{_ENDING}|{_WORD}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_REST}"
_QWEN2 = rf"{_ENDING}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_REST}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CAMEL = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*",
)
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_TEKKEN = rf"{_CAMEL[0]}|{_CAMEL[1]}|\p{{N}}|{_SYMBOLS}|{_REST}"
_GPT4O = rf"{_CAMEL[0]}{_ENDING}?|{_CAMEL[1]}{_ENDING}?|\p{{N}}{{1,3}}|{_SYMBOLS}|{_REST}"
SPLITTINGS = {
    "gpt-2": _Splitting((GPT2,)),
    "smollm": _Splitting((r"\p{N}", GPT2)),
    "qwen2": _Splitting((_QWEN2,), nfc=True),
    "deepseek-r1-qwen": _Splitting((_QWEN2,), nfc=True),
    "llama-bpe": _Splitting((_LLAMA3,), whole=True, bos=True),
    "dbrx": _Splitting((_LLAMA3,)),  # Phi-4
    "gpt-4o": _Splitting((_GPT4O,)),  # Phi-4-mini
    "tekken": _Splitting((_TEKKEN,), whole=True, bos=True),  # Mistral-Nemo
    "default": _Splitting((r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
}


@dataclass(frozen=True)
class TokenizerFiles:
    """What a checkpoint folder needs of the vocabulary.

    ``config`` is ``tokenizer_config.json``; ``special_ids`` are bos, eos and pad as
    ``config.json`` has them; ``end_ids`` are all tokens that end an answer.
    """

    backend: Tokenizer
    config: dict[str, Any]
    special_ids: dict[str, int | None]
    end_ids: list[int]


def read_tokenizer(file: Gguf, context: int) -> TokenizerFiles:
    """Return the file's tokenizer; ``context`` is the longest text in tokens.

    Raises ``BenchsuiteError`` for a vocabulary, or a way to split text, that is not known here.
    """
    vocabulary = _Vocabulary(file)
    model = file.metadata.get("tokenizer.ggml.model")
    if model == "gpt2":
        splitting = _splitting(file)
        backend, bos = _byte_level(vocabulary, splitting), splitting.bos
    elif model == "llama":
        if file.metadata.get("tokenizer.ggml.pre", "default") != "default":
            raise _unknown_splitting(file, ["default"])
        backend, bos = _sentence_piece(vocabulary), True
    else:
        raise file.error(
            f"the file's tokenizer is of the kind {model!r}, which is not read",
            "Known: gpt2, llama; for others give the original checkpoint's folder",
        )
    _add_tokens(backend, vocabulary)
    adds = {
        "bos": file.metadata.get("tokenizer.ggml.add_bos_token", bos),
        "eos": file.metadata.get("tokenizer.ggml.add_eos_token", False),
    }
    frame = {name: vocabulary.special(name) if added else None for name, added in adds.items()}
    backend.post_processor = _post_processor(frame, byte_level=model == "gpt2")
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": frame["bos"] is not None,
        "add_eos_token": frame["eos"] is not None,
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("padding", "pad")):
        found = vocabulary.special(name)
        config[f"{key}_token"] = found[0] if found else None
    if template := file.metadata.get("tokenizer.chat_template"):
        config["chat_template"] = template
    ids = {name: vocabulary.special_id(name) for name in ("bos", "eos", "padding")}
    special = {"bos_token_id": ids["bos"], "eos_token_id": ids["eos"]}
    return TokenizerFiles(
        backend, config, special | {"pad_token_id": ids["padding"]}, vocabulary.ends()
    )


class _Vocabulary:
    """The file's tokens, by id, with their types and scores.

    Unused ones at the end only pad the embeddings, and are left out.
    """

    def __init__(self, file: Gguf) -> None:
        self.file = file
        tokens = self._list("tokens")
        types = self._list("token_type", len(tokens))
        used = max((i + 1 for i, kind in enumerate(types) if kind != UNUSED), default=0)
        self.tokens, self.types = tokens[:used], types[:used]
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self.ids) < len(self.tokens):
            twice = next(t for i, t in enumerate(self.tokens) if self.ids[t] != i)
            raise file.error(
                f"the file's vocabulary has the token {twice!r} twice",
                "Give the folder of the original checkpoint, with its tokenizer.json",
            )
        rows = file.tensors["token_embd.weight"].shape[0]
        if len(tokens) > rows:
            raise file.error(
                f"the file has {len(tokens)} tokens, and embeds {rows}",
                "Convert the model again, or download the file again",
            )

    def _list(self, key: str, length: int | None = None) -> list[Any]:
        values = self.file.metadata.get(f"tokenizer.ggml.{key}")
        if not isinstance(values, list) or length not in (None, len(values)):
            found = f"{len(values)} values" if isinstance(values, list) else "no list"
            raise self.file.error(
                f"the file's vocabulary cannot be read: tokenizer.ggml.{key} has {found}"
                + (f" for {length} tokens" if length is not None else ""),
                "Convert the model again with a present llama.cpp",
            )
        return values

    def merges(self) -> list[tuple[str, str]]:
        """Return the merges of byte-level BPE in their order."""
        pairs = [tuple(merge.split(" ")) for merge in self._list("merges")]
        for pair in pairs:
            if len(pair) != 2 or not self.ids.keys() >= {*pair, "".join(pair)}:
                raise self.file.error(
                    f"the file's vocabulary cannot be read: the merge {' '.join(pair)!r} is not "
                    "of two tokens into a third",
                    "Convert the model again, or download the file again",
                )
        return pairs

    def scores(self) -> list[float]:
        """Return the pieces' scores: the highest is merged first."""
        length = len(self.file.metadata["tokenizer.ggml.tokens"])
        return self._list("scores", length)[: len(self.tokens)]

    def special_id(self, name: str) -> int | None:
        """Return the id of ``tokenizer.ggml.NAME_token_id``, None where the file has none."""
        key = f"tokenizer.ggml.{name}_token_id"
        found = self.file.metadata.get(key)
        if found is not None and not 0 <= found < len(self.tokens):
            raise self.file.error(
                f"the file's {key} is {found}, and its last token is {len(self.tokens) - 1}",
                "Convert the model again, or download the file again",
            )
        return found

    def special(self, name: str) -> tuple[str, int] | None:
        """Return text and id of a special token."""
        found = self.special_id(name)
        return None if found is None else (self.tokens[found], found)

    def ends(self) -> list[int]:
        """Return the ids that end an answer, the eos token first."""
        stated = [self.special_id(name) for name in _ENDS]
        named = [self.ids[name] for name in _END_NAMES if name in self.ids]
        control = [i for i in named if self.types[i] in (CONTROL, USER_DEFINED)]
        return list(dict.fromkeys(i for i in [*stated, *control] if i is not None))


def _splitting(file: Gguf) -> _Splitting:
    name = file.metadata.get("tokenizer.ggml.pre")
    if name not in SPLITTINGS:
        raise _unknown_splitting(file, SPLITTINGS)
    return SPLITTINGS[name]


def _unknown_splitting(file: Gguf, known: Any) -> Exception:
    name = file.metadata.get("tokenizer.ggml.pre")
    return file.error(
        f"the file's tokenizer splits text by rules named {name!r} (tokenizer.ggml.pre), which "
        "are not known here, and others would give other tokens",
        f"Known: {', '.join(known)}; for others give the folder of the original checkpoint",
    )


def _byte_level(vocabulary: _Vocabulary, splitting: _Splitting) -> Tokenizer:
    backend = Tokenizer(
        models.BPE(vocabulary.ids, vocabulary.merges(), ignore_merges=splitting.whole)
    )
    if splitting.nfc:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(p), "isolated") for p in splitting.patterns),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentence_piece(vocabulary: _Vocabulary) -> Tokenizer:
    unknown = vocabulary.special("unknown")
    backend = Tokenizer(
        models.BPE(
            vocabulary.ids,
            _merges_by_score(vocabulary.tokens, vocabulary.types, vocabulary.scores()),
            unk_token=unknown[0] if unknown else None,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaced = vocabulary.file.metadata.get("tokenizer.ggml.add_space_prefix", True)
    spaces = normalizers.Replace(" ", _SPACE)
    backend.normalizer = (
        normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if spaced else spaces
    )
    steps: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if spaced:
        steps.append(decoders.Strip(" ", 1, 0))
    backend.decoder = decoders.Sequence(steps)
    return backend


def _merges_by_score(
    tokens: Sequence[str], types: Sequence[int], scores: Sequence[float]
) -> list[tuple[str, str]]:
    """Return the merges that SentencePiece's BPE makes, the most urgent first.

    It joins the neighbours whose union is the piece with the highest score; control tokens, bytes
    and the user's own are no unions.
    """
    pieces = [i for i, kind in enumerate(types) if kind == NORMAL]
    known = {tokens[i] for i in pieces}
    ordered = sorted(pieces, key=lambda i: -scores[i])
    return [
        (piece[:cut], piece[cut:])
        for piece in (tokens[i] for i in ordered)
        for cut in range(1, len(piece))
        if piece[:cut] in known and piece[cut:] in known
    ]


def _add_tokens(backend: Tokenizer, vocabulary: _Vocabulary) -> None:
    """Let the control tokens, and those of the user, be found whole in a text."""
    for kind, add in (
        (CONTROL, backend.add_special_tokens),
        (USER_DEFINED, backend.add_tokens),
    ):
        add(
            [
                AddedToken(
                    token,
                    normalized=False,
                    special=kind == CONTROL,
                    rstrip=_swallows_space(vocabulary, token, kind),
                )
                for token, found in zip(vocabulary.tokens, vocabulary.types, strict=True)
                if found == kind
            ]
        )


def _swallows_space(vocabulary: _Vocabulary, token: str, kind: int) -> bool:
    """Return whether the white space after a token belongs to it, as in Phi-3's first models."""
    metadata = vocabulary.file.metadata
    phi3 = metadata["general.architecture"] == "phi3" and (
        metadata.get("tokenizer.ggml.model") == "llama"
    )
    return phi3 and kind == CONTROL and token not in ("<unk>", "<s>", "<|endoftext|>")


def _post_processor(frame: dict[str, tuple[str, int] | None], *, byte_level: bool) -> Any:
    """Return what puts bos before and eos after a text, where the file asks for them."""
    before, after = ([frame[name][0]] if frame[name] else [] for name in ("bos", "eos"))  # type: ignore[index]
    added = [token for token in frame.values() if token]
    steps: list[Any] = [processors.ByteLevel(trim_offsets=False)] if byte_level else []
    if added:
        second = [f"{token}:1" for token in before], [f"{token}:1" for token in after]
        steps.append(
            processors.TemplateProcessing(
                single=[*before, "$A", *after],
                pair=[*before, "$A", *after, *second[0], "$B:1", *second[1]],
                special_tokens=list(dict(added).items()),
            )
        )
    return processors.Sequence(steps)
