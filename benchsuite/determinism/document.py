"""The INT4 guide's JSON: written from a measurement, read back from its files and ours."""

import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchsuite.determinism import kernels
from benchsuite.determinism.axes import Repeated
from benchsuite.determinism.numbers import compared
from benchsuite.determinism.variants import Variant
from benchsuite.determinism.verdict import verdict
from benchsuite.errors import BenchsuiteError

EXPERIMENT = "quantization_nondeterminism_investigation"
CONFIG = (
    "tensor_parallel",
    "max_model_len",
    "max_tokens",
    "repetitions",
    "temperature",
)


def report(
    name: str,
    variant: Variant,
    parameters: Mapping[str, Any],
    *,
    seed: int,
    baseline: Repeated,
    deterministic: Mapping[str, Any],
    axes: Mapping[str, Mapping[str, Any]],
    profile: Mapping[str, Any],
    batched_profile: Mapping[str, Any] | None = None,
    verification: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what one variant gave, in the INT4 guide's structure, with the axes beside it.

    The profiles' kernel times are left out: they differ from run to run, and ``kernels`` keeps
    them.
    """
    as_asked = kernels.kernel_as_asked(variant.expects, profile)
    return {
        **heading(name, variant, parameters, seed),
        "baseline": baseline.as_dict(),
        "deterministic": {k: v for k, v in deterministic.items() if k != "kernels"},
        "axes": dict(axes),
        "kernel": {
            "asked": variant.kernel,
            "as_asked": as_asked,
            "seen": sorted({kernels.short(n) for n in kernels.names(profile)}),
            "seen_in_batch": sorted(
                {kernels.short(n) for n in kernels.names(batched_profile or {})}
            ),
            "seen_in_deterministic_mode": sorted(
                {kernels.short(n) for n in kernels.names(deterministic.get("kernels") or {})}
            ),
            "engine_says": list(profile.get("using", ())),
        },
        "verdict": verdict(
            baseline.stats,
            deterministic=deterministic,
            axes=axes,
            profile=profile,
            batched_profile=batched_profile,
            as_asked=as_asked,
            verification=verification,
        ),
        "verification": dict(verification or {"tested": False}),
        "success": True,
    }


def heading(
    name: str, variant: Variant, parameters: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Return the head of the INT4 guide's object: which variant, how it was asked."""
    return {
        "variant": name,
        "experiment": EXPERIMENT,
        "quantization": variant.quantization,
        "engine": variant.engine,
        "description": variant.description,
        "note": variant.note,
        "config": {**{key: parameters[key] for key in CONFIG}, "seed": seed},
    }


def failure(
    name: str, variant: Variant, parameters: Mapping[str, Any], seed: int, error: str
) -> dict[str, Any]:
    """Return the INT4 guide's object for a variant that could not be loaded or run."""
    return {**heading(name, variant, parameters, seed), "error": error, "success": False}


def read(path: Path | str) -> dict[str, Any]:
    """Return the result of one of the INT4 guide's own files; others raise ``BenchsuiteError``."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise BenchsuiteError(f"cannot read {path}: {why}", fix="check the path") from error
    return checked(found, path)


def checked(found: Any, path: Path | str) -> dict[str, Any]:
    """Return what was read, or measured, if it is a result; raise ``BenchsuiteError`` otherwise."""
    kept = isinstance(found, dict) and "variant" in found
    if not kept or not (found.get("success") is False or "stats" in found.get("baseline", {})):
        raise BenchsuiteError(
            "not a result of this study: it lacks `variant`, or `baseline.stats`",
            str(path),
            "give a record of this study, or a file that the INT4 guide's script wrote",
        )
    baseline = found.get("baseline", {})
    tokens, logprobs = (
        [len(row) for row in baseline.get(name) or ()] for name in ("tokens", "logprobs")
    )
    if logprobs and tokens != logprobs:
        raise BenchsuiteError(
            f"`baseline` has {tokens} tokens and {logprobs} log-probs, by repetition",
            str(path),
            "give each token one log-prob",
        )
    return found


def cross_variant(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how far the first completions of each pair of results are apart, nearest first.

    ``results`` maps a name to a result as ``read`` returns it; those without log-probs are left
    out. Only results for one prompt mean anything beside each other.
    """
    first = {
        name: (np.array(r["baseline"]["tokens"][0]), np.array(r["baseline"]["logprobs"][0], float))
        for name, r in results.items()
        if r.get("baseline", {}).get("logprobs")
    }
    rows = []
    for one, other in combinations(first, 2):
        steps = min(len(first[one][0]), len(first[other][0]))
        (tokens, logprobs), (other_tokens, other_logprobs) = first[one], first[other]
        cut = (tokens[:steps], logprobs[:steps], other_tokens[:steps], other_logprobs[:steps])
        rows.append({"one": one, "other": other, "steps": steps, **compared(*cut)})
    return sorted(rows, key=lambda row: row["l2"])
