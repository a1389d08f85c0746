"""What a study found, in a few lines: what held, what did not, and what it cannot tell."""

from collections.abc import Mapping, Sequence

from benchsuite.printable import count
from benchsuite.statistics.inference.claims import Judgement
from benchsuite.statistics.rounding import in_unit, short
from benchsuite.study import Study

MOST_CLAIMS = 3
MOST_MODELS = 3

Line = tuple[str, str]


def found(study: Study, judged: Sequence[Judgement]) -> list[Line]:
    """Return (heading, sentence) pairs over the claims that were judged on real weights.

    Controls are told apart from the rest: they say whether the study can tell anything at all.
    """
    claims = [j for j in judged if not j.claim.control and j.outcome != "not_run"]
    if not claims:
        return (
            [("Found", "Nothing yet: no claim has all the runs that it needs.")] if judged else []
        )
    lines = [("Found", _tally(claims))]
    for outcome, heading in (("violated", "Violated"), ("held", "Held")):
        text = _named([j for j in claims if j.outcome == outcome])
        lines += [(heading, text)] if text else []
    lines += _open(study, [j for j in claims if j.outcome == "inconclusive"])
    return lines + _controls([j for j in judged if j.claim.control and j.outcome != "not_run"])


def _tally(claims: Sequence[Judgement]) -> str:
    counts = {o: sum(j.outcome == o for j in claims) for o in ("held", "violated", "inconclusive")}
    models = len({j.model for j in claims})
    held, violated, still = counts.values()
    return (
        f"Of {count(len(claims), 'judged claim')} on {count(models, 'model')}, {held} held, "
        f"{violated or 'none'} {'were' if violated > 1 else 'was'} violated"
        + (f", {still} {'stay' if still > 1 else 'stays'} open." if still else ".")
    )


def _named(judged: Sequence[Judgement]) -> str:
    """Return the first claims with the models on which they came out so."""
    models: dict[str, list[str]] = {}
    for judgement in judged:
        models.setdefault(judgement.claim.sentence, []).append(judgement.model)
    told = [f"{claim} ({_few(on)})" for claim, on in list(models.items())[:MOST_CLAIMS]]
    more = len(models) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "") + ("." if told else "")


def _few(models: Sequence[str]) -> str:
    if len(models) <= MOST_MODELS:
        return ", ".join(models)
    return f"{', '.join(models[: MOST_MODELS - 1])} and {len(models) - MOST_MODELS + 1} more"


def _open(study: Study, judged: Sequence[Judgement]) -> list[Line]:
    """Return what the open comparisons could have missed, by the metric that they compare."""
    sizes: dict[str, list[float]] = {}
    for judgement in judged:
        size = judgement.evidence.get("mde_corrected")
        if size:
            sizes.setdefault(judgement.claim.metric, []).append(size)
    told = [_missed(study, name, found) for name, found in sizes.items()]
    return [("Cannot tell", " ".join(told))] if told else []


def _missed(study: Study, name: str, sizes: Sequence[float]) -> str:
    metric = study.metric(name)
    low, high = (short(size * metric.scale) for size in (min(sizes), max(sizes)))
    size = in_unit(metric, low if low == high else f"{low} to {high}")
    verb = "miss" if len(sizes) > 1 else "misses"
    return (
        f"{count(len(sizes), 'comparison')} of {metric.label or name} {verb} a true difference "
        f"below {size} more often than one time in five."
    )


def _controls(judged: Sequence[Judgement]) -> list[Line]:
    if not judged:
        return []
    failed = [j for j in judged if j.outcome == "violated"]
    if failed:
        return [("Controls", f"Do not trust this run: {_named(failed)}")]
    held = sum(j.outcome == "held" for j in judged)
    if held == len(judged):
        return [("Controls", f"{'All ' if held > 1 else ''}{held} came out as they must.")]
    return [("Controls", f"{held} of {len(judged)} came out as they must; the rest stay open.")]


def measured(facts: Mapping[str, str]) -> str:
    """Return how it was measured, in one line, from the page's provenance."""
    versions = [f"{name} {facts[name]}" for name in ("torch", "transformers") if name in facts]
    weights = f"{facts['weights']} weights" if "weights" in facts else None
    told = [facts.get("devices"), weights, *versions, facts.get("measured (UTC)")]
    return " · ".join(text for text in told if text)
