"""What a half-typed word of a command line may become: commands, options, and names of cells.

Nothing of the user's is run for it: not a conftest, nor pytest. Studies, models and methods are
those that ship; those of a project are known from the last run's journal in its reports folder.
"""

import contextlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchsuite import catalog
from benchsuite.errors import BenchsuiteError
from benchsuite.records.journal import Reader, journals
from benchsuite.study import names, study

# What selects cells takes these of pytest's beside ours.
_OF_PYTEST = ("-k", "-m", "-n", "-x", "--lf", "--maxfail", "--help")
# Its parser comes with torch.
_OF_TRAIN = (
    *("--config", "--method", "--model", "--seed", "--out", "--set", "--evaluate", "--local"),
    *("--start-from", "--device", "--help"),
)
_MARKS = ("any_model", "cell(", "embedded", "gpu", "hub", "large", "small")
_OPERATORS = ("and", "or", "not")
SHELLS = ("bash", "zsh", "fish")


def candidates(words: Sequence[str]) -> list[str]:
    """Return what the last of the words may become, whole; none where a file may be meant.

    ``words`` come after ``benchsuite``, without the quotes that the user typed.
    """
    from benchsuite.commands.main import COMMANDS

    *before, word = words or [""]
    if not before:
        return _beginning(word, [*COMMANDS, "--help", "--version"])
    command, flag = before[0], before[-1] if len(before) > 1 else ""
    option, equals, value = word.partition("=")
    if word.startswith("--") and equals:
        return [f"{option}={one}" for one in _values(command, option, value)]
    if word.startswith("-"):
        return _beginning(word, _flags(command))
    if flag.startswith("-"):
        found = _values(command, flag, word)
        if found or flag in ("-k", "-m"):
            return found
    return _beginning(word, _positional(command, before[1:]))


def _beginning(word: str, known: Iterable[str]) -> list[str]:
    return [one for one in dict.fromkeys(known) if one.startswith(word)]


def _flags(command: str) -> Sequence[str]:
    """Return a command's options, by what it says of itself."""
    from benchsuite.commands.main import COMMANDS, OF_PYTEST, function_of
    from benchsuite.harness.options import OPTIONS

    if command in OF_PYTEST:
        own = ("--out", "--power", "--alpha") if command == "plan" else ()
        return (*_OF_PYTEST, *(option.flag for option in OPTIONS), *own)
    if command == "train":
        return _OF_TRAIN
    if command not in COMMANDS:
        return ()
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit, BenchsuiteError):
        function_of(command)(["--help"])
    usage = said.getvalue().partition("\n\n")[0]
    return [*re.findall(r"(?<![\w-])--[a-z][a-z-]+", usage), "--help"]


def _positional(command: str, before: Sequence[str]) -> Iterable[str]:
    if command == "list":
        return names()
    if command == "models" and before == ["get"]:
        return [name for name, entry in catalog.MODELS.items() if entry.packaged]
    if command in ("compare", "gate", "verify"):
        return catalog.MODELS
    return {"models": () if before else ("get",), "completion": SHELLS}.get(command, ())


def _values(command: str, flag: str, word: str) -> list[str]:
    """Return the values of an option."""
    from benchsuite.harness.options import CHOICES, OPTIONS

    if flag == "-k":
        return list(_expression(word, _parts()))
    if flag == "-m":
        return list(_marks(word))
    if flag == "--set" and command != "train":
        return list(_settings(word))
    choices = {option.flag: option.argparse.get("choices", ()) for option in OPTIONS}
    name = flag.removeprefix("--")
    known: Mapping[str, Iterable[str]] = {
        "--local": (f"{one}=" for table in catalog.TABLES.values() for one in table),
        "--checkpoint": (f"{one}=" for one in catalog.MODELS),
        "--trust-remote-code": catalog.MODELS,
        "--model": catalog.MODELS if command == "train" else (),
        "--margin": sorted({f"{m.name}=" for s in map(study, names()) for m in s.metrics}),
    }
    return _beginning(
        word, known.get(flag) or choices.get(flag) or filter(None, CHOICES.get(name, ()))
    )


def _expression(word: str, known: Sequence[str]) -> Iterator[str]:
    """Yield the expression with its last name whole, or with an operator after a whole one."""
    head, last = _last(word)
    after_a_name = re.search(r"[\w)]\s+$", head) and head.split()[-1] not in _OPERATORS
    wanted = _OPERATORS[:2] if after_a_name else [*known, *(["not"] if last else [])]
    yield from (head + one for one in _beginning(last, wanted))


def _marks(word: str) -> Iterator[str]:
    """Yield the expression of marks; inside ``cell(...)`` axes and their values."""
    head, last = _last(word)
    if word.rfind("cell(") <= word.rfind(")"):
        yield from _expression(word, _MARKS)
        return
    axis = re.search(r"(\w+)=(['\"]?)([\w.]*)$", word)
    if axis is None:
        yield from (f"{head}{one}=" for one in _beginning(last, ["study", *_axes(), "seed"]))
        return
    quote, start = axis[2] or "'", word[: axis.start(2)]
    values = names() if axis[1] == "study" else _axes().get(axis[1], ())
    yield from (f"{start}{quote}{one}{quote}" for one in _beginning(axis[3], values))


def _settings(word: str) -> Iterator[str]:
    name, dot, rest = word.partition(".")
    if not dot:
        yield from (f"{one}." for one in _beginning(name, names()))
        return
    if name not in names():
        return
    declared = study(name).parameters
    parameter, equals, value = rest.partition("=")
    if not equals:
        yield from (f"{name}.{one}=" for one in _beginning(parameter, declared))
    elif parameter in declared:
        choices = map(str, declared[parameter].choices)
        yield from (f"{name}.{parameter}={one}" for one in _beginning(value, choices))


def _last(word: str) -> tuple[str, str]:
    """Return an expression up to its last name, and that name."""
    start = len(word) - len(re.search(r"[\w.]*$", word)[0])  # type: ignore[index]
    return word[:start], word[start:]


def _axes() -> dict[str, list[str]]:
    """Return axis -> its values in any study."""
    found: dict[str, dict[str, None]] = {}
    for declared in map(study, names()):
        for axis, values in declared.axes.items():
            found.setdefault(axis, {}).update(dict.fromkeys(values))
    return {axis: list(values) for axis, values in found.items()}


def _parts() -> list[str]:
    """Return what ``-k`` finds: studies, values of axes, and the words of cells that were run."""
    known = [*names(), *(value for values in _axes().values() for value in values)]
    for path in list(journals(Path("reports")))[:1]:
        plan = Reader(path).begin()
        for item in plan.items if plan else ():
            test, _, cell = item.removesuffix("]").partition("[")
            known += [test.rpartition("::")[2], *cell.split("-")]
    return list(dict.fromkeys(filter(None, known)))
