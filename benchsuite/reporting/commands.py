"""Commands as they are typed. What reruns cells may name a few too many: they are cached."""

import shlex
from collections.abc import Iterable, Sequence

from benchsuite.study import Cell, Study


def rerun_command(
    study: Study,
    cells: Sequence[Cell],
    options: Sequence[str] = (),
    where: Sequence[str] = ("benchmarks",),
    *,
    by_method: bool = False,
) -> str:
    """Return the shortest command whose selection covers ``cells`` of one study.

    It names where the session found them, the axis values that all of them share, the options that
    their parameters need, and the session's own ``options``. With ``by_method`` it names each
    method, and takes in no other.
    """
    methods = dict.fromkeys(cell.method if by_method else "" for cell in cells)
    marks = [_mark([c for c in cells if not by_method or c.method == name]) for name in methods]
    words = ["pytest", *where, "-m", " or ".join(marks)]
    tour = study.tour if _is_tour(study, cells) else None
    if tour:
        words.append("--tour")
    # Some parameters belong to some methods only: one cell does not tell all.
    changed = {k: v for cell in cells for k, v in cell.changed.items() if k not in study.additions}
    for name, value in sorted(changed.items()):
        if not (tour and name in tour.parameters):
            words += ["--set", f"{study.name}.{name}={value}"]
    declared = tour.seeds if tour else study.seeds
    seeds = sorted({cell.seed for cell in cells})
    if not set(seeds) <= set(declared):
        words += ["--seeds", ",".join(map(str, seeds))]
    return as_typed([*words, *options])


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
