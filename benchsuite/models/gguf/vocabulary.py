"""A tokenizer as the metadata of a GGUF file: what `tokenizer` reads, the other way.

Byte-level BPE whose way to split text has a name in llama.cpp is written; others are not.
"""

import json
from typing import Any

from benchsuite.models.gguf.tokenizer import CONTROL, GPT2, NORMAL, SPLITTINGS, UNUSED, USER_DEFINED

_DIGIT = r"\p{N}"


def vocabulary(tokenizer: Any, size: int) -> dict[str, Any] | None:
    """Return the keys of a fast tokenizer, without ``tokenizer.``; None where it is not written.

    ``size`` is how many tokens the model embeds: those that the tokenizer lacks are unused.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    said = json.loads(backend.to_str())
    splitting = _splitting(said)
    if splitting is None:
        return None
    ids = tokenizer.get_vocab()
    if max(ids.values()) >= size:
        return None
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [UNUSED] * size
    for token, number in ids.items():
        tokens[number], types[number] = token, NORMAL
    for added in said["added_tokens"]:
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    merges = [m if isinstance(m, str) else " ".join(m) for m in said["model"]["merges"]]
    found: dict[str, Any] = {
        "ggml.model": "gpt2",
        "ggml.pre": splitting,
        "ggml.tokens": tokens,
        "ggml.token_type": types,
        "ggml.merges": merges,
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("padding", "pad")):
        number = getattr(tokenizer, f"{key}_token_id", None)
        if number is not None:
            found[f"ggml.{name}_token_id"] = number
    around = tokenizer("a").input_ids
    for key, place in (("bos", 0), ("eos", -1)):
        own = getattr(tokenizer, f"{key}_token_id", None)
        found[f"ggml.add_{key}_token"] = own is not None and around[place] == own
    template = getattr(tokenizer, "chat_template", None)
    return found | ({"chat_template": template} if isinstance(template, str) else {})


def _splitting(said: dict[str, Any]) -> str | None:
    """Return the name of how a tokenizer splits text, None where it has none or is of no such kind.

    Of ``\\d`` and ``\\p{N}``, which differ in characters such as superscripts, llama.cpp knows the
    second.
    """
    model, steps = said["model"], said["pre_tokenizer"] or {}
    if model["type"] != "BPE" or model.get("byte_fallback") or not model["merges"]:
        return None
    patterns: list[str] = []
    for step in steps.get("pretokenizers", [steps]):
        if step.get("type") == "Split" and step["behavior"] == "Isolated":
            pattern = step["pattern"].get("Regex", "")
            patterns.append(_DIGIT if pattern == r"\d" else pattern)
        elif step.get("type") == "Digits" and step["individual_digits"]:
            patterns.append(_DIGIT)
        elif step.get("type") == "ByteLevel" and not step["add_prefix_space"]:
            patterns += [GPT2] if step["use_regex"] else []
        else:
            return None
    nfc = (said["normalizer"] or {}).get("type")
    for name, known in SPLITTINGS.items():
        same = list(known.patterns) == patterns and nfc == ("NFC" if known.nfc else None)
        if same and known.whole == bool(model.get("ignore_merges")):
            return name
    return None
