"""How fast a model generates here, one sample: a number beside the others, of no engine's."""

from dataclasses import dataclass

from torch import Tensor

from benchsuite.comparing.subject import Subject
from benchsuite.decoding.loop import evaluating
from benchsuite.evaluation import speed
from benchsuite.quantizers.kernels import using_kernel

# Few: a packed layer on a CPU may rebuild its weight for every token.
PROMPT_TOKENS, NEW_TOKENS, REPEATS = 32, 8, 3


@dataclass(frozen=True)
class Speed:
    """Generated tokens a second over the repeats: the median, the slowest and the fastest."""

    median: float
    low: float
    high: float


def generation(subject: Subject, ids: Tensor) -> Speed:
    """Time greedy generation after the first of ``ids`` [N], on the kernels that are here."""
    prompt = ids[: min(PROMPT_TOKENS, len(ids))]
    with evaluating(subject.model), using_kernel(subject.model, "few_tokens"):
        found = speed.measure(
            subject.model, prompt, new_tokens=NEW_TOKENS, repeats=REPEATS, warmup=0
        )
    rates = NEW_TOKENS / found.seconds
    return Speed(found.tokens_per_second, float(rates.min()), float(rates.max()))
