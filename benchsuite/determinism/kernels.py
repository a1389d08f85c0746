"""Kinds of kernels, told by their names, and what is known of those that sum in parallel."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_KINDS = {
    "marlin_kernels": r"marlin",
    "gemm_kernels": r"gemm|gemv|matmul|::(add|ba?d?d?b?)?mm\b|int4pack_mm|nvjet|cutlass|machete"
    r"|marlin|fullyconnected|::linear",
    "dequant_kernels": r"dequant|reconstruct|decompress|quantize|unpack",
    "attention_kernels": r"attention|attn|flash|fmha|scaleddotproduct",
    "split_k_or_atomic_kernels": r"split_?k|atomic|stream_?k|gemm_half_q_half|gemm_forward_4bit"
    r"|awq_gemm|combine|reducewithscale",
}


@dataclass(frozen=True)
class Suspect:
    """A kernel that sums in parallel: how, and whether the order changes from run to run."""

    pattern: str
    how: str
    unordered: bool


SUSPECTS = (
    Suspect(
        r"gemm_half_q_half",
        "adds the partial sums of its K-splits with atomicAdd in half precision, in the order in "
        "which thread blocks happen to finish",
        unordered=True,
    ),
    Suspect(r"atomic", "adds atomically, in the order in which threads finish", unordered=True),
    Suspect(
        r"split_?k|awq_gemm|gemm_forward_4bit",
        "sums K-splits whose number may depend on the shape, in a fixed order",
        unordered=False,
    ),
    Suspect(r"marlin", "reduces over K behind an ordered barrier in fp32", unordered=False),
    Suspect(r"stream_?k|machete", "divides K among thread blocks by the shape", unordered=False),
    Suspect(
        r"combine", "merges attention splits whose number depends on the batch", unordered=False
    ),
)


def classified(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return a profile with the INT4 guide's lists, and attention and split-K beside them.

    ``profile`` has ``profiling_succeeded`` and ``all_kernels`` ({"name", "count", "time_us"}).
    """
    found = {
        kind: [k for k in profile["all_kernels"] if _matches(pattern, k["name"])]
        for kind, pattern in _KINDS.items()
    }
    return {**profile, **found}


def names(profile: Mapping[str, Any]) -> list[str]:
    """Return the names of the kernels that a profile saw."""
    return [kernel["name"] for kernel in profile.get("all_kernels", ())]


def kernel_as_asked(expected: str, profile: Mapping[str, Any]) -> bool | None:
    """Say whether a kernel that matches ``expected`` ran; None if nothing was asked, or seen.

    An engine's own lines on what it uses count as little as its names: only what ran does.
    """
    if not expected or not profile.get("profiling_succeeded"):
        return None
    return any(_matches(expected, name) for name in names(profile))


def suspects(seen: Sequence[str], *, unordered: bool) -> list[tuple[str, str]]:
    """Return (kernel, how it sums) for the kernels known to sum in parallel that were seen."""
    found: dict[str, str] = {}
    for name in seen:
        for suspect in SUSPECTS:
            if suspect.unordered == unordered and _matches(suspect.pattern, name):
                found.setdefault(short(name), suspect.how)
    return list(found.items())


def changed(alone: Sequence[str], batched: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the kernels that ran only alone and only in the batch, by their short names."""
    one, other = {short(n) for n in alone}, {short(n) for n in batched}
    return sorted(one - other), sorted(other - one)


def short(name: str) -> str:
    """Return a demangled CUDA name without its return type, arguments and long templates."""
    name = re.sub(r"\(anonymous namespace\)::", "", name)
    name = re.sub(r"^(void|static) ", "", name.split("(")[0] if "::" in name else name)
    head, bracket, arguments = name.partition("<")
    return f"{head}<{arguments[:40]}..." if bracket and len(arguments) > 40 else name


def _matches(pattern: str, name: str) -> bool:
    return re.search(pattern, name, flags=re.IGNORECASE) is not None
