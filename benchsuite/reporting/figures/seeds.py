"""Figures for a paper: every seed of every method a point, its mean and interval beside it."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchsuite.printable import in_file_name
from benchsuite.records.files import fitting_name
from benchsuite.reporting import numbers
from benchsuite.reporting.figures.style import (
    COLOURS,
    GREY,
    KINDS,
    new_figure,
    row_labels,
    save,
    styled,
)
from benchsuite.reporting.groups import Group, groups_of
from benchsuite.reporting.results import StudyResults
from benchsuite.reporting.summary import arms_as_shown
from benchsuite.study import Metric, Study

_SEED, _MEAN, _CONTROL = COLOURS[0], "#222222", GREY
# Letters of a line of the title: it begins where the methods' names end.
_TITLE = 52
_LINE = 0.2  # inches of a further line of the title


def write_figures(results: StudyResults, folder: Path) -> list[Path]:
    """Write ``<group>.png`` and ``.svg`` per model and setting; return the paths.

    Methods are rows; points are seeds, the bar is the mean with its 95 % t-interval. Rehearsals
    and groups without the study's metric are not drawn.
    """
    written: list[Path] = []
    for group in groups_of(results.cells, results.records):
        if group.kind != "rehearsal":
            written += draw_seeds(results.study, group, folder, file_name(group))
    return written


def draw_seeds(
    study: Study, group: Group, folder: Path, name: str, kinds: Sequence[str] = KINDS
) -> list[Path]:
    """Write one model's figure under a name; nothing without the study's metric."""
    arms = arms_as_shown(group, study.ranked_by)
    if not arms:
        return []
    with styled():
        return save(_figure(study, group, arms), folder, name, kinds)


def _figure(study: Study, group: Group, arms: dict[str, Any]) -> Any:
    marks = textwrap.wrap(", ".join(group.marks), _TITLE)
    figure = new_figure(6.4, 0.9 + 0.34 * len(arms) + _LINE * max(0, len(marks) - 1))
    axes = figure.subplots()
    for row, (method, arm) in enumerate(arms.items()):
        colour = _CONTROL if method in study.controls else _SEED
        axes.plot(arm["values"], [row] * arm["n"], "o", color=colour, alpha=0.8, markersize=5)
        if arm["ci95"]:
            axes.plot(arm["ci95"], [row + 0.28] * 2, color=_MEAN, linewidth=1)
        if arm["n"] > 1:
            axes.plot([arm["mean"]], [row + 0.28], "|", color=_MEAN, markersize=8)
    axes.set_yticks(range(len(arms)), row_labels(arms))
    axes.set_ylim(len(arms) - 0.4, -0.6)
    metric = study.ranked_by
    axes.set_xlabel(metric.heading + (f", {metric.better} is better" if metric.better else ""))
    low, high = _limits(study, arms)
    axes.set_xlim(low, high)
    for row, arm in enumerate(arms.values()):
        out = sum(not low <= value <= high for value in arm["values"])
        if out:
            told = f"{out} of {arm['n']} outside, {_mean_told(metric, arm['mean'])}"
            axes.text(
                0.99, row, told, transform=axes.get_yaxis_transform(), ha="right", va="center"
            )
    kind = " (stand-in)" if group.kind == "stand_in" else ""
    title = "\n".join([f"{group.document_name}{kind}", *marks])
    axes.set_title(title, loc="left", fontsize="medium")
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def _mean_told(metric: Metric, mean: float | None) -> str:
    """Return the mean in words; values out of the range of float64's squares have none."""
    return "no mean" if mean is None else f"mean {numbers.one(replace(metric, scale=1), mean)}"


def _limits(study: Study, arms: dict[str, Any]) -> tuple[float, float]:
    """Return an axis for every seed but the controls', whose point is to leave it.

    A method whose values have no mean, being out of range, would leave the others one point.
    """
    sound = {m: arm for m, arm in arms.items() if arm["mean"] is not None}
    shown = [arm for m, arm in sound.items() if m not in study.controls] or list(sound.values())
    values = [value for arm in shown for value in arm["values"]] or [0.0]
    room = (max(values) - min(values)) * 0.15 or abs(values[0]) * 1e-3 or 1.0
    return min(values) - room, max(values) + room


def file_name(group: Group) -> str:
    """Return the name of a group's figure, without its ending."""
    kind = "__stand_in" if group.kind == "stand_in" else ""
    return fitting_name(in_file_name(group.key) + kind)
