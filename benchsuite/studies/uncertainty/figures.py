"""The uncertainty study's figures: ten under the G-NLL study's names, and reliability."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchsuite.printable import count
from benchsuite.reporting.figures.style import (
    COLOURS,
    GREY,
    MARKERS,
    chance_line,
    errors,
    new_figure,
    save,
    styled,
)
from benchsuite.studies.uncertainty import figures_effects as effects
from benchsuite.studies.uncertainty import figures_reliability as reliability
from benchsuite.studies.uncertainty import figures_tokens as tokens
from benchsuite.studies.uncertainty.figures_parts import (
    AUROC,
    TITLES,
    Summary,
    intervals,
    known,
    legend_below,
    model_rows,
    names,
    panels,
    scores,
)
from benchsuite.studies.uncertainty.runs import PRIMARY, Run


def draw_all(runs: Sequence[Run], summary: Summary, folder: Path) -> list[Path]:
    """Draw every figure that the runs have something for; return the files written."""
    figures: dict[str, Callable[[Sequence[Run], Summary], Figure | None]] = {
        "auroc_heatmap": effects.heatmap,
        "family_comparison": effects.family_comparison,
        "size_effect": effects.size_effect,
        "dataset_effect": effects.dataset_effect,
        "accuracy_vs_auroc": accuracy_vs_auroc,
        "radar_chart": radar_chart,
        "overall_statistics": overall_statistics,
        "best_performers": best_performers,
        "key_findings": key_findings,
        "token_uncertainty": tokens.token_uncertainty,
        "reliability": reliability.diagram,
    }
    written = []
    with styled():
        for name, draw in figures.items():
            figure = draw(runs, summary)
            if figure is not None:
                written += save(figure, folder, name)
    return written


def accuracy_vs_auroc(runs: Sequence[Run], summary: Summary) -> Figure:
    """Is a model that is right more often also surer when it is right? One point per run."""
    figure = new_figure(7, 4.8)
    axes = figure.subplots()
    families, datasets = names(runs, "family"), names(runs, "dataset")
    for run in known(runs):
        colour = COLOURS[families.index(run.family)]
        full = run.precision == "fp16"
        axes.scatter(
            run.any_record.value("accuracy"),
            float(run.auroc() or 0),
            # A reduced model's ring goes around the point of its twin, which it would hide under.
            s=(30 + 14 * np.log10(run.n_parameters / 1e6)) * (1 if full else 2.6),
            marker=MARKERS[datasets.index(run.dataset)],
            facecolors=colour if full else "none",
            edgecolors=colour,
            linewidths=1.3,
            alpha=0.9,
        )
    for place, name in enumerate(families):
        axes.plot([], [], "o", color=COLOURS[place], label=name)
    for place, name in enumerate(datasets):
        axes.plot([], [], MARKERS[place], color=GREY, label=name)
    axes.plot([], [], "o", mfc="none", color=GREY, ms=9, label="reduced precision")
    axes.set_xlabel("accuracy")
    axes.set_ylabel(AUROC)
    chance_line(axes)
    found = summary["advanced"]["accuracy_and_auroc"]
    if found["spearman"] is not None:
        axes.set_title(f"Spearman {found['spearman']:.2f} over {count(found['n_runs'], 'run')}")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


def radar_chart(runs: Sequence[Run], summary: Summary) -> Figure | None:
    """Each family's profile: accuracy, AUROC and rejection area, data set by data set."""
    families, datasets = names(runs, "family"), names(runs, "dataset")
    what: dict[str, Callable[[Run], Any]] = {
        "AUROC": lambda run: run.auroc(),
        "accuracy": lambda run: run.any_record.value("accuracy"),
        "surest accuracy": lambda run: run.records[PRIMARY].value("rejection_area"),
    }
    if len(datasets) > 3:
        del what["surest accuracy"]  # more spokes than their labels have room
    spokes = [(name, dataset) for dataset in datasets for name in what]
    angles = np.linspace(0, 2 * np.pi, len(spokes), endpoint=False)
    figure = new_figure(9, 5.2)
    axes: Any = figure.add_subplot(projection="polar")
    drawn = False
    for place, family in enumerate(families):
        values = []
        for name, dataset in spokes:
            own = known(r for r in runs if (r.family, r.dataset) == (family, dataset))
            values.append(float(np.mean([what[name](r) for r in own])) if own else np.nan)
        if np.isnan(values).any():
            continue
        drawn = True
        closed = [*values, values[0]]
        line = ("-", "--", ":", "-.")[place % 4]
        axes.plot([*angles, angles[0]], closed, line, color=COLOURS[place], label=family, lw=2)
        axes.scatter(angles, values, color=COLOURS[place], marker=MARKERS[place], s=28, zorder=3)
    if not drawn:
        return None
    axes.set_ylim(0, 1)
    axes.set_yticks([0.25, 0.5, 0.75, 1.0], ["0.25", "0.5", "", ""], color=GREY, fontsize=8)
    axes.set_rlabel_position(90)
    axes.set_title("0 in the middle, 1 at the rim", color=GREY, fontsize=9, y=-0.12)
    axes.set_xticks(angles, [""] * len(spokes))
    for angle, (name, dataset) in zip(angles, spokes, strict=True):
        side = np.cos(angle)
        align = "center" if abs(side) < 0.1 else ("left" if side > 0 else "right")
        text = f"{name}\n{dataset}"
        axes.text(angle, 1.08, text, ha=align, va="center", multialignment="center")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


def overall_statistics(runs: Sequence[Run], summary: Summary) -> Figure:
    """Every score's AUROC over all runs: each run a point, the mean a bar."""
    titles = scores(runs)
    methods = list(titles)
    datasets = names(runs, "dataset")
    figure = new_figure(7, max(2.6, 1.4 + 0.45 * len(methods)))
    axes = figure.subplots()
    for place, dataset in enumerate(datasets):
        shift = (place - (len(datasets) - 1) / 2) * 0.5 / len(datasets)
        points = [
            (run.auroc(method), row + shift)
            for row, method in enumerate(methods)
            for run in runs
            if run.dataset == dataset and run.auroc(method) is not None
        ]
        if points:
            values, at = zip(*points, strict=True)
            axes.scatter(
                values,
                at,
                s=22,
                marker=MARKERS[place],
                color=COLOURS[place],
                alpha=0.75,
                label=dataset,
            )
    for row, method in enumerate(methods):
        mean = summary["overall"][method]["mean"]
        if mean is not None:
            axes.plot([mean, mean], [row - 0.36, row + 0.36], color="black", lw=2, zorder=3)
            axes.annotate(
                f"{mean:.2f}", (1.01, row), xycoords=("axes fraction", "data"), va="center"
            )
    axes.set_yticks(range(len(methods)), titles.values())
    axes.invert_yaxis()
    axes.set_xlabel("AUROC of wrong answers (bar and number: mean)")
    chance_line(axes, vertical=True)
    axes.set_title(f"Scores over {count(len(runs), 'run')}")
    legend_below(figure, axes, len(datasets))
    return figure


def best_performers(runs: Sequence[Run], summary: Summary) -> Figure | None:
    """The runs in the order of their AUROC, those not told from the best one marked."""
    datasets = [d for d in names(runs, "dataset") if d in summary["best"]]
    if not datasets:
        return None
    most = max(len([r for r in runs if r.dataset == d]) for d in datasets)
    figure, every = panels(len(datasets), 5.0, 1.4 + 0.34 * most, sharex=True)
    for axes, dataset in zip(every, datasets, strict=True):
        own = sorted(
            known(r for r in runs if r.dataset == dataset), key=lambda r: -(r.auroc() or 0)
        )
        found = summary["best"][dataset]
        ties = {found["best"], *found["not_told_from_it"]}
        for row, run in enumerate(own):
            value, low, high = (v[0] for v in intervals([run]))
            tied = run.label in ties
            axes.errorbar(
                [value],
                [row],
                xerr=errors([value], [low], [high]),
                fmt="o",
                mfc=COLOURS[0] if tied else "white",
                color=COLOURS[0] if tied else GREY,
                capsize=2,
            )
        model_rows(axes, [run.label for run in own])
        axes.set_title(dataset)
        axes.tick_params(labelbottom=True)
    figure.suptitle("Filled: not told from the best (DeLong, uncorrected)", fontsize=10)
    return figure


def key_findings(runs: Sequence[Run], summary: Summary) -> Figure:
    """The five questions: estimate and interval, or why there is none."""
    questions = summary["questions"]
    figure = new_figure(9, 1.2 + 0.78 * len(questions))
    axes = figure.subplots()
    for row, found in enumerate(questions):
        if found["ci95"] is None:
            axes.annotate(f" {found['outcome']}", (0, row), va="center", color=GREY)
            continue
        sure = found["p_holm"] is not None and found["p_holm"] < 0.05
        low, high = found["ci95"]
        axes.errorbar(
            [found["estimate"]],
            [row],
            xerr=errors([found["estimate"]], [low], [high]),
            fmt="D",
            color=COLOURS[0] if sure else GREY,
            mfc=COLOURS[0] if sure else "white",
            capsize=3,
            ms=7,
        )
    asked = [
        f"{q['question'].split(':')[0]}\n{textwrap.fill(q['contrast'], 46)}" for q in questions
    ]
    axes.set_yticks(range(len(questions)), asked)
    axes.set_ylim(len(questions) - 0.5, -0.5)  # room for those that have no point
    axes.margins(x=0.15)
    axes.axvline(0, color=GREY, linewidth=1, zorder=0.5)
    axes.set_xlabel(f"difference of AUROC ({TITLES[PRIMARY]}), 95 % interval over questions")
    axes.set_title("Filled: Holm-corrected p below .05 over the five questions")
    return figure
