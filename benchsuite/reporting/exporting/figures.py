"""Each figure as SVG: those that the page draws, as files of their own, and every seed's."""

import functools
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchsuite.printable import in_file_name
from benchsuite.records.files import fitting_name, write_whole
from benchsuite.reporting.exporting.tables import by_weights
from benchsuite.reporting.figures import critical, tradeoff
from benchsuite.reporting.figures.seeds import draw_seeds, file_name
from benchsuite.reporting.groups import groups_of
from benchsuite.reporting.page.rendering import templates
from benchsuite.reporting.results import StudyResults

# The page's own rules for what its figures are made of, and the colours of its light form.
_RULE = re.compile(
    r"^(?:\.figure )?(text|\.(?:name|rule|line|same|seeds|edge|mark)[.\w]*)\{(.*)\}$", re.MULTILINE
)
_COLOUR = re.compile(r"--(\w+):(#\w+)")
_SVG = "http://www.w3.org/2000/svg"


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
    for view in filter(None, map(critical.view, results.over["ranks"])):
        setting = f"__{view['setting']}" if view["setting"] else ""
        written.append(_write(folder, f"critical_difference{setting}", _drawn("critical", view)))
    return written


def _write(folder: Path, name: str, svg: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{fitting_name(in_file_name(name))}.svg"
    write_whole(path, svg.encode(), durable=False)
    return path


def _drawn(macro: str, view: dict[str, Any], *words: str) -> str:
    """Return the page's own drawing of a view, with the colours that it has there by day.

    They are written at each element: few programs for figures read a style sheet.
    """
    draw = getattr(templates().get_template("figures.html.j2").module, macro)
    (text,) = re.findall(r"<svg.*</svg>", str(draw(view, *words)), re.DOTALL)
    drawing = ElementTree.fromstring(text)
    width, height = view["size"]
    drawing.attrib |= {"xmlns": _SVG, "width": str(width), "height": str(height)}
    drawing.attrib |= {"font-family": "sans-serif"}
    for element in drawing.iter():
        classes = set(element.attrib.pop("class", "").split())
        for tag, wanted, look in _rules():
            if tag in ("", element.tag) and wanted <= classes:
                element.attrib |= look
    return ElementTree.tostring(drawing, encoding="unicode") + "\n"


@functools.cache
def _rules() -> list[tuple[str, set[str], dict[str, str]]]:
    """Return the page's rules in their order: tag or nothing, classes, attributes."""
    environment = templates()
    assert environment.loader is not None
    css = environment.loader.get_source(environment, "report.css")[0]
    light = dict(_COLOUR.findall(css.partition("@media")[0]))
    found = []
    for selector, body in _RULE.findall(css):
        body = re.sub(r"var\(--(\w+)\)", lambda name: light[name[1]], body)
        look = dict(part.split(":", 1) for part in body.split(";"))
        tag, *classes = selector.split(".")
        found.append((tag, set(classes), look))
    return found
