"""Where a module's source lies, found as an import would find it, without importing anything."""

import ast
import functools
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path


@dataclass(frozen=True)
class Module:
    """A module or a file beside it: its dotted name, its source, and the key of its digest."""

    name: str
    path: Path
    key: str

    @property
    def package(self) -> str:
        """The first part of its name."""
        return self.name.partition(".")[0]


def named(name: str, *folders: Path) -> Module | None:
    """Return the module of a dotted name, looked for in ``folders`` before Python's own path.

    None for what has no source in Python, or is not there.
    """
    path = _in_folders(name, folders) or _source(name)
    return Module(name, path, name) if path is not None else None


def chain(text: str, level: int, importer: Module, root: Path) -> Iterator[Module]:
    """Yield the modules that ``importer`` loads for a chain of names, as ``a.b.function``.

    Names that a package hands to ``benchsuite.lazy.attach`` lead to the modules that define them.
    """
    folders = (importer.path.parent, root)
    parts = text.split(".") if text else []
    if level:
        above = importer.path.parents[level - 1]
        package = importer.name.split(".")
        inside = len(package) - level + (importer.path.name == "__init__.py")
        prefix = package[:inside] if inside > 0 else []
        if not prefix:  # a file that belongs to no package, as tests often do
            yield from _beside(above, parts)
            return
        parts = [*prefix, *parts]
    name = ""
    while parts:
        part, *parts = parts
        if part == "*":
            for inner in set(_lazy_exports(name).values()):
                yield from filter(None, [named(f"{name}.{inner}")])
            return
        target = _lazy_exports(name).get(part, part) if name else part
        name = f"{name}.{target}" if name else target
        module = named(name, *folders)
        if module is None:
            return
        yield module
        if target.rpartition(".")[2] != part:  # a name of the module, not the module
            return


def _beside(folder: Path, parts: list[str]) -> Iterator[Module]:
    for n in range(len(parts), 0, -1):
        path = _file(folder.joinpath(*parts[:n]))
        if path is not None:
            yield Module(".".join(parts[:n]), path, ".".join(parts[:n]))
            return


def _in_folders(name: str, folders: tuple[Path, ...]) -> Path | None:
    if name.partition(".")[0] == "benchsuite":
        return None
    found = (_file(folder.joinpath(*name.split("."))) for folder in folders if folder != Path())
    return next(filter(None, found), None)


@functools.cache
def _file(place: Path) -> Path | None:
    for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


@functools.cache
def _source(name: str) -> Path | None:
    spec = _spec(name)
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@functools.cache
def _spec(name: str) -> ModuleSpec | None:
    """Find a module as an import would.

    ``importlib.util.find_spec`` imports the parents of a dotted name, and so torch for every name
    that a measuring module imports from another; here the parent's folder is searched instead.
    """
    parent, _, _ = name.rpartition(".")
    try:
        above = _spec(parent) if parent else None
        # A folder without __init__ needs its parents imported, and has nothing that they execute.
        if not parent or (above is not None and above.origin is None):
            return importlib.util.find_spec(name)
        if above is None or above.submodule_search_locations is None:
            return None
        folders = list(above.submodule_search_locations)
        found = (finder.find_spec(name, folders) for finder in sys.meta_path)
        return next((spec for spec in found if spec is not None), None)
    except (ImportError, ValueError, KeyError):
        return None


@functools.cache
def _lazy_exports(package: str) -> dict[str, str]:
    """Return the mapping that a package's ``__init__`` hands to ``benchsuite.lazy.attach``."""
    path = _source(package) if package.partition(".")[0] == "benchsuite" else None
    if path is None or path.name != "__init__.py":
        return {}
    for node in ast.walk(ast.parse(path.read_bytes())):
        called = getattr(node, "func", None)
        if isinstance(node, ast.Call) and "attach" in (
            getattr(called, "id", None),
            getattr(called, "attr", None),
        ):
            return ast.literal_eval(node.args[1])
    return {}
