"""What a study found, in a few lines: what held, what did not, and what it cannot tell."""

from collections.abc import Mapping, Sequence

from benchsuite.printable import count
from benchsuite.statistics.inference.claims import Judgement
from benchsuite.statistics.rounding import of_difference, short
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
    several = len({j.model for j in judged}) > 1
    for outcome, heading in (("violated", "Violated"), ("held", "Held")):
        text = _named([j for j in claims if j.outcome == outcome], several=several)
        lines += [(heading, text)] if text else []
    lines += _open(study, [j for j in claims if j.outcome == "inconclusive"])
    controls = [j for j in judged if j.claim.control and j.outcome != "not_run"]
    return lines + _controls(controls, several)


def _tally(claims: Sequence[Judgement]) -> str:
    counts = {o: sum(j.outcome == o for j in claims) for o in ("held", "violated", "inconclusive")}
    held, violated, still = counts.values()
    return (
        f"Of {count(len(claims), 'judged claim')} on {_places(claims)}, {held or 'none'} held, "
        f"{violated or 'none'} {'were' if violated > 1 else 'was'} violated"
        + (f", {still} {'stay' if still > 1 else 'stays'} open." if still else ".")
    )


def _places(claims: Sequence[Judgement]) -> str:
    """Return on how many models, and in how many settings of them, claims were judged."""
    labels = {j.model for j in claims}
    models = {label.partition("__")[0] for label in labels}
    told = count(len(models), "model")
    return told if len(models) == len(labels) else f"{told} in {len(labels)} settings"


def _named(judged: Sequence[Judgement], *, several: bool) -> str:
    """Return the first claims, with their models where the study has several."""
    models: dict[str, list[str]] = {}
    for judgement in judged:
        models.setdefault(judgement.claim.sentence, []).append(judgement.model)
    first = list(models.items())[:MOST_CLAIMS]
    told = [f"{claim} ({_few(on)})" if several else claim for claim, on in first]
    more = len(models) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "") + ("." if told else "")


def _few(models: Sequence[str]) -> str:
    if len(models) <= MOST_MODELS:
        return ", ".join(models)
    return f"{', '.join(models[: MOST_MODELS - 1])} and {len(models) - MOST_MODELS + 1} more"


def _open(study: Study, judged: Sequence[Judgement]) -> list[Line]:
    """Return what the open comparisons could have missed, by the metric that they compare.

    A claim that no test could be taken of is told with the reason.
    """
    sizes: dict[str, list[float]] = {}
    untested: dict[str, int] = {}
    for judgement in judged:
        size, reason = (judgement.evidence.get(key) for key in ("mde_corrected", "reason"))
        if size:
            sizes.setdefault(judgement.claim.metric, []).append(size)
        elif reason and "p_holm" not in judgement.evidence:
            untested[reason] = untested.get(reason, 0) + 1
    told = [_missed(study, name, found) for name, found in sizes.items()]
    often = sorted(untested, key=lambda reason: -untested[reason])
    told += [f"{count(untested[reason], 'claim')}: {reason}." for reason in often[:MOST_CLAIMS]]
    return [("Cannot tell", " ".join(told))] if told else []


def _missed(study: Study, name: str, sizes: Sequence[float]) -> str:
    metric = study.metric(name)
    low, high = (short(size * metric.scale) for size in (min(sizes), max(sizes)))
    size = of_difference(metric, low if low == high else f"{low} to {high}")
    verb = "miss" if len(sizes) > 1 else "misses"
    return (
        f"{count(len(sizes), 'comparison')} of {metric.label or name} {verb} a true difference "
        f"below {size} more often than one time in five."
    )


def _controls(judged: Sequence[Judgement], several: bool) -> list[Line]:
    if not judged:
        return []
    failed = [j for j in judged if j.outcome == "violated"]
    if failed:
        return [("Controls", f"Do not trust this run: {_named(failed, several=several)}")]
    held = sum(j.outcome == "held" for j in judged)
    if held == len(judged):
        return [("Controls", f"{'All ' if held > 1 else ''}{held} came out as they must.")]
    if not held:
        return [("Controls", "None has come out yet: whether the study sees anything stays open.")]
    return [("Controls", f"{held} of {len(judged)} came out as they must; the rest stay open.")]


def measured(facts: Mapping[str, str]) -> str:
    """Return how it was measured, in one line, from the page's provenance."""
    versions = [f"{name} {facts[name]}" for name in ("torch", "transformers") if name in facts]
    weights = f"{facts['weights']} weights" if "weights" in facts else None
    told = [facts.get("devices"), weights, *versions, facts.get("measured (UTC)")]
    return " · ".join(text for text in told if text)
