"""The tokenizer that a GGUF file becomes, against independent statements of the same rules."""

import json
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("gguf")

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import benchsuite.embedded
from benchsuite.errors import BenchsuiteError
from benchsuite.models.gguf import dequantized_folder
from benchsuite.models.gguf.reader import Gguf
from benchsuite.models.gguf.tokenizer import read_tokenizer
from tests.models.gguf import files

TEXTS = [
    "The capital of France is",
    " leading and  double   spaces    and\ttabs\t\t",
    "line\n\nbreaks\r\n\r\n  indented\n\n\n end ",
    "def f(x):\n    return {'a': x**2, \"b\": [1, 2, 3]}  # comment\n\tpass\n",
    "naïve café — “quotes” … 日本語のテキスト 한국어 русский 🙂 cafe\u0301",
    "12345 3.14159 1,000,000 2024-01-02 0x1F",
    "It's we'll I'D they've CAN'T",
    "$\\frac{a}{b}$ != >= <= && || ::=",
    "<s>text</s>",
    "",
    " ",
    "\n",
]
# As llama.cpp's source writes them, without the case-insensitive groups of the models' own files.
ENDINGS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
MODERN = (
    ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
SPLITS = {
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "qwen2": [MODERN % ""],
    "llama-bpe": [MODERN % "{1,3}"],
    "dbrx": [MODERN % "{1,3}"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model of 300 embeddings, and a folder for its files."""
    return files.model("llama"), tmp_path_factory.mktemp("small")


@pytest.fixture(scope="module")
def opened(small):
    """Read the tokenizer that metadata describe."""
    built, folder = small

    def read(**changes):
        path = folder / "tokenizer.gguf"
        files.write(path, built, tokenizer=files.byte_tokenizer(**changes))
        return read_tokenizer(Gguf(path), context=512)

    return read


def split(backend, text):
    """Return the parts that no token crosses."""
    return [text[start:end] for _, (start, end) in backend.pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize("pre", SPLITS)
def test_text_is_split_as_llama_cpp_splits_it(pre, opened):
    """Each pattern in turn over what the last one left; what none matches stays together."""
    backend = opened(pre=pre).backend
    for text in TEXTS:
        parts = [text]
        for pattern in SPLITS[pre]:
            parts = [part for piece in parts for part in regex.split(f"({pattern})", piece) if part]
        assert split(backend, text) == parts


@pytest.mark.parametrize(
    ("pre", "parts"),
    [
        ("tekken", ["HTTPServer", "Error", " camel", "Case", " it", "'s", " ", "1", "2", "3", "4"]),
        ("gpt-4o", ["HTTPServer", "Error", " camel", "Case", " it's", " ", "123", "4"]),
    ],
)
def test_names_in_code_are_split_where_their_case_changes(pre, parts, opened):
    text = "HTTPServerError camelCase it's 1234"
    assert split(opened(pre=pre).backend, text) == parts


def test_a_real_vocabulary_gives_the_tokens_that_its_own_file_gives(tmp_path):
    source = Path(benchsuite.embedded.__file__).parent / "tokenizer/tokenizer.json"
    model = json.loads(source.read_text(encoding="utf-8"))["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    tokenizer = files.byte_tokenizer(
        pre="smollm",
        tokens=tokens,
        token_type=[3, 3, 3] + [1] * (len(tokens) - 3),
        merges=[" ".join(pair) for pair in model["merges"]],
    )
    built = files.model("llama", vocab_size=len(tokens))
    path = files.write(tmp_path / "a.gguf", built, tokenizer=tokenizer)
    original = Tokenizer.from_file(str(source))
    read = AutoTokenizer.from_pretrained(dequantized_folder(path, tmp_path / "cache"))
    for text in TEXTS:
        assert read(text).input_ids == original.encode(text).ids
        assert read.decode(read(text).input_ids, skip_special_tokens=True) == text.replace(
            "<s>", ""
        ).replace("</s>", "")


@pytest.mark.parametrize("model_type", files.ARCHITECTURES)
def test_transformers_takes_the_tokenizer_as_its_file_says(model_type, tmp_path):
    tokenizer = files.byte_tokenizer() | {"tokenizer.chat_template": "{{ messages[0].content }}!"}
    path = files.write(tmp_path / "a.gguf", files.model(model_type), tokenizer=tokenizer)
    folder = dequantized_folder(path, tmp_path / "cache")
    read = PreTrainedTokenizerFast.from_pretrained(folder)
    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS:
        assert read(text).input_ids == raw.encode(text).ids
        assert read(text).input_ids[0] == 0
        assert read(text, add_special_tokens=False).input_ids == raw.encode(text).ids[1:]
    assert (read.bos_token, read.eos_token, len(read)) == ("<s>", "</s>", 259)
    assert read.model_max_length == 512
    chat = [{"role": "user", "content": "Hi"}]
    assert read.apply_chat_template(chat, tokenize=False) == "Hi!"


def test_bos_and_eos_are_added_as_the_file_says(opened):
    for bos in (True, False):
        for eos in (True, False):
            read = opened(add_bos_token=bos, add_eos_token=eos)
            ids = read.backend.encode("\x00").ids  # one byte, which is one token
            assert (ids[0] == 0, ids[-1] == 1, len(ids)) == (bos, eos, 1 + bos + eos)
            assert read.config["add_bos_token"] == bos
            assert read.config["add_eos_token"] == eos


def test_llama3_text_begins_with_bos_where_the_file_does_not_say(opened):
    assert opened(pre="llama-bpe", add_bos_token=None).backend.encode("x").ids[0] == 0
    assert opened(pre="gpt-2", add_bos_token=None).backend.encode("x").ids[0] != 0


def test_llama3_takes_a_whole_word_of_the_vocabulary_whatever_the_merges_say(opened):
    vocabulary = files.byte_tokenizer()
    tokens = [*vocabulary["tokenizer.ggml.tokens"], "word"]
    types = [*vocabulary["tokenizer.ggml.token_type"], 1]
    for pre, length in (("llama-bpe", 1), ("qwen2", 4)):
        read = opened(pre=pre, tokens=tokens, token_type=types, add_bos_token=False)
        assert len(read.backend.encode("word").ids) == length


def test_qwen_composes_letters_and_marks(opened):
    read = opened(pre="qwen2").backend
    assert read.encode("cafe\u0301").ids == read.encode("caf\u00e9").ids
    plain = opened(pre="llama-bpe").backend
    assert plain.encode("cafe\u0301").ids != plain.encode("caf\u00e9").ids


def test_answers_end_with_each_token_that_the_file_states_or_names(opened):
    vocabulary = files.byte_tokenizer()
    tokens = [*vocabulary["tokenizer.ggml.tokens"], "<|eot_id|>", "<end_of_turn>", "<|im_end|>"]
    types = [*vocabulary["tokenizer.ggml.token_type"], 3, 4, 1]
    read = opened(tokens=tokens, token_type=types, eot_token_id=2, eom_token_id=None)
    named = [tokens.index("<|eot_id|>"), tokens.index("<end_of_turn>")]
    assert read.end_ids == [1, 2, *named]  # "<|im_end|>" is ordinary text here


def test_padding_of_the_embeddings_is_no_token(opened):
    vocabulary = files.byte_tokenizer()
    tokens = [*vocabulary["tokenizer.ggml.tokens"], "[PAD0]", "[PAD1]"]
    types = [*vocabulary["tokenizer.ggml.token_type"], 5, 5]
    assert opened(tokens=tokens, token_type=types).backend.get_vocab_size() == 259


def test_white_space_after_a_token_of_phi3_belongs_to_it(tmp_path):
    path = files.write(tmp_path / "a.gguf", files.model("phi3"), tokenizer=pieces())
    read = read_tokenizer(Gguf(path), 512).backend
    assert read.encode("<end>\n a").ids == read.encode("<end>a").ids
    assert read.encode("<s>\n a").ids != read.encode("<s>a").ids


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = [*"▁abc", "ab", "bc", "abc", "▁a", "▁ab", "aa", "aab", "▁b", "cc", "▁▁b", "▁abc"]


def pieces(order=tuple(range(15)), **changes):
    """SentencePiece's metadata; ``order`` says which piece is merged when."""
    own = ["  ", "\n\n", "<b>"]
    tokens = ["<unk>", "<s>", "</s>", "<end>", *BYTES, *own, *PIECES]
    found = {
        "model": "llama",
        "pre": "default",
        "tokens": tokens,
        "scores": [0.0] * (len(tokens) - len(PIECES)) + [-float(rank) for rank in order],
        "token_type": [2, 3, 3, 3] + [6] * 256 + [4] * len(own) + [1] * len(PIECES),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
        "add_bos_token": True,
        "add_space_prefix": False,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (found | changes).items()}


def sentence_piece(text, metadata):
    """Return the ids of a text without special tokens, as SentencePiece finds them.

    The user's pieces are cut out first, the longest where several begin. In each part the two
    neighbours whose union has the highest score are joined, the first of equals, until no union is
    a piece; what is no piece at the end is its bytes.
    """
    tokens, kinds, scores = (
        metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type", "scores")
    )
    own = sorted((t for t, kind in zip(tokens, kinds, strict=True) if kind == 4), key=len)[::-1]
    normal = {t: s for t, kind, s in zip(tokens, kinds, scores, strict=True) if kind == 1}
    ids, found = {token: i for i, token in enumerate(tokens)}, []
    for part in regex.split("(" + "|".join(map(regex.escape, own)) + ")", text):
        if part in own:
            found.append(ids[part])
            continue
        symbols = list(part.replace(" ", "▁"))
        while True:
            unions = [symbols[i] + symbols[i + 1] for i in range(len(symbols) - 1)]
            known = [i for i, union in enumerate(unions) if union in normal]
            if not known:
                break
            best = max(known, key=lambda i: (normal[unions[i]], -i))
            symbols[best : best + 2] = [unions[best]]
        for symbol in symbols:
            parts = [symbol] if symbol in normal else [BYTES[b] for b in symbol.encode()]
            found += [ids[each] for each in parts]
    return found


@settings(max_examples=150, deadline=None)
@given(
    order=st.permutations(range(len(PIECES))),
    texts=st.lists(st.text(st.sampled_from("abc ▁\né<>"), max_size=24), min_size=5, max_size=5),
)
def test_pieces_are_joined_as_sentence_piece_joins_them(order, texts, small):
    built, folder = small
    metadata = pieces(order)
    path = files.write(folder / "pieces.gguf", built, tokenizer=metadata)
    backend = read_tokenizer(Gguf(path), 512).backend
    for text in [*texts, "<b>ab  abc\n\n"]:
        assert backend.encode(text).ids == [1, *sentence_piece(text, metadata)]


def test_a_space_is_put_before_each_stretch_of_text_where_the_file_asks(small):
    built, folder = small
    path = files.write(folder / "a.gguf", built, tokenizer=pieces(add_space_prefix=True))
    read = read_tokenizer(Gguf(path), 512).backend
    assert read.encode("ab<end>b").tokens == ["<s>", "▁ab", "<end>", "▁b"]
    assert read.decode(read.encode("ab c").ids) == "ab c"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pre": "poro-chat"}, "rules named 'poro-chat'"),
        ({"pre": None}, "rules named None"),
        ({"model": "t5"}, "of the kind 't5'"),
        ({"model": None}, "of the kind None"),
        ({"merges": ["t h", "t hh"]}, "the merge 't hh'"),
        ({"merges": None}, "merges has no list"),
        ({"tokens": None}, "tokens has no list"),
        ({"token_type": [1, 2]}, "token_type has 2 values for 259 tokens"),
        ({"eos_token_id": 259}, "eos_token_id is 259, and its last token is 258"),
    ],
)
def test_a_vocabulary_that_is_not_known_is_refused_by_name(changes, words, opened):
    with pytest.raises(BenchsuiteError, match=words) as raised:
        opened(**changes)
    assert raised.value.where.endswith("tokenizer.gguf")
    assert raised.value.fix


def test_a_vocabulary_larger_than_the_embeddings_or_with_a_token_twice_is_refused(opened):
    many = [f"token{i}" for i in range(301)]
    with pytest.raises(BenchsuiteError, match="has 301 tokens, and embeds 300"):
        opened(tokens=many, token_type=[1] * 301)
    with pytest.raises(BenchsuiteError, match="the token 'same' twice"):
        opened(tokens=["same", "same"], token_type=[1, 1])
