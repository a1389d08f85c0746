"""The uncertainty study's comparisons: scores, families, sizes, data sets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchsuite.reporting.figures.style import (
    COLOURS,
    HATCHES,
    MARKERS,
    chance_line,
    errors,
    new_figure,
)
from benchsuite.studies.uncertainty.figures_parts import (
    AUROC,
    CHANCE,
    Summary,
    intervals,
    known,
    legend_below,
    model_rows,
    names,
    or_nan,
    panels,
    scores,
)
from benchsuite.studies.uncertainty.runs import Run


def heatmap(runs: Sequence[Run], summary: Summary) -> Figure:
    """AUROC of every score (columns) for every model (rows), one panel per data set."""
    datasets = names(runs, "dataset")
    titles = scores(runs)
    methods = list(titles)
    labels = names(runs, "label")
    # Room for the colour bar and long names, however few models and scores there are.
    width, height = max(4.0, 1.2 + 0.62 * len(methods)), max(3.4, 2.0 + 0.34 * len(labels))
    figure, every = panels(len(datasets), width, height, sharey=True)
    for axes, dataset in zip(every, datasets, strict=True):
        values = np.full((len(labels), len(methods)), np.nan)
        for run in (run for run in runs if run.dataset == dataset):
            for column, method in enumerate(methods):
                values[labels.index(run.label), column] = or_nan(run.auroc(method))
        image = axes.imshow(values, cmap="cividis", vmin=0.4, vmax=1.0, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            text = "–" if np.isnan(value) else f"{value:.2f}"
            ink = "white" if value < 0.7 else "black"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
        axes.set_xticks(range(len(methods)), titles.values(), rotation=90)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_title(dataset)
        axes.tick_params(length=0)
    figure.colorbar(image, ax=every, label="AUROC of wrong answers")
    return figure


def family_comparison(runs: Sequence[Run], summary: Summary) -> Figure:
    """Mean AUROC of each family on each data set, with the runs that it averages.

    Families of other sizes are no fair comparison: points grow with the model, and the study's
    question of families compares models of like size alone.
    """
    families, datasets = names(runs, "family"), names(runs, "dataset")
    figure = new_figure(max(5.5, 1.6 + 1.5 * len(families)), 4.2)
    axes = figure.subplots()
    width = 0.8 / len(datasets)
    smallest = min(run.n_parameters for run in runs)
    for place, dataset in enumerate(datasets):
        at = [i + (place - (len(datasets) - 1) / 2) * width for i in range(len(families))]
        groups = [
            known(r for r in runs if (r.family, r.dataset) == (name, dataset)) for name in families
        ]
        heights = [float(np.mean([r.auroc() for r in g])) if g else np.nan for g in groups]
        colour, hatch = COLOURS[place], HATCHES[place]
        axes.bar(
            at,
            np.array(heights) - CHANCE,
            0.92 * width,
            CHANCE,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            label=dataset,
            alpha=0.85,
        )
        for x, group in zip(at, groups, strict=True):
            reach = 0.22 * width if len(group) > 1 else 0
            spread = np.linspace(-reach, reach, len(group))
            points = [float(r.auroc() or 0) for r in group]
            grown = [14 + 14 * float(np.log10(r.n_parameters / smallest)) for r in group]
            axes.scatter(x + spread, points, s=grown, c="white", edgecolors="black", zorder=3)
    axes.set_xticks(range(len(families)), families)
    axes.set_ylabel(AUROC)
    chance_line(axes)
    # In two lines: with two families the figure is narrower than one.
    axes.set_title("Bars: means, from chance on\nPoints: runs, larger models larger")
    legend_below(figure, axes, len(datasets))
    return figure


def size_effect(runs: Sequence[Run], summary: Summary) -> Figure:
    """AUROC against the number of parameters, a line per family, one panel per data set."""
    datasets, families = names(runs, "dataset"), names(runs, "family")
    reduced = [name for name in names(runs, "precision") if name != "fp16"]
    figure, every = panels(len(datasets), 4.2, 3.6, sharey=True)
    for axes, dataset in zip(every, datasets, strict=True):
        for place, name in enumerate(families):
            own = [r for r in known(runs) if (r.family, r.dataset) == (name, dataset)]
            full = sorted((r for r in own if r.precision == "fp16"), key=lambda r: r.n_parameters)
            # Families stand beside each other, for their sizes are nearly equal.
            shift = 1.05 ** (place - (len(families) - 1) / 2)
            _points(axes, full, COLOURS[place], MARKERS[place], shift, line=True, label=name)
            for step, precision in enumerate(reduced, start=1):
                kind = [r for r in own if r.precision == precision]
                aside = shift * 1.18**step
                _points(axes, kind, COLOURS[place], MARKERS[place], aside, hollow=True)
        axes.set_xscale("log")
        axes.set_title(dataset)
        axes.set_xlabel("parameters")
        chance_line(axes)
    figure.supylabel(AUROC, fontsize=10)
    _parameter_ticks(every, runs)
    order = f" (left to right {', '.join(reduced)})" if len(reduced) > 1 else ""
    note = f"filled: 16 bits, hollow: reduced{order}"
    legend_below(figure, every[0], len(families) + 1, [note])
    return figure


def dataset_effect(runs: Sequence[Run], summary: Summary) -> Figure:
    """Every model's AUROC on each data set, with intervals."""
    labels, datasets = names(runs, "label"), names(runs, "dataset")
    figure = new_figure(7, 1.6 + (0.18 + 0.12 * len(datasets)) * len(labels))
    axes = figure.subplots()
    for place, dataset in enumerate(datasets):
        own = known(r for r in runs if r.dataset == dataset)
        shift = (place - (len(datasets) - 1) / 2) * 0.7 / len(datasets)
        at = [labels.index(r.label) + shift for r in own]
        values, low, high = intervals(own)
        axes.errorbar(
            values,
            at,
            xerr=errors(values, low, high),
            fmt=MARKERS[place],
            color=COLOURS[place],
            capsize=2,
            label=dataset,
        )
    model_rows(axes, labels)
    axes.set_title("Data sets: AUROC and 95 % interval over questions")
    legend_below(figure, axes, len(datasets))
    return figure


def _points(
    axes: Any,
    runs: Sequence[Run],
    colour: str,
    marker: str,
    shift: float,
    *,
    line: bool = False,
    hollow: bool = False,
    label: str | None = None,
) -> None:
    if not runs:
        return
    values, low, high = intervals(runs)
    axes.errorbar(
        [run.n_parameters * shift for run in runs],
        values,
        yerr=errors(values, low, high),
        fmt=marker,
        linestyle="-" if line else "none",
        color=colour,
        mfc="white" if hollow else colour,
        capsize=2,
        label=label,
    )


def _parameter_ticks(every: Sequence[Any], runs: Sequence[Run]) -> None:
    """Write one tick per size class: sizes within a factor of 1.6 share one."""
    found: list[list[int]] = []
    for size in sorted({run.n_parameters for run in runs}):
        if found and size < 1.6 * found[-1][0]:
            found[-1].append(size)
        else:
            found.append([size])
    at = [float(np.mean(group)) for group in found]
    for axes in every:
        axes.set_xticks(at, [_size_name(group[0], group[-1]) for group in found])
        axes.set_xticks([], minor=True)
        axes.set_xlim(0.6 * at[0], 1.7 * at[-1])


def _size_name(low: int, high: int) -> str:
    unit, letter = (1e9, "B") if high >= 1e9 else (1e6, "M")
    scaled = [size / unit for size in (low, high)]
    ends = dict.fromkeys(f"{x:.0f}" if x >= 100 else f"{x:.2g}" for x in scaled)
    return f"{'–'.join(ends)} {letter}"
