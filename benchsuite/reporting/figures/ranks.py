"""The critical-difference diagram of Demsar (2006): mean ranks, and which of them differ."""

from pathlib import Path
from typing import Any

from benchsuite.reporting.figures.critical import joined
from benchsuite.reporting.figures.style import COLOURS, new_figure, save, styled
from benchsuite.statistics.ranks import Ranks


def write_critical_difference(ranks: Ranks, folder: Path, name: str) -> list[Path]:
    """Write ``<name>.png`` and ``.svg``: methods on an axis of ranks, bars join equals."""
    with styled():
        return save(_figure(ranks), folder, name)


def _figure(ranks: Ranks) -> Any:
    methods = sorted(ranks.mean_ranks.items(), key=lambda item: item[1])
    assert ranks.critical_difference is not None
    k, spans = len(methods), joined(ranks.mean_ranks, ranks.critical_difference)
    left = (k + 1) // 2
    top = 0.6 + 0.28 * len(spans)
    figure = new_figure(6.4, 1.2 + 0.3 * left + 0.16 * len(spans))
    axes = figure.subplots()
    axes.set_xlim(0.4, k + 0.6)
    axes.set_ylim(top + 0.6 * left + 0.4, -1.4)
    axes.axis("off")
    axes.plot([1, k], [0, 0], color="black", linewidth=1)
    for tick in range(1, k + 1):
        axes.plot([tick, tick], [0, -0.15], color="black", linewidth=1)
        axes.text(tick, -0.25, str(tick), ha="center", va="bottom")
    width = min(ranks.critical_difference, k - 1.0)
    axes.plot([1, 1 + width], [-1.0, -1.0], color=COLOURS[1], linewidth=2)
    more = "" if width == ranks.critical_difference else ", longer than the axis"
    axes.text(1, -1.1, f"CD = {ranks.critical_difference:.2f}{more}", va="bottom")
    for i, (low, high) in enumerate(spans):
        y = 0.35 + 0.28 * i
        axes.plot([low - 0.04, high + 0.04], [y, y], color=COLOURS[0], linewidth=4)
    for i, (method, rank) in enumerate(methods):
        first = i < left
        y = top + 0.6 * (i if first else k - 1 - i)
        end, align = (0.75, "right") if first else (k + 0.25, "left")
        axes.plot([rank, rank, end], [0, y, y], color="black", linewidth=0.8)
        text = f"{method} {rank:.2f}" if first else f"{rank:.2f} {method}"
        axes.text(end + (-0.05 if first else 0.05), y, text, ha=align, va="center")
    axes.set_title(
        f"Mean ranks over {ranks.n_models} models (1 is best)", loc="left", fontsize="medium"
    )
    return figure
