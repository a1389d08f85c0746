"""How far completions of one prompt are apart: in bits, in tokens, in L2 of their log-probs.

Completions are rows: ``tokens`` int64 and ``logprobs`` float64 (nats), [repetitions, steps]. The
first is the reference. Where tokens differ, the log-probs there are those of different tokens; the
distances then say that the completions parted, not by how much the arithmetic differs, which the
index of the first difference separates.
"""

from typing import Any

import numpy as np


def l2(one: np.ndarray, other: np.ndarray) -> float:
    """Return the L2 distance of two completions' log-probs [steps], in nats, over common steps."""
    steps = min(len(one), len(other))
    difference = np.asarray(one[:steps], np.float64) - np.asarray(other[:steps], np.float64)
    return float(np.sqrt(np.square(difference).sum()))


def bits_equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Say whether two float64 arrays are equal bit for bit: no tolerance, and NaN equals itself."""
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def first_difference(rows: np.ndarray) -> int | None:
    """Return the first step at which any row differs from the first one, by its bits.

    ``rows`` [repetitions, steps] are int64 or float64. None: all rows are equal.
    """
    raw = np.ascontiguousarray(rows).view(np.uint64)
    differs = (raw != raw[:1]).any(axis=0)
    return int(differs.argmax()) if differs.any() else None


def statistics(tokens: np.ndarray, logprobs: np.ndarray) -> dict[str, Any]:
    """Return the INT4 guide's statistics of repetitions, and what it leaves out.

    ``tokens`` int64 and ``logprobs`` float64 (nats) are [repetitions, steps].
    ``l2_*`` are over the distances ||lp_0 - lp_i||_2 of the later repetitions to the first, with
    the population's standard deviation; ``std_per_token_*`` over the steps' standard deviations;
    ``l2_all_pairs_*`` over every pair. A single repetition is compared with nothing: what would
    say so, distances and equality alike, is None.
    """
    tokens, logprobs = np.asarray(tokens, np.int64), np.asarray(logprobs, np.float64)
    to_first = np.array([l2(logprobs[0], row) for row in logprobs[1:]])
    pairs = np.array([l2(a, b) for i, a in enumerate(logprobs) for b in logprobs[i + 1 :]])
    repeated = len(logprobs) > 1
    per_token = logprobs.std(axis=0, ddof=0) if repeated else np.empty(0)
    exact = all(bits_equal(logprobs[0], row) for row in logprobs[1:])
    return {
        "tokens_identical": bool((tokens == tokens[:1]).all()) if repeated else None,
        "logprobs_exact": exact if repeated else None,
        **_described("l2", to_first),
        "std_per_token_mean": _or_none(per_token, np.mean),
        "std_per_token_max": _or_none(per_token, np.max),
        "std_per_token_min": _or_none(per_token, np.min),
        **_described("l2_all_pairs", pairs),
        "first_divergent_index": first_difference(tokens),
        "first_logprob_difference": first_difference(logprobs),
        "unique_completions": len({row.tobytes() for row in tokens}),
        "repetitions": len(tokens),
    }


def compared(
    tokens: np.ndarray, logprobs: np.ndarray, other_tokens: np.ndarray, other_logprobs: np.ndarray
) -> dict[str, Any]:
    """Return how one completion [steps] differs from another under a changed condition."""
    both_tokens = np.stack((tokens, other_tokens))
    both_logprobs = np.stack((logprobs, other_logprobs))
    return {
        "tokens_identical": bool((tokens == other_tokens).all()),
        "logprobs_exact": bits_equal(logprobs, other_logprobs),
        "l2": l2(logprobs, other_logprobs),
        "max_abs_difference": float(np.abs(logprobs - other_logprobs).max()),
        "first_divergent_index": first_difference(both_tokens),
        "first_logprob_difference": first_difference(both_logprobs),
    }


def _described(name: str, values: np.ndarray) -> dict[str, float | None]:
    return {
        f"{name}_mean": _or_none(values, np.mean),
        f"{name}_std": _or_none(values, np.std),
        f"{name}_max": _or_none(values, np.max),
        f"{name}_min": _or_none(values, np.min),
    }


def _or_none(values: np.ndarray, function: Any) -> float | None:
    return float(function(values)) if len(values) else None
