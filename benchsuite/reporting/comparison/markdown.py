"""A comparison as Markdown: a comment for a pull request, and a block for a model card."""

import re

from benchsuite.comparing.measured import Comparison, Paired
from benchsuite.printable import printable
from benchsuite.reporting.comparison.terminal import (
    HEAD,
    ONE_QUANTIZATION,
    OUTCOMES,
    bins_line,
    facts_text,
    items_text,
    margins_text,
    measured_on,
    of_seeds,
    read_text,
    seed_line,
    sentences,
    spread_line,
    table,
)

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def to_markdown(comparison: Comparison, *, seeds: bool = False) -> str:
    """Return the comment: a table a candidate, the sentences beside it, a model-card block."""
    parts = [f"## Is it as good as {_text(comparison.base.name)}?"]
    if seeds:
        outcome, found = of_seeds(comparison)
        parts.append(f"**Over {len(comparison.pairs)} seeds: {OUTCOMES[outcome]}**")
        parts.append("\n".join(f"- {_text(seed_line(one).strip())}" for one in found))
    for pair in comparison.pairs:
        parts += _pair(comparison, pair, seeds)
    settings = comparison.settings
    if any(read_text(pair) for pair in comparison.pairs):
        parts.append(
            f"Text: {_text(settings.text.name)} (sha256 `{settings.text.digest[:16]}`), chunks "
            f"of {settings.seq_len} tokens. The floor is the base against itself, in other batches "
            "and with its activations rounded once more (of a server: asked again): differences "
            "of that size mean nothing."
        )
    parts.append(f"Measured on {_text(measured_on(comparison))}.")
    return printable("\n\n".join(parts)) + "\n"


def _pair(comparison: Comparison, pair: Paired, seeds: bool) -> list[str]:
    verdict = OUTCOMES[pair.verdict.outcome]
    parts = [f"### {_text(pair.facts.name)}: {verdict}", _table(comparison, pair)]
    lines = [items_text(comparison, pair)]
    if pair.spread is not None:
        lines += [f"KL {spread_line(pair.spread)}", f"KL {bins_line(pair.spread)}"]
    lines += sentences(comparison, pair, seeds=seeds)
    lines += [facts_text("base", comparison.base), facts_text("candidate", pair.facts)]
    parts.append("\n".join(f"- {_text(line)}" for line in lines))
    parts.append(
        "<details><summary>For a model card</summary>\n\n"
        f"{_fenced(model_card(comparison, pair))}\n\n</details>"
    )
    return parts


def model_card(comparison: Comparison, pair: Paired) -> str:
    """Return a block for the candidate's model card: what was measured, how, and its verdict."""
    base, settings = comparison.base, comparison.settings
    text = f"{settings.text.name}, chunks of {settings.seq_len} tokens"
    said = [
        *([f"text: {text}"] if read_text(pair) else []),
        items_text(comparison, pair),
        margins_text(comparison, pair),
        *(f"{base.name}: {note}" for note in base.notes),
        *(f"this model: {note}" for note in pair.facts.notes),
    ]
    rows = "\n".join(f"| {' | '.join(map(_text, row[:5]))} |" for row in table(comparison, pair))
    return (
        f"### Compared with {_text(base.name)}\n\n"
        f"| metric | {_text(base.name)} | this model | difference [95 % interval] | noise floor |\n"
        f"|---|---|---|---|---|\n{rows}\n\n"
        f"{_text('; '.join(said))}. Verdict by these margins: {OUTCOMES[pair.verdict.outcome]} "
        f"({ONE_QUANTIZATION}). Measured on {_text(measured_on(comparison))}."
    )


def _table(comparison: Comparison, pair: Paired) -> str:
    head = f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}"
    rows = [f"| {' | '.join(map(_text, row))} |" for row in table(comparison, pair)]
    return "\n".join([head, *rows])


def _text(text: str) -> str:
    """Return a text that Markdown shows as it is, in one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _fenced(block: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", block)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}markdown\n{block}\n{fence}"
