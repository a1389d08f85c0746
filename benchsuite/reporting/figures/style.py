"""How every figure of the project looks, and how it is written."""

import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchsuite.records.files import write_whole


class _Again:
    """A row of signs that begins again after its last: there may be more things than signs."""

    def __init__(self, *signs: str) -> None:
        self._signs = signs

    def __getitem__(self, place: int) -> str:
        return self._signs[place % len(self._signs)]


# Okabe and Ito (2008): eight colours that all kinds of colour vision tell apart.
COLOURS = _Again(
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
)
# One more than the colours, so that the ninth thing is none of the first eight.
MARKERS = _Again("o", "s", "^", "D", "v", "P", "X", "*", "h")
HATCHES = _Again("", "//", "..", "xx", "\\\\", "++", "oo", "--", "**")
GREY = "#6E6E6E"
_LABEL = 30  # letters of a line of a row's name

KINDS = ("png", "svg")
_UNDATED: Any = {"png": {"Software": None}, "svg": {"Date": None}}

_SETTINGS: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "svg.hashsalt": "benchsuite",
    "svg.fonttype": "path",
    "hatch.linewidth": 0.6,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the project's style; matplotlib's own settings are as before afterwards."""
    with matplotlib.rc_context(_SETTINGS):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches, without any window."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, folder: Path, name: str, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Write ``name.png`` and ``name.svg``, each whole or not at all; no date in them."""
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    # The layout takes longer than the drawing: once for both files.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for kind in kinds:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=_UNDATED[kind])
        paths.append(folder / f"{name}.{kind}")
        write_whole(paths[-1], buffer.getvalue(), durable=False)
    return paths


def row_labels(names: Iterable[str]) -> list[str]:
    """Return the names of a figure's rows, long ones over two lines so that room is left."""
    most = 2 * _LABEL
    return [
        "\n".join(textwrap.wrap(name if len(name) <= most else f"{name[: most - 1]}…", _LABEL))
        for name in names
    ]


def chance_line(axes: Any, *, vertical: bool = False) -> None:
    """Draw the AUROC of a score that knows nothing."""
    draw = axes.axvline if vertical else axes.axhline
    draw(0.5, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0.5)


def errors(values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> list[Any]:
    """Return an interval as the distances from the value that matplotlib's error bars take."""
    below = [max(0.0, v - low) for v, low in zip(values, lows, strict=True)]
    above = [max(0.0, high - v) for v, high in zip(values, highs, strict=True)]
    return [below, above]
