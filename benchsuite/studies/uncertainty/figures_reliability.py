"""Are answers right as often as the model says? Reliability diagrams, a panel per data set."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from benchsuite.reporting.figures.style import COLOURS, GREY, MARKERS, errors, new_figure
from benchsuite.studies.uncertainty.runs import PRIMARY, Run


def diagram(runs: Sequence[Run], summary: Mapping[str, Any]) -> Figure | None:
    """Draw the share of right answers over the probability of the greedy answer, by tenths.

    A model's bins hold equally many questions; bars are Wilson's 95 % intervals.
    """
    shown = [r for r in runs if PRIMARY in r.records and r.records[PRIMARY].value("reliability")]
    if not shown:
        return None
    datasets = list(dict.fromkeys(run.dataset for run in shown))
    labels = list(dict.fromkeys(run.label for run in shown))
    figure = new_figure(1.6 + 3.6 * len(datasets), 4.4)
    panels = figure.subplots(1, len(datasets), squeeze=False, sharey=True)[0]
    for axes, dataset in zip(panels, datasets, strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
        for run in (r for r in shown if r.dataset == dataset):
            _line(axes, run, labels.index(run.label))
        axes.set_title(dataset)
        axes.set_xlabel("probability of the answer")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
    panels[0].set_ylabel("share of right answers")
    handles = {h: t for a in panels for h, t in zip(*a.get_legend_handles_labels(), strict=True)}
    first = {text: handle for handle, text in handles.items()}
    figure.legend(first.values(), first.keys(), loc="outside right upper")
    return figure


def _line(axes: Any, run: Run, place: int) -> None:
    bins = run.records[PRIMARY].value("reliability")
    right = [part["right"] for part in bins]
    axes.errorbar(
        [part["probability"] for part in bins],
        right,
        yerr=errors(right, [part["low"] for part in bins], [part["high"] for part in bins]),
        fmt=f"{MARKERS[place]}-",
        color=COLOURS[place],
        linewidth=0.9,
        markersize=3.5,
        label=run.label,
    )
