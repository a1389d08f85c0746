"""What to beware of beside a verdict: odd seeds, and what must be supposed for it to be so."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchsuite.statistics.inference import sizes
from benchsuite.statistics.inference.verdicts import Draft
from benchsuite.statistics.rounding import p_text, signed


def ran_once(evidence: Mapping[str, Any]) -> Sequence[bool]:
    """Say of both arms whether one run stands for every seed, so that it has no scatter."""
    return evidence.get("once") or (False, False)


def beware(claim: Any, draft: Draft) -> str:
    """Return what to beware of: seeds that diverged or stand apart, skewed ones, a constant arm."""
    evidence, arms = draft.evidence, (claim.method, claim.other)
    if evidence.get("diverged"):
        pairs = zip(arms, evidence["diverged"], strict=True)
        return f" Diverged: {', '.join(f'seed {s} of {arm}' for arm, ss in pairs for s in ss)}."
    odd = zip(arms, evidence.get("outliers") or (None, None), strict=True)
    told = [f"seed {s} of {arm} stands apart from its others" for arm, s in odd if s is not None]
    beside = evidence.get("robust") or {}
    if beside.get("skewed"):
        told.append(f"the seeds of {arms[beside['arm']]} are skewed ({signed(beside['skewness'])})")
    text = f" Beware: {'; '.join(told)}." if told else ""
    decided = beside and draft.verdict not in ("", sizes.INCONCLUSIVE)
    if decided:
        text += _supposed(arms[beside["arm"]], draft)
    text += _other_tests(evidence, beside) if told or decided else ""
    return text + _constants(claim, draft)


def _constants(claim: Any, draft: Draft) -> str:
    """Return what an exact verdict rests on where seeds might have given other numbers.

    Few seeds of a coarse metric, as of answers to few questions, are alike by chance.
    """
    evidence, once = draft.evidence, ran_once(draft.evidence)
    if evidence["test"] != "exact" or draft.verdict in ("", sizes.INCONCLUSIVE) or all(once):
        return ""
    arms = [arm for arm, one in zip((claim.method, claim.other), once, strict=True) if not one]
    text = f" This supposes that any seed of {' and '.join(arms)} gives the same number"
    small = draft.verdict in (sizes.EQUIVALENT, sizes.TRIVIAL)
    if small or any(once) or evidence["exact_p"] is None:
        return f"{text}."
    return f"{text}: if seeds may differ, these have an exact {p_text(evidence['exact_p'])}."


def _supposed(arm: str, draft: Draft) -> str:
    """Return what a verdict rests on where ``arm`` alone has scatter, and what would undo it."""
    evidence, small = draft.evidence, (sizes.EQUIVALENT, sizes.TRIVIAL)
    one_sided = draft.verdict not in small and "tost" not in evidence
    side = evidence["robust"]["hidden"] if one_sided else "higher or lower"
    n = evidence["n_other" if evidence["robust"]["arm"] else "n"]
    return (
        f" This supposes that {arm} scatters alike to both sides of its mean: "
        f"{n} seeds can miss rare, much {side} values that undo it."
    )


def _other_tests(evidence: Mapping[str, Any], beside: Mapping[str, Any]) -> str:
    """Return what tests say beside a t-test, which supposes normal seeds."""
    tests = []
    if beside.get("sign_flip_p") is not None:
        least = f"at least {beside['smallest_p']:.2g} with so many seeds"
        tests.append(f"sign-flip {p_text(beside['sign_flip_p'])} ({least})")
    elif evidence["exact_p"] is not None:
        tests.append(f"exact {p_text(evidence['exact_p'])}")
    if beside.get("log_t_p") is not None:
        tests.append(f"t-test of the logarithms {p_text(beside['log_t_p'])}")
    return f" Beside the t-test: {', '.join(tests)}." if tests else ""
