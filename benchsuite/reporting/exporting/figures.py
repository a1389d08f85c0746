"""Each figure as SVG: those that the page draws, as files of their own, and every seed's."""

import functools
import re
from pathlib import Path
from typing import Any

from benchsuite.records.files import fitting_name, write_whole
from benchsuite.reporting.exporting.tables import by_weights, over_models
from benchsuite.reporting.figures import critical, tradeoff
from benchsuite.reporting.figures.seeds import draw_seeds, file_name
from benchsuite.reporting.groups import groups_of
from benchsuite.reporting.page import templates
from benchsuite.reporting.results import StudyResults

# The page's own rules for what its figures are made of.
_RULES = re.compile(r"^\.(?:figure \.?\w|rule|line|same|seeds|edge|mark)\b.*$", re.MULTILINE)
_COLOUR = re.compile(r"--(\w+):(#\w+)")


def write_figures(results: StudyResults, folder: Path) -> list[Path]:
    """Write a study's figures; return their paths.

    As in tables, kinds of weights stay apart.
    """
    written = []
    for group in groups_of(results.cells, results.records):
        if group.kind == "rehearsal":
            continue
        parts = by_weights(group)
        for weights, part in parts.items():
            name = file_name(group) + (f"__{weights}" if len(parts) > 1 else "")
            written += draw_seeds(results.study, part, folder, name, kinds=("svg",))
            for view in tradeoff.views(results.study, part):
                svg = _drawn("tradeoff", view, results.study.original)
                written.append(_write(folder, f"{name}__{view['cost']}", svg))
    for view in filter(None, map(critical.view, over_models(results, "ranks"))):
        setting = f"__{view['setting']}" if view["setting"] else ""
        written.append(_write(folder, f"critical_difference{setting}", _drawn("critical", view)))
    return written


def _write(folder: Path, name: str, svg: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    marks = "".join(c if c.isalnum() or c in ".-" else "_" for c in name)
    path = folder / f"{fitting_name(marks)}.svg"
    write_whole(path, svg.encode(), durable=False)
    return path


def _drawn(macro: str, view: dict[str, Any], *words: str) -> str:
    """Return the page's own drawing of a view, with the colours that it has there by day."""
    draw = getattr(templates().get_template("figures.html.j2").module, macro)
    (drawing,) = re.findall(r"<svg.*</svg>", str(draw(view, *words)), re.DOTALL)
    width, height = view["size"]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    styled = drawing.replace("<svg ", head, 1).replace(">", f"><style>{_style()}</style>", 1)
    return f"{styled}\n"


@functools.cache
def _style() -> str:
    """Return the page's rules for its figures, with the variables of its light form written out."""
    environment = templates()
    assert environment.loader is not None
    css = environment.loader.get_source(environment, "report.css")[0]
    light = dict(_COLOUR.findall(css.partition("@media")[0]))
    rules = "\n".join(_RULES.findall(css)).replace("ui-monospace,", "")
    rules = re.sub(r"var\(--(\w+)\)", lambda found: light[found[1]], rules)
    return f"text{{font-family:sans-serif}}\n{rules}"
