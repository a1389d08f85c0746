"""What the uncertainty study's figures share: names, intervals, axes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchsuite.reporting.figures.style import chance_line, new_figure
from benchsuite.studies.uncertainty.runs import PRIMARY, Run

TITLES = {
    "g_nll": "G-NLL",
    "rw_gnll": "RW-G-NLL",
    "mean_nll": "mean NLL",
    "predictive_entropy": "predictive entropy",
    "string_entropy": "equal strings",
    "semantic_discrete": "semantic, discrete",
    "semantic_nli": "semantic, NLI",
    "semantic_sets": "semantic sets",
    "sar": "SAR",
    "mean_token_entropy": "token entropy",
    "degree_matrix": "degree matrix",
    "eccentricity": "eccentricity",
    "eigenvalue": "eigenvalue",
    "kernel_language_entropy": "kernel entropy",
    "cocoa_msp": "CoCoA, MSP",
    "cocoa_ppl": "CoCoA, PPL",
    "cocoa_mte": "CoCoA, MTE",
    "verbalised_confidence": "verbalised",
    "p_true": "p(True)",
    "shuffled": "shuffled (control)",
}
CONTROL = "shuffled"
CHANCE = 0.5
AUROC = f"AUROC of wrong answers, {TITLES[PRIMARY]}"
Summary = Mapping[str, Any]


def panels(
    n: int, width: float, height: float, *, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Any]]:
    """Return a figure of ``n`` panels of this size in inches, two beside each other."""
    columns = min(n, 2)
    rows = -(-n // columns)
    figure = new_figure(width * columns, height * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).ravel()
    for unused in axes[n:]:
        unused.remove()
    return figure, list(axes[:n])


def names(runs: Sequence[Run], attribute: str) -> list[str]:
    """Return the different values of an attribute, in the order of the runs."""
    return list(dict.fromkeys(getattr(run, attribute) for run in runs))


def scores(runs: Sequence[Run]) -> dict[str, str]:
    """Return the runs' scores with their titles: a project's own before the control, by name."""
    met = {method for run in runs for method in run.records}
    own = {method: method.replace("_", " ") for method in sorted(met - set(TITLES))}
    first = {method: title for method, title in TITLES.items() if method != CONTROL}
    every = {**first, **own, CONTROL: TITLES[CONTROL]}
    return {method: title for method, title in every.items() if method in met}


def known(runs: Any) -> list[Run]:
    """Return the runs whose G-NLL has an AUROC."""
    return [run for run in runs if run.auroc() is not None]


def or_nan(value: float | None) -> float:
    """Return a value, or what arrays hold where there is none."""
    return np.nan if value is None else value


def intervals(runs: Sequence[Run]) -> tuple[list[float], list[float], list[float]]:
    """Return the runs' AUROCs under G-NLL with the lower and upper ends of their intervals.

    One without an interval, for want of wrong or right answers, has the AUROC for both ends.
    """
    areas = [run.records[PRIMARY].value("auroc") for run in runs]
    ends = [run.records[PRIMARY].value("auroc_ci95") for run in runs]
    whole = [[area, area] if end is None else end for area, end in zip(areas, ends, strict=True)]
    return areas, [low for low, _ in whole], [high for _, high in whole]


def model_rows(axes: Any, labels: Sequence[str]) -> None:
    """Make the vertical axis a list of models and the horizontal one the AUROC."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel(AUROC)
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.6)
    chance_line(axes, vertical=True)


def legend_below(figure: Figure, axes: Any, columns: int, notes: Sequence[str] = ()) -> None:
    """Put the legend below the axes, with further lines that explain no symbol."""
    handles, labels = axes.get_legend_handles_labels()
    for note in notes:
        handles.append(axes.plot([], [], " ")[0])
        labels.append(note)
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, 4))
