"""What a model must beat: a Kneser-Ney 5-gram on text, trivial answers on tasks."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from benchsuite.embedded import prompts
from benchsuite.embedded.schema import Choice, Item, Problem


class KneserNey:
    """An interpolated modified Kneser-Ney model (Chen and Goodman, 1999) over token ids.

    The highest order counts n-grams, the lower ones count the different tokens seen before; each
    has its own discounts for counts of 1, 2 and more; below the unigrams lies the uniform
    distribution. N-grams are packed into int64, so vocabulary ** order must stay below 2 ** 63.
    """

    def __init__(self, ids: np.ndarray, *, order: int = 5, vocabulary: int = 2048) -> None:
        if vocabulary**order >= 2**63:
            raise ValueError(f"{order}-grams of {vocabulary} tokens do not fit into int64")
        self.order, self.vocabulary = order, vocabulary
        packed = self._pack(np.asarray(ids, np.int64), order)
        self._levels: list[_Level] = []
        for n in range(order, 0, -1):
            keys, counts = np.unique(packed, return_counts=True)
            self._levels.insert(0, _Level(keys, counts, vocabulary))
            packed = keys % vocabulary ** (n - 1)  # each different n-gram once, without its first

    def log_probabilities(self, ids: np.ndarray) -> np.ndarray:
        """Return log p [N - order + 1] in nats of every token with a whole context."""
        keys = self._pack(np.asarray(ids, np.int64), self.order)
        p = np.full(len(keys), 1.0 / self.vocabulary)
        for n, level in enumerate(self._levels, start=1):
            p = level.interpolate(keys % self.vocabulary**n, p)
        return np.log(p)

    def _pack(self, ids: np.ndarray, n: int) -> np.ndarray:
        packed = np.zeros(len(ids) - n + 1, np.int64)
        for offset in range(n):
            packed = packed * self.vocabulary + ids[offset : len(ids) - n + 1 + offset]
        return packed


class _Level:
    """The counts of one order: of n-grams (sorted keys) and of their contexts."""

    def __init__(self, keys: np.ndarray, counts: np.ndarray, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.keys = keys
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        self.contexts, starts = np.unique(keys // vocabulary, return_index=True)
        self.totals = np.add.reduceat(counts, starts).astype(np.float64)
        self.kept = counts - discounts
        self.freed = np.add.reduceat(discounts, starts) / self.totals

    def interpolate(self, keys: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Return p of the n-grams ``keys`` given the lower order's; unseen contexts leave it."""
        context, context_seen = _find(self.contexts, keys // self.vocabulary)
        ngram, seen = _find(self.keys, keys)
        direct = np.where(seen, self.kept[ngram], 0.0) / self.totals[context]
        return np.where(context_seen, direct + self.freed[context] * lower, lower)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Return the discounts for counts 0, 1, 2 and 3 or more (Chen and Goodman, equation 26)."""
    n1, n2, n3, n4 = (int((counts == c).sum()) for c in (1, 2, 3, 4))
    if not n1 or not n2:
        return np.array([0.0, 0.5, 0.5, 0.5])  # too little text to estimate them
    y = n1 / (n1 + 2 * n2)
    three = 3 - 4 * y * n4 / n3 if n3 else 1.0
    estimated = [0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, three]
    # A tenth at least, so that little text never leaves an unseen token without probability.
    return np.clip(estimated, [0, 0.1, 0.1, 0.1], [0, 1, 2, 3])


def _find(table: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    at = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return at, table[at] == keys


def trivial(train: Sequence[Item], test: Sequence[Item]) -> dict[str, float]:
    """Return the accuracy of each trivial way to answer ``test``, knowing the items of ``train``.

    ``majority`` gives the most common answer (for choices: letter); ``no_answer`` never answers;
    ``template`` gives the most common answer of the train questions whose template, the question
    without names and numbers, is the most similar (for choices: that option if it is there).
    """
    majority = _most_common([_answer(item) for item in train])
    found = {
        "majority": _share(test, [majority] * len(test)),
        "template": _share(test, _by_template(train, test, majority)),
    }
    if any(_answer(item) == prompts.NO_ANSWER for item in train):
        found["no_answer"] = _share(test, [prompts.NO_ANSWER] * len(test))
    return found


def _by_template(train: Sequence[Item], test: Sequence[Item], fallback: str) -> list[str]:
    answers: dict[frozenset[str], list[str]] = defaultdict(list)
    for item in train:
        text = item.choices[item.answer] if isinstance(item, Choice) else _answer(item)
        answers[_template(item)].append(text)
    common = {template: _most_common(texts) for template, texts in answers.items()}
    nearest: dict[frozenset[str], str] = {}
    result = []
    for item in test:
        template = _template(item)
        if template not in nearest:
            nearest[template] = common[max(common, key=lambda other: _overlap(template, other))]
        answer = nearest[template]
        if isinstance(item, Choice):
            at = item.choices.index(answer) if answer in item.choices else -1
            answer = prompts.LETTERS[at] if at >= 0 else fallback
        result.append(answer)
    return result


def _template(item: Item) -> frozenset[str]:
    question = item.question.split(". ")[-1] if isinstance(item, Problem) else item.question
    return frozenset(re.findall(r"\b[a-z]+\b", question[:1].lower() + question[1:]))


def _overlap(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(1, len(a | b))


def _answer(item: Item) -> str:
    if isinstance(item, Problem):
        return item.answer
    if isinstance(item, Choice):
        return prompts.LETTERS[item.answer]
    return item.aliases[0] if item.answerable else prompts.NO_ANSWER


def _most_common(answers: Sequence[str]) -> str:
    counts = Counter(answers)
    return min(counts, key=lambda answer: (-counts[answer], answer))


def _share(test: Sequence[Item], answers: Sequence[str]) -> float:
    return sum(_accepts(item, answer) for item, answer in zip(test, answers, strict=True)) / len(
        test
    )


def _accepts(item: Item, answer: str) -> bool:
    return answer == _answer(item) or answer in getattr(item, "aliases", ())
