"""Claims: assertions over many cells, declared with the study and judged after the run."""

import math
from dataclasses import dataclass, replace
from typing import Any

from benchsuite.errors import UsageError


@dataclass(frozen=True)
class Claim:
    """An assertion over many cells, judged per model after the run.

    ``kind`` is one of

    - ``lower`` and ``higher``: ``method`` has a lower or higher ``metric`` than ``other``;
    - ``equivalent``: ``method`` is within ``limit`` of ``other``, in the stored unit;
    - ``identical``: ``metric`` is equal bit for bit over the seeds of ``method``;
    - ``cv_below``: the coefficient of variation of ``metric`` stays under ``limit`` percent;
    - ``true``: ``metric`` is true for every seed.

    From which size on a difference matters is the metric's ``margin``. A ``control`` is a
    comparison that must come out: if it does not, the study cannot see what it is looking for.
    ``by_seed`` says that a seed fixes randomness which both methods share, so that the paired test
    decides; ``over_items`` that the items which both methods ranked decide.
    """

    sentence: str
    kind: str
    metric: str
    method: str
    other: str | None = None
    limit: float | None = None
    control: bool = False
    by_seed: bool = False
    over_items: bool = False

    @property
    def tested(self) -> bool:
        """Whether a test decides it, so that it counts in its family."""
        return is_tested(self.kind)

    @property
    def fails_session(self) -> bool:
        """Whether a violation fails the session without ``--strict-claims``."""
        return self.kind == "identical"


def is_tested(kind: str) -> bool:
    """Say whether a test decides claims of a kind: all but those that read bits or truths."""
    return kind not in ("identical", "true")


def lower(
    metric: str, method: str, *, than: str, control: bool = False, by_seed: bool = False
) -> Claim:
    """Claim that ``method`` has a lower ``metric`` than ``than``."""
    sentence = f"{method} has lower {metric} than {than}"
    return Claim(sentence, "lower", metric, method, than, control=control, by_seed=by_seed)


def higher(
    metric: str, method: str, *, than: str, control: bool = False, by_seed: bool = False
) -> Claim:
    """Claim that ``method`` has a higher ``metric`` than ``than``."""
    sentence = f"{method} has higher {metric} than {than}"
    return Claim(sentence, "higher", metric, method, than, control=control, by_seed=by_seed)


def ranks_better(metric: str, method: str, *, than: str, control: bool = False) -> Claim:
    """Claim that ``method`` ranks the same items with a higher ``metric`` (AUROC) than ``than``."""
    return replace(higher(metric, method, than=than, control=control), over_items=True)


def identical(metric: str, method: str) -> Claim:
    """Claim that ``metric`` is equal bit for bit over all seeds of ``method``."""
    what = method if metric == "weights_sha256" else f"{method}'s {metric}"
    return Claim(f"{what} is bit-identical over seeds", "identical", metric, method)


def true(metric: str, method: str, sentence: str) -> Claim:
    """Claim that ``metric`` is true for every seed of ``method``; ``sentence`` says what it is."""
    return Claim(f"{method} {sentence}", "true", metric, method)


def cv_below(metric: str, method: str, percent: float) -> Claim:
    """Claim that the coefficient of variation over seeds stays below ``percent``."""
    _check_limit("cv_below", percent, "percent", "2.5")
    sentence = f"{method}'s {metric} varies by less than {percent:g} % (cv) over seeds"
    return Claim(sentence, "cv_below", metric, method, limit=percent)


def equivalent(metric: str, method: str, *, to: str, within: float, by_seed: bool = False) -> Claim:
    """Claim that ``method`` is equivalent to ``to`` within a margin set beforehand."""
    _check_limit("equivalent", within, "within", "0.05")
    sentence = f"{method} is equivalent to {to} within {within:g} {metric}"
    return Claim(sentence, "equivalent", metric, method, to, limit=within, by_seed=by_seed)


def _check_limit(kind: str, limit: Any, name: str, example: str) -> None:
    """Raise unless a limit is a positive number: within nothing no two methods are equivalent."""
    number = isinstance(limit, int | float) and not isinstance(limit, bool)
    if not number or not math.isfinite(limit) or limit <= 0:
        raise UsageError(
            f"a claim {kind}(...) has {name}={limit!r}",
            fix=f"give a positive number in the unit of the stored values, as {name}={example}"
            if kind == "equivalent"
            else f"give a positive number of percent, as percent={example}",
        )
