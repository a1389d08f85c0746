"""Words of ``-k`` and ``-m`` that name nothing, when they chose nothing: with the nearest name."""

import ast
import difflib
import re
from collections.abc import Collection, Generator, Iterable, Iterator
from typing import Any

import pytest

from benchsuite import catalog
from benchsuite.harness.items import cell_of
from benchsuite.printable import printable, without_surrogates
from benchsuite.study import names, study

# A word of -k, in its own or in another spelling (llama2-7b).
_WORD = re.compile(r"[\w.-]+")
_SEED = re.compile(r"\bseed(\d+)")
# Under these names a worker tells the controller which seeds it had to choose from, and why it
# has collected nothing.
LEFT_OUT = "benchsuite_seeds_left_out"
REFUSED = "benchsuite_collection_refused"
_MARKS = ("cell", "study", "embedded", "hub", "gpu", "small", "large", "any_model")


class LeftOut:
    """A worker's note of the cells that ``-k`` and ``-m`` left out, for the controller.

    And of words that pytest cannot read: xdist drops the reason, and fails for want of workers.
    """

    def __init__(self, config: Any) -> None:
        self._config = config

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        """Add the seeds of these cells to what the worker tells when it ends."""
        told = getattr(self._config, "workeroutput", {})  # which a cluster's workers have not
        told[LEFT_OUT] = sorted({*told.get(LEFT_OUT, ()), *seeds_of(items)})

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Generator[None, Any, Any]:
        """Note why the words of the command line were refused."""
        try:
            return (yield)
        except pytest.UsageError as error:
            if hasattr(self._config, "workeroutput"):
                self._config.workeroutput[REFUSED] = "\n".join(map(str, error.args))
            raise


def refuse_unreadable(config: pytest.Config) -> None:
    """Raise pytest's own usage error for a ``-k`` or ``-m`` that it cannot read.

    The controller of workers never reads them, and would begin a session that nobody can run. Nor
    can it hand on a path that is no UTF-8.
    """
    import _pytest.mark

    for word in (*map(str, config.invocation_params.args), str(config.rootpath)):
        if word != without_surrogates(word):
            raise pytest.UsageError(
                f"{printable(word)} is no UTF-8, and -n cannot hand it to workers. Rename it, or "
                "leave -n away"
            )
    # No public name reads an expression. Without this one the workers refuse it, a little later.
    parse = getattr(_pytest.mark, "_parse_expression", None)
    for flag, expression in (("-k", config.option.keyword), ("-m", config.option.markexpr)):
        if parse is not None and expression:
            parse(expression.lstrip(), f"Wrong expression passed to '{flag}'")


def seeds_of(items: Iterable[pytest.Item]) -> set[int]:
    """Return the seeds of the cells among some items."""
    return {cell.seed for item in items if (cell := cell_of(item))}


def misspelt(keyword: str, markexpr: str, *, seeds: Collection[int]) -> list[str]:
    """Return a sentence for each word of ``-k`` and ``-m`` that no cell answers to.

    A word of ``-k`` is told if it is part of no name but close to one: of the catalogue's models,
    the studies, the values of their axes. ``cell(...)`` is told whatever is wrong in it. ``seeds``
    are those of the cells that there were to choose from.
    """
    seen = [*_keywords(keyword), *_marks(markexpr, seeds)]
    for text in _SEED.findall(keyword):
        if not any(str(there).startswith(text) for there in seeds):
            seen.append(_no_seed(int(text), seeds))
    return list(dict.fromkeys(seen))


def _keywords(keyword: str) -> Iterator[str]:
    known = {*catalog.MODELS, *names()}
    for name in names():
        known.update(*study(name).axes.values())
    for word in _WORD.findall(keyword):
        if word.startswith("test_") or any(word.lower() in name for name in known):
            continue
        near = _near(word, known, cutoff=0.75)
        if near:
            yield f"no cell is named {word!r}.{near}"


def _marks(markexpr: str, seeds: Collection[int]) -> Iterator[str]:
    try:
        tree = ast.parse(markexpr, mode="eval")
    except SyntaxError:  # pytest reads more than Python does, and says itself what it cannot
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in _MARKS and _near(node.id, _MARKS):
            yield f"no cell has the mark {node.id!r}.{_near(node.id, _MARKS)}"
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "cell":
            given = {
                part.arg: part.value.value
                for part in node.keywords
                if part.arg and isinstance(part.value, ast.Constant)
            }
            yield from _cell(given, seeds)


def _cell(given: dict[str, Any], seeds: Collection[int]) -> Iterator[str]:
    """Yield what is wrong in one ``cell(study=..., model=..., seed=...)``."""
    asked = given.pop("study", None)
    if asked is not None and asked not in names():
        yield f"no study is named {asked!r}.{_near(asked, names())}"
    chosen = [asked] if asked in names() else list(names())
    inside = f" in study {asked}" if asked in names() else ""
    axes: dict[str, set[str]] = {"seed": set()}
    for name in chosen:
        for axis, values in study(name).axes.items():
            axes.setdefault(axis, set()).update(values)
    for axis, value in given.items():
        if axis not in axes:
            words = sorted({"study", *axes})
            takes = f" It takes {', '.join(words)}"
            yield f"cell(...) takes no {axis!r}.{_near(axis, words) or takes}"
        elif axis == "seed" and not isinstance(value, int):
            yield f"cell(...) takes a seed as a number: seed=42, not seed={value!r}"
        elif axis == "seed" and value not in seeds:
            yield _no_seed(value, seeds)
        elif axis != "seed" and value not in axes[axis]:
            shown = f" `benchsuite list{f' {asked}' if inside else ''}` shows them"
            yield f"no cell has {axis}={value!r}{inside}.{_near(value, axes[axis]) or shown}"


def _no_seed(seed: int, seeds: Collection[int]) -> str:
    listed = ", ".join(map(str, sorted(seeds)))
    return f"no cell has seed {seed}. The seeds are {listed}; --seeds takes others"


def _near(word: Any, known: Iterable[str], cutoff: float = 0.6) -> str:
    near = difflib.get_close_matches(str(word).lower(), sorted(known), n=1, cutoff=cutoff)
    return f" Did you mean {near[0]!r}?" if near else ""
