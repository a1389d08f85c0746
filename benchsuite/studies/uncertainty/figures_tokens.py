"""The token-level view: how sure a model is of each token of right and of wrong answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchsuite.reporting.figures.style import COLOURS, GREY, MARKERS, new_figure
from benchsuite.studies.uncertainty.runs import Run

MOST_TOKENS = 8
LONGEST_PIECE = 9


def token_uncertainty(runs: Sequence[Run], summary: Mapping[str, Any]) -> Figure | None:
    """Mean NLL by token position, and whole answers token by token; a row per data set."""
    found = summary["advanced"]["tokens"]
    shown = {name: view for name, view in found.items() if view["right"] or view["wrong"]}
    if not shown:
        return None
    rows = max(_n_examples(view) for view in shown.values())
    figure = new_figure(11, max(2.8, 1.0 + 0.36 * rows) * len(shown))
    every = figure.subplots(len(shown), 2, squeeze=False, width_ratios=[3, 4])
    for (left, right), (name, view) in zip(every, shown.items(), strict=True):
        _positions(left, name, view)
        image = _examples(right, view)
    figure.colorbar(image, ax=list(every[:, 1]), label="NLL of the token, nats", shrink=0.7)
    return figure


def _n_examples(view: Mapping[str, Any]) -> int:
    return sum(len(examples) for examples in view["examples"].values())


def _positions(axes: Any, name: str, view: Mapping[str, Any]) -> None:
    for place, kind in enumerate(("right", "wrong")):
        steps = view[kind]
        at = 1 + np.arange(len(steps)) + (place - 0.5) * 0.12
        axes.errorbar(
            at,
            [step["mean"] for step in steps],
            yerr=[2 * step["error"] for step in steps],
            fmt=f"{MARKERS[place]}-",
            color=COLOURS[place],
            capsize=2,
            label=f"{kind} answers",
        )
    axes.set_title(name)
    axes.set_xlabel("token of the answer")
    axes.set_ylabel("mean NLL, nats (± 2 SE)")
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()


def _examples(axes: Any, view: Mapping[str, Any]) -> Any:
    named = [(kind, example) for kind, examples in view["examples"].items() for example in examples]
    values = np.full((max(1, len(named)), MOST_TOKENS), np.nan)
    for row, (_, example) in enumerate(named):
        for column, (_, nll) in enumerate(example["tokens"][:MOST_TOKENS]):
            values[row, column] = nll
    image = axes.imshow(values, cmap="cividis_r", vmin=0, vmax=4, aspect="auto")
    for row, (_, example) in enumerate(named):
        for column, (piece, nll) in enumerate(example["tokens"][:MOST_TOKENS]):
            ink = "black" if nll < 2 else "white"
            text = _short(piece)
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=7)
    axes.set_yticks(range(len(named)), [kind for kind, _ in named], fontsize=8)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_xlabel(f"answers, the first {MOST_TOKENS} tokens", color=GREY, fontsize=9)
    return image


def _short(piece: str) -> str:
    # A dollar would begin mathematics.
    text = piece.replace("\n", "\\n").replace("$", r"\$")
    return text if len(text) <= LONGEST_PIECE else f"{text[: LONGEST_PIECE - 1]}…"
