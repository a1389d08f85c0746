"""A comparison on the terminal: one screen, and the sentences that every other form repeats."""

from collections.abc import Sequence

from benchsuite import __version__
from benchsuite.comparing.measured import BOTH, Comparison, Facts, Paired
from benchsuite.comparing.rows import Row, rows_of
from benchsuite.comparing.seeds import OverSeeds, over_seeds
from benchsuite.comparing.spread import Spread
from benchsuite.printable import count
from benchsuite.records.environment import named, version
from benchsuite.statistics.rounding import plain, short, with_interval

HEAD = ("metric", "base", "candidate", "difference, 95 %", "floor", "margin", "verdict")
OUTCOMES = {"not_worse": "not worse", "worse": "worse", "undecided": "undecided"}
ONE_QUANTIZATION = "one quantization: another seed may differ"
MOST_LAYERS = 10


def to_text(comparison: Comparison, *, seeds: bool = False) -> str:
    """Return what the terminal shows; ``seeds`` takes the candidates as seeds of one recipe."""
    parts = [f"{_read(comparison)}\n\n{facts_text('base', comparison.base)}"]
    for pair in comparison.pairs:
        parts.append(facts_text("candidate", pair.facts))
        parts.append(_pair(comparison, pair, seeds))
    if seeds:
        outcome, found = of_seeds(comparison)
        told = [seed_line(one) for one in found]
        parts.append("\n".join([f"over {len(comparison.pairs)} seeds: {OUTCOMES[outcome]}", *told]))
    return "\n".join(parts) + "\n"


def of_seeds(comparison: Comparison) -> tuple[str, list[OverSeeds]]:
    """Return the verdict over the candidates as seeds of one recipe."""
    settings = comparison.settings
    return over_seeds(comparison.pairs, margins=settings.margins, alpha=settings.alpha)


def seed_line(one: OverSeeds) -> str:
    """Return one metric's loss over seeds, in a sentence."""
    loss = with_interval(one.loss, one.low, one.high)
    return (
        f"  {one.metric}: loss {loss} {one.unit}, margin {short(one.margin)} {one.unit}: "
        f"{OUTCOMES[one.outcome]}"
    )


def table(comparison: Comparison, pair: Paired) -> list[tuple[str, ...]]:
    """Return the table's rows as text, under ``HEAD``."""
    return [cells(row) for row in all_rows(comparison, pair)]


def all_rows(comparison: Comparison, pair: Paired) -> list[Row]:
    """Return a candidate's rows as numbers."""
    return rows_of(pair, dict(comparison.settings.margins))


def cells(row: Row) -> tuple[str, ...]:
    """Return one row's cells."""
    difference = with_interval(row.difference, row.low, row.high)
    return (
        row.label,
        _value(row, row.base),
        _value(row, row.candidate),
        f"{difference} {row.unit}",
        "–" if row.floor is None else short(row.floor),
        row.margin or "–",
        verdict_text(row),
    )


def verdict_text(row: Row) -> str:
    """Return the verdict on a row in words; of an undecided one the items that would decide."""
    found = row.verdict
    if found is None:
        return "–"
    word = OUTCOMES[found.outcome]
    if found.outcome != "undecided":
        return word
    needed = found.items_needed
    return f"{word} ({needed:,} would decide)" if needed else f"{word} (too near the margin)"


def margins_text(comparison: Comparison, pair: Paired) -> str:
    """Return the margin that each judged metric was held against."""
    judged = [row for row in all_rows(comparison, pair) if row.verdict is not None]
    return "margins: " + ", ".join(f"{row.label} {row.margin}" for row in judged)


def items_text(comparison: Comparison, pair: Paired) -> str:
    """Return how many items stand behind the table."""
    parts = []
    for row in all_rows(comparison, pair):
        if row.verdict is not None and row.verdict.n_clusters:
            parts.append(f"{row.label} {row.verdict.n_clusters} clusters of chunks")
        elif row.verdict is not None:
            parts.append(f"{row.label} {row.n_items:,}")
    return "items: " + ", ".join(parts)


def sentences(comparison: Comparison, pair: Paired, *, seeds: bool = False) -> list[str]:
    """Return what has to be said beside the table, a sentence a line."""
    found = []
    settings = comparison.settings
    if not seeds:
        found.append(f"{OUTCOMES[pair.verdict.outcome]} ({ONE_QUANTIZATION})")
    found.append(
        f"verdicts by two one-sided tests at {settings.alpha:.3g} a metric; "
        f"overall {pair.verdict.correction}"
    )
    found += flip_lines(pair)
    found += [f"not compared: {why}" for why in pair.refused]
    found += [f"{comparison.base.name}: {note}" for note in comparison.base.notes]
    found += [f"{pair.facts.name}: {note}" for note in pair.facts.notes]
    return found


def flip_lines(pair: Paired) -> list[str]:
    """Return by task how many questions flipped, with McNemar's exact p-value."""
    return [
        f"{found.metric}: {count(found.lost, 'question')} lost, {found.gained} gained, "
        f"McNemar's exact p = {found.mcnemar_p:.2g}"
        for found in pair.verdict.metrics
        if found.lost is not None and found.gained is not None and found.mcnemar_p is not None
    ]


def spread_line(spread: Spread) -> str:
    """Return how the KL is spread over tokens."""
    return (
        f"by token: median {short(spread.median)}, 90 % below {short(spread.p90)}, "
        f"99 % below {short(spread.p99)}, largest {short(spread.largest)} nats"
    )


def bins_line(spread: Spread) -> str:
    """Return the KL by the base's confidence."""
    parts = [
        f"{part.low:g}–{part.high:g}: {short(part.kl)} ({part.n:,})"
        for part in spread.bins
        if part.kl is not None
    ]
    return "by the base's highest probability: " + ", ".join(parts)


def facts_text(role: str, facts: Facts) -> str:
    """Return one line on a model: sizes, dtype, speed, by whom it was read."""
    if facts.memory_bytes is None:
        return f"{role:<10}{facts.name}: read by {facts.read_by}, which tells no size or dtype"
    disk = "–" if facts.disk_bytes is None else megabytes(facts.disk_bytes)
    parts = [
        f"{disk} on disk",
        f"{megabytes(facts.memory_bytes)} in memory",
        f"computes in {facts.dtype}",
        f"read by {facts.read_by}",
    ]
    if facts.speed is not None:
        speed = facts.speed
        parts.insert(2, f"{speed.median:.3g} tokens/s ({speed.low:.3g} to {speed.high:.3g}) here")
    return f"{role:<10}{facts.name}: {', '.join(parts)}"


def megabytes(size: int) -> str:
    """Return bytes as MB."""
    return f"{size / 1e6:,.4g} MB" if size < 1e9 else f"{size / 1e6:,.0f} MB"


def layer_lines(pair: Paired) -> list[str]:
    """Return the costliest layers: KL alone, relative error of the weight, name."""
    if not pair.layers:
        return []
    shown = pair.layers[:MOST_LAYERS]
    lines = [
        f"  {short(layer.kl):>10}  {'–' if layer.error is None else f'{layer.error:.4f}':>8}  "
        f"{layer.name}"
        for layer in shown
    ]
    more = len(pair.layers) - len(shown)
    rest = [f"  and {more} more, in --json and --html"] if more else []
    return ["layers alone, KL in nats and ||W' - W|| / ||W||, the costliest first:", *lines, *rest]


def measured_on(comparison: Comparison) -> str:
    """Return the device and the versions: without them speeds and last digits say nothing."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    sides = (comparison.base, *(pair.facts for pair in comparison.pairs))
    server = (
        "; a server does not tell its own" if any(s.memory_bytes is None for s in sides) else ""
    )
    return f"{_hardware(comparison)}, benchsuite {__version__}, {versions}{server}"


def _hardware(comparison: Comparison) -> str:
    device = named(comparison.device)
    return f"{device.kind}: {device.name}"


def _read(comparison: Comparison) -> str:
    settings = comparison.settings
    read = [pair.reading for pair in comparison.pairs if pair.reading is not None]
    if not read and not any(read_text(pair) for pair in comparison.pairs):
        return f"device {_hardware(comparison)}"
    if not read:
        return (
            f"{settings.text.name}: chunks of {settings.seq_len:,} tokens, read by each alone "
            f"({_hardware(comparison)})"
        )
    seconds = ", ".join(f"{each.seconds:.3g} s" for each in read)
    by = "both" if {each.how for each in read} == {BOTH} else "one after the other"
    return (
        f"{settings.text.name}: {read[0].n_chunks:,} chunks of {read[0].seq_len:,} tokens, read by "
        f"{by} in {seconds} ({_hardware(comparison)})"
    )


def read_text(pair: Paired) -> bool:
    """Say whether both sides read the text: not where their vocabularies differ, for one."""
    return any(items.metric == "nll" for items in pair.items)


def _pair(comparison: Comparison, pair: Paired, seeds: bool) -> str:
    lines = ["", *aligned([HEAD, *table(comparison, pair)]), items_text(comparison, pair)]
    if pair.spread is not None:
        lines += ["KL " + spread_line(pair.spread), "KL " + bins_line(pair.spread)]
    lines += layer_lines(pair)
    lines += ["", *sentences(comparison, pair, seeds=seeds), ""]
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines with columns of one width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _value(row: Row, value: float) -> str:
    return f"{value:.1f} %" if row.unit == "points" else plain(value)
