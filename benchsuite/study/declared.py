"""What a study declares, looked at when it is declared: a slip costs no night of measuring."""

import re
from collections.abc import Collection, Iterable
from typing import Any

from benchsuite.errors import UsageError, unknown_name
from benchsuite.study.claim import Claim
from benchsuite.study.metric import Metric

RESERVED = frozenset(
    (
        *("model", "total_time_sec", "schema_version", "cell", "fingerprint", "environment"),
        *("weights", "stand_in", "weights_digest", "peak_memory_bytes", "timings", "started_at"),
        *("outcome", "error", "items", "results_sha256", "record_sha256"),
    )
)
"""Keys of a record's flat form that no axis, parameter or value can have."""

TAKEN = ("times", "best")
"""Keys that a method has in ``summary_stats.json`` beside its metrics."""


def checked_metrics(study: str, declared: Any) -> tuple[Metric, ...]:
    """Return a study's metrics; what is no metric, or there twice, is a usage error."""
    found: tuple[Metric, ...] = _all("metrics", study, declared, Metric)
    if not found:
        raise UsageError(
            f"study {study!r} has no metric", fix="name in `metrics` what ranks its methods"
        )
    if found[0].parts:
        raise UsageError(
            f"study {study!r} ranks its methods by {found[0].name!r}, a table of numbers",
            fix="put a metric of one number before it in `metrics`",
        )
    names: dict[str, str] = {}
    for metric in found:
        for name in {metric.name, metric.document_key}:
            if name in TAKEN:
                raise UsageError(
                    f"study {study!r} has a metric under the key {name!r}, which a summary has "
                    "for something else",
                    fix="give it another name, or another `key`",
                )
            if name in names:
                raise UsageError(
                    f"study {study!r} has two metrics under the name {name!r}",
                    fix="declare each once, with a `key` of its own if it has one",
                )
            names[name] = metric.name
    return found


def check_names(
    study: str, axes: Collection[str], parameters: Collection[str], metrics: Iterable[Metric]
) -> None:
    """Raise where two things of a study would be one key of its records: one would be lost."""
    mine = {*axes, "seed"}
    for axis in axes:
        if axis in ({"study"} | RESERVED) - {"model"}:
            raise _taken(study, "an axis", axis, "a key of every record")
    for name in parameters:
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise UsageError(
                f"study {study!r} has the parameter {name!r}",
                fix="use only letters, digits and _, which --set can name",
            )
        if name in mine | RESERVED:
            what = "an axis" if name in mine else "a key of every record"
            raise _taken(study, "a parameter", name, what)
    for metric in metrics:
        if metric.name in {*mine, *parameters}:
            raise _taken(study, "a metric", metric.name, "what its cells are told apart by")


def _taken(study: str, kind: str, name: str, what: str) -> UsageError:
    return UsageError(
        f"study {study!r} has {kind} {name!r}, which is {what} too", fix="choose another name"
    )


def checked_claims(study: str, declared: Any) -> tuple[Claim, ...]:
    """Return a study's claims, each once: one that is there twice would count as two tests."""
    found: tuple[Claim, ...] = tuple(dict.fromkeys(_all("claims", study, declared, Claim)))
    for claim in found:
        if claim.method == claim.other:
            raise UsageError(
                f"study {study!r} claims {claim.sentence!r}: a method beside itself",
                fix="name two methods",
            )
    return found


def check_claimed_methods(
    study: str, claims: Iterable[Claim], methods: Collection[str], before: Collection[str] = ()
) -> None:
    """Raise where a claim is over a method that a study has not: nothing would ever judge it.

    Those that it had ``before``, when it was registered first, are no slip: somebody narrows it.
    """
    for claim in claims:
        for method in filter(None, (claim.method, claim.other)):
            if method not in methods and method not in before:
                raise unknown_name(f"method in a claim of study {study}", method, methods)


def _all(what: str, study: str, declared: Any, kind: type) -> tuple[Any, ...]:
    single = not isinstance(declared, Iterable) or isinstance(declared, str)
    found = (declared,) if single else tuple(declared)
    odd = [one for one in found if not isinstance(one, kind)]
    if single or odd:
        shown = odd[0] if odd else declared
        raise UsageError(
            f"study {study!r} has `{what}` with {str(shown)[:60]!r}",
            fix=f"give a tuple of {kind.__name__}s; one alone is written (it,)",
        )
    return found
