"""The training data of the embedded models: a stream of text tokens and rows of packed tasks."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from benchsuite.embedded import prompts, tasks, text, tokenizer
from benchsuite.embedded.draws import Draws
from benchsuite.embedded.schema import Problem

# Share of each task's tokens, made of whole episodes.
SHARES = {
    "closed_book": 0.16,
    "passages": 0.27,
    "four_choices": 0.27,
    "word_problems": 0.10,
    "word_problems_sentences": 0.08,
    "word_problems_hard": 0.08,
    "word_problems_rephrased": 0.04,
}
# Weights of a token's loss. Names and numbers in prompts cannot be learned; a short answer is one
# token in fifty and would drown in the rest.
PROMPT_WEIGHT, STEPS_WEIGHT, ANSWER_WEIGHT = 0.2, 1.0, 5.0
_FORMS = ("letters", "letters", "full", "full", "listed", "text")
_PARTS = 64  # seeds that the rows are made from, whatever the number of processes
_MEAN_TOKENS = {  # about, of one episode of each task, to turn shares of tokens into rates
    "closed_book": 70,
    "passages": 240,
    "four_choices": 130,
    "word_problems": 220,
    "word_problems_sentences": 230,
    "word_problems_hard": 240,
    "word_problems_rephrased": 240,
}


@dataclass(frozen=True)
class Mixture:
    """Token ids as uint16: ``text`` [N], ``rows`` [R, 513]; and the loss weights of the rows."""

    text: np.ndarray
    rows: np.ndarray
    weights: np.ndarray  # [R, 513] float16

    def save(self, path: Path) -> None:
        """Write the arrays without pickles."""
        np.savez(path, text=self.text, rows=self.rows, weights=self.weights)

    @classmethod
    def load(cls, path: Path) -> "Mixture":
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["text"], arrays["rows"], arrays["weights"])


def build(n_rows: int, *, processes: int, folder: Path = tokenizer.FOLDER) -> Mixture:
    """Return the mixture with about ``n_rows`` task rows, whatever the number of processes."""
    share = max(1, n_rows // _PARTS)
    work = [(part, share, folder) for part in range(_PARTS)]
    if processes > 1:
        with ProcessPoolExecutor(processes) as pool:
            parts = list(pool.map(_pack, work))
    else:
        parts = [_pack(each) for each in work]
    rows = np.concatenate([ids for ids, _ in parts])
    weights = np.concatenate([mask for _, mask in parts])
    return Mixture(text_tokens("train", folder), rows, weights)


def text_tokens(split: str, folder: Path = tokenizer.FOLDER) -> np.ndarray:
    """Return a split's tokens [N] uint16: its documents joined by blank lines, ``<s>`` before."""
    encode = tokenizer.load(folder).backend_tokenizer.encode_batch
    joined = text.documents(split)
    separator = encode(["\n\n"], add_special_tokens=False)[0].ids
    ids = [np.array([0], np.uint16)]
    for document in encode(list(joined), add_special_tokens=False):
        ids.append(np.array(document.ids + separator, np.uint16))
    return np.concatenate(ids)


def _pack(work: tuple[int, int, Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return [n, 513] rows of episodes end to end, and the weights of their losses."""
    part, n_rows, folder = work
    length = tokenizer.CONTEXT + 1
    encode = tokenizer.load(folder).backend_tokenizer.encode_batch
    ids: list[int] = []
    weights: list[float] = []
    episodes = _episodes(part)
    while len(ids) < n_rows * length:
        for pieces in islice(episodes, 100):
            ids.append(0)
            weights.append(PROMPT_WEIGHT)
            for piece, encoded in zip(
                pieces, encode([p for p, _ in pieces], add_special_tokens=False), strict=True
            ):
                ids += encoded.ids
                weights += [piece[1]] * len(encoded.ids)
            ids.append(1)
            weights.append(STEPS_WEIGHT)
    size = n_rows * length
    shape = (n_rows, length)
    return (
        np.array(ids[:size], np.uint16).reshape(shape),
        np.array(weights[:size], np.float16).reshape(shape),
    )


def _episodes(part: int) -> Iterator[list[tuple[str, float]]]:
    """Yield one to six items of one task as pieces of text and their weights."""
    draws = Draws("mixture", part)
    streams = {task: tasks.stream(task, "train", seed=1000 + part) for task in tasks.NAMES}
    rates = [SHARES[task] / _MEAN_TOKENS[task] for task in tasks.NAMES]
    while True:
        task = tasks.NAMES[_weighted(draws.fraction() * sum(rates), rates)]
        form = draws.pick(_FORMS)
        pieces: list[tuple[str, float]] = []
        for item in islice(streams[task], draws.pick((1, 1, 1, 2, 3, 6))):
            opening = prompts.prompt(item, form=form)
            if pieces:
                opening = "\n\n" + opening.removeprefix(prompts.BRIEFLY + "\n\n")
            answer = prompts.completion(item, form=form)
            weight = STEPS_WEIGHT if isinstance(item, Problem) else ANSWER_WEIGHT
            pieces += [(opening, PROMPT_WEIGHT), (answer, weight)]
        yield pieces


def _weighted(at: float, rates: list[float]) -> int:
    for index, rate in enumerate(rates):
        at -= rate
        if at < 0:
            return index
    return len(rates) - 1
