"""A question as the token ids that a model reads: plain text, or its tokenizer's chat template.

Every study asks through here. A plain text gets the special tokens that its tokenizer puts before
a text, and none that it puts behind one: an end of text there would end the question, not the
answer. A conversation gets exactly what ``apply_chat_template`` makes of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from benchsuite.errors import BenchsuiteError, UsageError

Turn = Mapping[str, str]
"""One turn of a conversation: ``role`` (``user`` or ``assistant``) and ``content``."""
Prompt = str | Sequence[Turn]
"""A plain text that the answer goes on, or turns that it answers."""
Ids = list[int]

SETTINGS = ("auto", "on", "off")
# Where a template asks whether to think aloud first (Qwen3), the answer is no.
_THINKING = "enable_thinking"
_PROBE = "Seventeen"
_WITHOUT = (
    "correct it in the model's folder, or let a study ask without it: --set STUDY.chat_template=off"
)


def used(tokenizer: Any, setting: str) -> bool:
    """Say whether models are asked in the chat template: ``auto`` is wherever there is one.

    Raises ``UsageError`` for ``on`` where the tokenizer has none.
    """
    if setting not in SETTINGS:
        raise UsageError(f"chat_template is {setting!r}", fix=f"It is one of {', '.join(SETTINGS)}")
    there = bool(getattr(tokenizer, "chat_template", None))
    if setting == "on" and not there:
        raise UsageError(
            "this model's tokenizer has no chat template",
            fix="Set chat_template to off, or to auto, which uses one only where it is",
        )
    return there and setting != "off"


def told(tokenizer: Any, chat: bool) -> dict[str, Any]:
    """Return what a record says of it: ``in_chat_template``, and ``thinking`` if it is a choice."""
    choice = chat and _THINKING in str(tokenizer.chat_template)
    return {"in_chat_template": chat, **({"thinking": False} if choice else {})}


def encoded(tokenizer: Any, prompts: Sequence[Prompt]) -> list[Ids]:
    """Return the ids of every prompt, ready for the answer to follow."""
    _check_told(tokenizer, prompts)
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    plain = iter(_plain(tokenizer, texts))
    return [
        next(plain) if isinstance(prompt, str) else _conversation(tokenizer, prompt)
        for prompt in prompts
    ]


def continued(
    tokenizer: Any, asked: Sequence[tuple[Prompt, Sequence[str]]]
) -> list[tuple[Ids, list[Ids]]]:
    """Return the ids of every prompt, and those that each of its texts adds to it.

    Prompt and text are tokenized together and cut where the prompt alone ends, as lm-eval does:
    alone, a word at the beginning of a text may be another token. White space at the end of a plain
    prompt belongs to the text. In a chat the text begins the assistant's turn, and the template's
    own end belongs to the prompt. (lm-eval counts its last line break as part of every text: that
    is one constant per question, which ``acc`` does not see and ``acc_norm`` does.)
    """
    _check_told(tokenizer, (prompt for prompt, _ in asked))
    plain: list[str] = []
    chat: list[str] = []
    for prompt, texts in asked:
        if isinstance(prompt, str):
            begun = prompt.rstrip()
            blanks = prompt[len(begun) :]
            plain += [begun, *(f"{begun}{blanks}{text}" for text in texts)]
        else:
            begun = str(_templated(tokenizer, prompt, tokenize=False))
            chat += [begun + text for text in texts]
    # All at once: the tokenizer shares many texts out over the cores.
    of_plain, of_chat = iter(_plain(tokenizer, plain)), iter(_bare(tokenizer, chat))
    found = []
    for prompt, texts in asked:
        rows = of_plain if isinstance(prompt, str) else of_chat
        first = next(rows) if isinstance(prompt, str) else _conversation(tokenizer, prompt)
        added = [ids[len(first) :] for ids in islice(rows, len(texts))]
        alone = [ids or bare_ids(tokenizer, text) for ids, text in zip(added, texts, strict=True)]
        found.append((first, alone))
    return found


def turn_end(tokenizer: Any) -> int | None:
    """Return the token that ends an assistant's turn by the chat template, if there is one.

    Not every model names it among its ends of text: ``<end_of_turn>``, ``<|im_end|>``.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None
    turns = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": _PROBE}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # a template is a program, which fails in its own way
        return None
    after = text.rpartition(_PROBE)[2] if _PROBE in text else ""
    ids = bare_ids(tokenizer, after.lstrip())
    return ids[0] if ids and ids[0] in tokenizer.get_added_vocab().values() else None


def _conversation(tokenizer: Any, turns: Sequence[Turn]) -> Ids:
    return list(_templated(tokenizer, turns, tokenize=True, return_dict=True)["input_ids"])


def _templated(tokenizer: Any, turns: Sequence[Turn], **options: Any) -> Any:
    if _THINKING in str(tokenizer.chat_template):
        options[_THINKING] = False
    try:
        return tokenizer.apply_chat_template(
            [dict(turn) for turn in turns], add_generation_prompt=True, **options
        )
    except Exception as error:  # a template is a program, which fails in its own way
        said = " ".join(str(error).split())[:300]
        raise BenchsuiteError(
            f"the tokenizer's chat template refuses a conversation: {said}", fix=_WITHOUT
        ) from error


def _check_told(tokenizer: Any, prompts: Iterable[Prompt]) -> None:
    """Raise where the template leaves out what a turn says, as one that wants lists of parts does.

    The first conversation is looked at: all have the same template. Its questions would all be one
    prompt without a question.
    """
    turns = next((prompt for prompt in prompts if not isinstance(prompt, str)), ())
    text = str(_templated(tokenizer, turns, tokenize=False)) if turns else ""
    for turn in turns:
        said = turn["content"].strip()
        if said not in text:
            raise BenchsuiteError(
                f"the tokenizer's chat template leaves out what the {turn['role']} says: "
                f"{said[:60]!r}; one for images and text may want a list of parts there",
                fix=_WITHOUT,
            )


def _plain(tokenizer: Any, texts: Sequence[str]) -> list[Ids]:
    if not texts:
        return []
    n = _behind(tokenizer)
    rows = tokenizer(list(texts), verbose=False)["input_ids"]
    return [list(row[: len(row) - n]) for row in rows]


def _behind(tokenizer: Any) -> int:
    """Return how many special tokens the tokenizer puts behind a text."""
    whole, bare = list(tokenizer(_PROBE, verbose=False)["input_ids"]), bare_ids(tokenizer, _PROBE)
    for n in range(len(whole) - len(bare) + 1):
        end = len(whole) - n
        if whole[end - len(bare) : end] == bare:
            return n
    return 0


def bare_ids(tokenizer: Any, text: str) -> Ids:
    """Return the ids of a text alone, without special tokens before or behind it."""
    return _bare(tokenizer, [text])[0]


def _bare(tokenizer: Any, texts: Sequence[str]) -> list[Ids]:
    if not texts:
        return []
    rows = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [list(row) for row in rows]
