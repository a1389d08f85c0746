"""What a metric's name and its values say: what kind it is, and which way is better."""

import re

import numpy as np

from benchsuite.errors import UsageError

# Words of names whose numbers are the better the smaller they are. A wrong guess would be the
# verdict turned round, so that none is made.
_SMALLER = {"loss", "losses", "error", "errors", "err", "wrong", "incorrect", "failed", "failure"}
_SMALLER |= {"ce", "entropy", "perplexity", "ppl", "brier", "ece", "bpb", "bits", "wer", "cer"}
_SMALLER |= {"mse", "mae", "rmse", "distance", "flipped", "nlls", "kld", "toxicity"}
_NATS = ("nll", "kl")


def kind_of_values(name: str, base: np.ndarray, candidate: np.ndarray) -> str:
    """Return the kind of a metric of both sides' items, by its name or by its values.

    ``name`` may have a task before it and a filter behind it: ``gsm8k/exact_match,strict-match``.
    Values that are not finite say nothing. Raises ``UsageError`` where it is not known what a loss
    is.
    """
    short = name.rpartition("/")[2].partition(",")[0].lower()
    words = set(re.findall("[a-z]+", short))
    both = np.concatenate([base, candidate])
    both = both[np.isfinite(both)]
    for kind in _NATS:
        if kind in words:
            _refuse_log_probs(name, kind, both)
            return kind
    if smaller := sorted(words & _SMALLER):
        raise UsageError(
            f"{name} is read as better when larger, and {smaller[0]!r} in its name says that it is "
            "better when smaller",
            fix="give right answers as 1 and wrong ones as 0, or nats under the name nll or kl",
        )
    if np.isin(both, (0.0, 1.0)).all():
        return "accuracy"
    if ((both >= 0) & (both <= 1)).all():
        return "f1" if short == "f1" else "score"
    raise UsageError(
        f"{name} has values from {both.min():g} to {both.max():g}: it is not known what a loss is",
        fix="give shares from 0 to 1, more being better, or name the column nll or kl (in nats)",
    )


def _refuse_log_probs(name: str, kind: str, values: np.ndarray) -> None:
    if kind == "nll" and len(values) and values.mean() < 0:
        raise UsageError(
            f"{name} is {values.mean():.4g} on average, and no negative log-likelihood of tokens "
            "is below 0",
            fix="give minus the log-probability, in nats: the larger the less likely",
        )
