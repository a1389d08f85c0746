"""Commands as they are typed. What reruns cells may select a few too many of the same grid."""

import shlex
from collections.abc import Iterable, Sequence

from benchsuite.study import Cell, Study
from benchsuite.study.parameter import as_setting


def rerun_command(
    study: Study,
    cells: Sequence[Cell],
    options: Sequence[str] = (),
    where: Sequence[str] = ("benchmarks",),
    *,
    grid: Sequence[Cell] = (),
    by_method: bool = False,
) -> str:
    """Return the shortest command whose selection covers ``cells`` of one study.

    It names where the session found them, the axis values that all of them share, the options that
    their parameters need, and the session's own ``options``. What it selects beside them is of the
    ``grid`` that was asked for, whose seeds and settings it names too. With ``by_method`` it names
    each method, and takes in no other.
    """
    beside = _alike(study, cells, grid)
    methods = dict.fromkeys(cell.method if by_method else "" for cell in cells)
    marks = [_mark([c for c in cells if not by_method or c.method == name]) for name in methods]
    words = ["pytest", *where, "-m", " or ".join(marks)]
    tour = study.tour if _is_tour(study, cells) else None
    if tour:
        words.append("--tour")
    # Some parameters belong to some methods only: one cell does not tell all.
    told = [*_others(cells, beside), *cells]
    changed = {k: v for cell in told for k, v in cell.changed.items() if k not in study.additions}
    for name, value in sorted(changed.items()):
        if not (tour and name in tour.parameters):
            words += ["--set", as_setting(study.name, name, value)]
    declared = tour.seeds if tour else study.seeds
    seeds = sorted({cell.seed for cell in cells})
    asked = sorted({cell.seed for cell in beside if cell.method not in study.once})
    if not set(seeds) <= set(declared):
        words += ["--seeds", ",".join(map(str, seeds))]
    elif asked and set(asked) < set(declared):
        words += ["--seeds", ",".join(map(str, asked))]
    return as_typed([*words, *options])


def _alike(study: Study, cells: Sequence[Cell], grid: Sequence[Cell]) -> list[Cell]:
    """Return the cells of a grid that have the settings of ``cells``, as far as both have them."""
    known = {name: value for cell in cells for name, value in cell.parameters.items()}
    return [
        one
        for one in grid
        if all(v == known.get(k, v) or k in study.additions for k, v in one.parameters.items())
    ]


def _others(cells: Sequence[Cell], beside: Sequence[Cell]) -> list[Cell]:
    """Return the cells of other methods whose own settings are the same wherever they have them."""
    known = {name for cell in cells for name in cell.parameters}
    own: dict[str, list[Cell]] = {}
    for cell in beside:
        for name in cell.parameters.keys() - known:
            own.setdefault(name, []).append(cell)
    return [
        those[0]
        for name, those in own.items()
        if len({str(c.parameters[name]) for c in those}) == 1
    ]


def as_typed(words: Iterable[str]) -> str:
    """Return the words of a command as a person types them in a shell, quoted where needed."""
    return " ".join(map(_quoted, words))


def _mark(cells: Sequence[Cell]) -> str:
    shared = [f"study={cells[0].study!r}"]
    for axis in cells[0].axes:
        values = {cell.axes[axis] for cell in cells}
        if len(values) == 1:
            shared.append(f"{axis}={values.pop()!r}")
    return f"cell({', '.join(shared)})"


def _is_tour(study: Study, cells: Sequence[Cell]) -> bool:
    tour = study.tour
    if tour is None or not tour.parameters:
        return False
    return all(cell.parameters.get(k) == v for cell in cells for k, v in tour.parameters.items())


def _quoted(word: str) -> str:
    if shlex.quote(word) == word:
        return word
    return f'"{word}"' if not set(word) & set('"$`\\!') else shlex.quote(word)
