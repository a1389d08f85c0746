"""Which code makes a cell's numbers? Derived from imports: what its benchmark can reach.

That is the benchmark's file, the modules of the fixtures that it asks for, the modules that its
study names for the method, and all that these import, as far as it is ours or the project's. (A
method's modules are imported by name, which no import statement shows.) What decides, keeps and
shows a number makes none, and is left out by room (`APART`). Nothing is imported or executed.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchsuite.records import modules
from benchsuite.records.fingerprint import digest
from benchsuite.records.modules import Module
from benchsuite.records.syntax import Fixture, source

APART = frozenset(
    (
        *("plugin", "guest", "commands", "harness", "reporting", "records"),
        # What is declared is an input of the fingerprint: axes, parameters, catalogue entries.
        *("study", "catalog"),
    )
)


@dataclass(frozen=True)
class Place:
    """Where a cell's test is: its file, the project's root, and plugins that ``-p`` names."""

    benchmark: Path
    root: Path
    plugins: tuple[str, ...] = ()


def code_of(place: Place, study: str, named: Sequence[str]) -> Mapping[str, str]:
    """Return module -> digest for all the code that measures a cell of ``study``.

    ``named`` are the modules from which the cell's method is imported by name.
    """
    found = _reached(_start(place, study, tuple(named)), place.root)
    return {module.key: source(module.path).digest for module in found}


def reaches(place: Place, study: str, named: Sequence[str], package: str) -> bool:
    """Say whether the code that measures a cell imports a package, ``torch`` for one."""
    found = _reached(_start(place, study, tuple(named)), place.root)
    imports = (text for module in found for _, text in source(module.path).imports)
    return any(text.partition(".")[0] == package for text in imports)


def code_digest(*named: str) -> str:
    """Return the digest of modules and all that they reach, for the key of what they make."""
    found = _reached(_found(named, Path()), Path())
    return digest({module.key: source(module.path).digest for module in found})


def _found(named: Sequence[str], root: Path) -> tuple[Module, ...]:
    return tuple(m for name in named if (m := modules.named(name, root)) is not None)


@functools.cache
def _start(place: Place, study: str, named: tuple[str, ...]) -> tuple[Module, ...]:
    benchmark = _beside(place, place.benchmark)
    return (benchmark, *_fixture_modules(place, study), *_found(named, place.root))


@functools.cache
def _reached(start: tuple[Module, ...], root: Path) -> tuple[Module, ...]:
    packages = {module.package for module in start}
    found: dict[str, Module] = {}
    waiting = list(start)
    while waiting:
        module = waiting.pop()
        if module.key in found or is_apart(module.name):
            continue
        found[module.key] = module
        for other in _imported(module, source(module.path).imports, root):
            if other.package in packages or _is_ours(other, root):
                waiting.append(other)
    return tuple(found[key] for key in sorted(found))


@functools.cache
def _imported(
    module: Module, imports: tuple[tuple[int, str], ...], root: Path
) -> tuple[Module, ...]:
    chains = (modules.chain(text, level, module, root) for level, text in imports)
    return tuple(dict.fromkeys(other for chain in chains for other in chain))


def is_apart(name: str) -> bool:
    """Say whether a module belongs to a room that measures nothing."""
    package, *inner = name.split(".")
    return package == "benchsuite" and bool(inner) and inner[0] in APART


def _is_ours(module: Module, root: Path) -> bool:
    """Say whether a module is benchsuite's or lies in the project, where nothing is installed."""
    if module.package == "benchsuite":
        return True
    installed = {"site-packages", "dist-packages"} & set(module.path.parts)
    return root != Path() and module.path.is_relative_to(root) and not installed


def _beside(place: Place, path: Path) -> Module:
    """Return a file of the project as a module: the same key wherever the project lies."""
    return Module(path.stem, path, os.path.relpath(path, place.benchmark.parent))


def _fixture_modules(place: Place, study: str) -> list[Module]:
    """Return the modules whose fixtures a test of ``study`` asks for, at any remove."""
    providers = _providers(place)
    wanted = list(source(place.benchmark).asked.get(study, ()))
    for _, fixtures in providers:
        wanted += [name for name, fixture in fixtures.items() if fixture.autouse]
    found: dict[str, Module] = {}
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        # All that define the name count: one that takes another's place may ask for it.
        for module, fixtures in providers:
            if name in fixtures:
                found[module.key] = module
                wanted += fixtures[name].asks
    return [found[key] for key in sorted(found)]


@functools.cache
def _providers(place: Place) -> tuple[tuple[Module, Mapping[str, Fixture]], ...]:
    """Return the files that may define fixtures for a test, each with those that it defines."""
    folders = [place.benchmark.parent]
    if place.benchmark.is_relative_to(place.root):
        while folders[-1] != place.root:
            folders.append(folders[-1].parent)
    conftests = [path for folder in folders if (path := folder / "conftest.py").is_file()]
    found = [_beside(place, path) for path in (place.benchmark, *conftests)]
    waiting = ["benchsuite.plugin", *place.plugins]
    waiting += [name for module in found for name in source(module.path).plugins]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop(0)
        module = modules.named(name, *folders)
        if name not in seen and module is not None:
            seen.add(name)
            found.append(module)
            waiting += source(module.path).plugins
    return tuple((module, source(module.path).fixtures) for module in found)
