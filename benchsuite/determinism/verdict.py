"""The INT4 guide's verdict on one variant, from its numbers, axes and kernels alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchsuite.determinism import kernels
from benchsuite.determinism.verification import tokens_needed
from benchsuite.printable import some
from benchsuite.statistics.power import seeds_needed

NOT_ESTABLISHED = "not established"

# L2 over 50 tokens of Qwen3-8B between formats, from the INT4 guide's stored results: what a
# verifier would want to notice.
DEVIATIONS = (
    ("another kernel of one format", 0.015),
    ("another quantizer", 3.0),
)
MOST_SAMPLES = 100_000
SHOWN = 3


def verdict(
    stats: Mapping[str, Any],
    *,
    deterministic: Mapping[str, Any],
    axes: Mapping[str, Mapping[str, Any]],
    profile: Mapping[str, Any],
    batched_profile: Mapping[str, Any] | None = None,
    as_asked: bool | None = None,
    verification: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the ``verdict`` object.

    ``is_deterministic`` is the INT4 guide's question alone: the identical batch repeated in one
    process gives the same bits. One repetition leaves it without an answer, None. The axes have
    their own answers, which the details tell.
    """
    exact = _all_equal(stats)
    tested = bool(deterministic.get("succeeded"))
    batch = axes.get("batch_invariance", {})
    return {
        "is_deterministic": exact,
        "deterministic_mode_tested": tested,
        "summary": _summary(exact, axes),
        "root_cause": _root_cause(stats, exact, deterministic, batch, profile, batched_profile),
        "forensic_implications": ". ".join(
            [_forensic(stats, exact, batch), *_from_tokens(verification or {})]
        ),
        "samples_needed": samples_needed(0.0 if exact else stats["l2_mean"]),
        "details": [
            *_distances(stats),
            *_deterministic_mode(exact, deterministic),
            *_axes(axes),
            *_kernel(as_asked),
        ],
    }


def _all_equal(stats: Mapping[str, Any]) -> bool | None:
    """Say whether repetitions gave equal bits; None where nothing was repeated."""
    if stats.get("repetitions") == 1:  # the INT4 guide's own files call that equal
        return None
    return bool(stats.get("tokens_identical") and stats.get("logprobs_exact"))


def samples_needed(noise: float | None) -> list[dict[str, Any]]:
    """Return how many completions an arm tell a systematic deviation from ``noise`` (L2).

    Two-sided t-test at 5 % with 80 % power, the deviation in units of the noise between two
    repetitions. Without noise one completion is enough; of unknown noise (None) nothing is known.
    """
    return [
        {"deviation": name, "l2": size, "samples": _needed(size, noise)}
        for name, size in DEVIATIONS
    ]


def _needed(size: float, noise: float | None) -> int | None:
    if noise is None:
        return None
    if noise <= 0:
        return 1
    return seeds_needed(size / noise, paired=False, most=MOST_SAMPLES)


def _summary(exact: bool | None, axes: Mapping[str, Mapping[str, Any]]) -> str:
    if exact is False:
        return "BASELINE IS NON-DETERMINISTIC"
    varies = " AND ".join(_AXIS_NAMES[name] for name in _AXIS_NAMES if _differs(axes.get(name)))
    if exact is None:
        found = f"; DIFFERS OVER {varies.upper()}" if varies else ""
        return f"NOT ANSWERED: ONE REPETITION IS COMPARED WITH NOTHING{found}"
    return f"BASELINE IS DETERMINISTIC{f', BUT NOT OVER {varies.upper()}' if varies else ''}"


_AXIS_NAMES = {
    "batch_invariance": "batches",
    "prefill_scoring": "prefill",
    "fresh_process": "processes",
    "threads": "thread counts",
    "other_gpu": "GPUs",
    "quantizer": "quantizations",
}


def _differs(axis: Mapping[str, Any] | None) -> bool:
    return bool(axis) and axis.get("exact") is False  # type: ignore[union-attr]


def _root_cause(
    stats: Mapping[str, Any],
    exact: bool | None,
    deterministic: Mapping[str, Any],
    batch: Mapping[str, Any],
    profile: Mapping[str, Any],
    batched_profile: Mapping[str, Any] | None,
) -> str:
    if exact is False:
        return _run_to_run_cause(deterministic, profile)
    if _differs(batch):
        return _batch_cause(profile, batched_profile)
    if exact is None:
        return "None looked for: the identical batch was asked for once"
    return f"None seen: {stats['repetitions']} repetitions of the identical batch gave equal bits"


def _run_to_run_cause(deterministic: Mapping[str, Any], profile: Mapping[str, Any]) -> str:
    """Name the unordered kernel that ran; the deterministic mode can support or refute it."""
    if not profile.get("profiling_succeeded"):
        return f"Run to run: {NOT_ESTABLISHED}; no kernel was profiled"
    found = kernels.suspects(kernels.names(profile), unordered=True)
    if not found:
        return f"Run to run: {NOT_ESTABLISHED}; no kernel that ran is known to sum in varying order"
    later = deterministic.get("kernels") or {}
    if _is_exact(deterministic) and kernels.suspects(kernels.names(later), unordered=True):
        name = found[0][0]
        return f"Run to run: {NOT_ESTABLISHED}; {name} runs in deterministic mode too, bit-exactly"
    told = "; ".join(f"{name} {how}" for name, how in found[:SHOWN])
    support = ""
    if _is_exact(deterministic) and later.get("profiling_succeeded"):
        support = ". In deterministic mode it does not run, and the bits are equal"
    return f"Run to run, the evidence points to: {told}{support}"


def _batch_cause(profile: Mapping[str, Any], batched_profile: Mapping[str, Any] | None) -> str:
    """Name the kernels that a batch exchanges for others: the sums are then divided otherwise."""
    if not (profile.get("profiling_succeeded") and (batched_profile or {}).get("all_kernels")):
        return f"Between batches: {NOT_ESTABLISHED}; no kernels were profiled in a batch"
    assert batched_profile is not None
    alone, batched = kernels.changed(kernels.names(profile), kernels.names(batched_profile))
    if alone or batched:
        return (
            f"Between batches, the evidence points to the choice of kernels by shape: alone "
            f"{_listed(alone)}, in the largest batch {_listed(batched)}"
        )
    ordered = kernels.suspects(kernels.names(profile), unordered=False)
    if ordered:
        name, how = ordered[0]
        return f"Between batches, the evidence points to {name}, which {how}"
    return f"Between batches: {NOT_ESTABLISHED}; the same kernels run alone and in a batch"


def _listed(found: Sequence[str]) -> str:
    return some(found, SHOWN) if found else "nothing further"


def _forensic(stats: Mapping[str, Any], exact: bool | None, batch: Mapping[str, Any]) -> str:
    if exact is None:
        return "Noise level not known: one repetition. Set repetitions to 2 or more"
    if not exact:
        noise = stats["l2_mean"]
        told = ", ".join(
            f"{row['samples'] or f'more than {MOST_SAMPLES}'} for {row['deviation']} "
            f"(L2 {row['l2']:g})"
            for row in samples_needed(noise)
        )
        return (
            f"Noise level: ~{noise:.2e} L2. Completions needed an arm to tell a systematic "
            f"deviation from it (t-test, 5 %, 80 % power): {told}"
        )
    if _differs(batch):
        return (
            "One completion is enough where the verifier repeats the identical batch. Another "
            f"batch alone moves the log-probs by up to {batch['l2_max']:.2e} L2: below that "
            "nothing can be told from it"
        )
    return "No noise: one completion is enough, and any deviation is a deviation"


def _from_tokens(verification: Mapping[str, Any]) -> list[str]:
    """Say whether the tokens alone tell the variant from the original, which is the reference."""
    if not verification.get("tested"):
        return []
    found = verification["against_original"]
    rows = [row for row in found["rows"] if row["detected"] is not None]
    if not rows:
        return ["Too few tokens were served to tell the variant from the original by them (DiFR)"]
    needed = tokens_needed(found)
    row = needed or rows[-1]
    rough = f", of {row['batches']} batches only" if row["few"] else ""
    told = f"detected {row['detected']:.0%}, false alarms {row['false_alarms']:.0%}{rough}"
    if needed:
        return [f"{row['tokens']} served tokens tell it from the original (Token-DiFR: {told})"]
    return [f"{row['tokens']} served tokens do not tell it from the original (Token-DiFR: {told})"]


def _distances(stats: Mapping[str, Any]) -> list[str]:
    if stats["l2_mean"] is None:
        return ["One repetition: no distance, and no answer"]
    lines = [
        f"Mean L2 deviation: {stats['l2_mean']:.2e}",
        f"Max L2 deviation: {stats['l2_max']:.2e}",
        f"Unique completions: {stats['unique_completions']} of {stats['repetitions']}",
    ]
    if stats["first_divergent_index"] is not None:
        lines.append(f"Tokens first differ at index {stats['first_divergent_index']}")
    return lines


def _is_exact(deterministic: Mapping[str, Any]) -> bool | None:
    return _all_equal(deterministic.get("stats") or {})


def _deterministic_mode(exact: bool | None, deterministic: Mapping[str, Any]) -> list[str]:
    if not deterministic.get("succeeded"):
        return [f"Deterministic mode not tested: {deterministic.get('error', 'it did not run')}"]
    if _is_exact(deterministic) is None:
        return ["Deterministic mode ran; one repetition does not tell whether it is exact"]
    if _is_exact(deterministic):
        return ["Deterministic mode is exact too" if exact else "✓ DETERMINISTIC MODE FIXES IT"]
    return ["✗ Deterministic mode does not make it exact"]


def _axes(axes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, axis in axes.items():
        words = name.replace("_", " ")
        if axis.get("exact") is None:
            lines.append(f"{words}: not tested ({axis.get('reason', 'no reason given')})")
        elif axis["exact"]:
            lines.append(f"{words}: bit-exact")
        else:
            distance = axis.get("l2_max")
            size = "" if distance is None else f", up to {distance:.2e} L2"
            same = " with equal tokens" if axis.get("tokens_identical") else ""
            lines.append(f"{words}: differs{size}{same}")
    return lines


def _kernel(as_asked: bool | None) -> list[str]:
    if as_asked is False:
        return ["The kernel that was asked for did not run: this is not the variant of its name"]
    return []
