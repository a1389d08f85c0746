"""When may a stored record stand for a cell? Three digests: inputs, code, environment."""

import ast
import functools
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

# What decides, keeps and reports does not measure: changing it leaves records as they are.
_NOT_MEASURING = frozenset(
    f"benchsuite.{name}"
    for name in (
        *("catalog", "commands", "errors", "harness", "lazy", "plugin", "records", "reporting"),
        *("statistics", "studies", "study"),
    )
)


@dataclass(frozen=True)
class Fingerprint:
    """The identity of a measurement; equal ``value`` means that a record may be reused."""

    inputs: str
    code: str
    environment: str

    @property
    def value(self) -> str:
        """The digest of the three: the record's file name."""
        return digest([self.inputs, self.code, self.environment])[:40]

    def as_dict(self) -> dict[str, str]:
        """Return the record's ``fingerprint`` object."""
        return {
            "value": self.value,
            "inputs": self.inputs,
            "code": self.code,
            "environment": self.environment,
        }

    def differs_from(self, other: Mapping[str, str]) -> list[str]:
        """Name the digests in which a stored fingerprint differs from this one."""
        mine = self.as_dict()
        return [k for k in ("inputs", "code", "environment") if mine[k] != other.get(k)]


def digest(value: Any) -> str:
    """Return the sha256 of what a value is once JSON has kept it: its keys are texts."""
    read_back = json.loads(json.dumps(value, default=str))
    text = json.dumps(read_back, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def code_digest(modules: tuple[str, ...], files: tuple[Path, ...] = ()) -> str:
    """Return a digest of the syntax trees of ``modules`` and ``files`` and all they import.

    Docstrings, comments and layout do not count. Imports are followed within the packages that
    ``modules`` belong to; nothing is executed.
    """
    seen: dict[str, str] = {}
    packages = {name.partition(".")[0] for name in modules} | {"benchsuite"}
    waiting = list(modules)
    for file in files:
        seen[file.name], imported = _parsed(str(file), file.stem)
        waiting += imported
    while waiting:
        name = waiting.pop()
        if name in seen or name.partition(".")[0] not in packages or _harness(name):
            continue
        path = _source(name)
        if path is None:
            continue
        seen[name], imported = _parsed(path, name)
        waiting += imported
    return digest(seen)


def measuring_modules(modules: Iterable[str]) -> set[str]:
    """Return the names of all modules whose syntax trees ``code_digest`` would read."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name in found or path is None or _harness(name) or not name.startswith("benchsuite"):
            continue
        found.add(name)
        waiting += _parsed(path, name)[1]
    return found


def _harness(name: str) -> bool:
    return ".".join(name.split(".")[:2]) in _NOT_MEASURING


@functools.cache
def _source(name: str) -> str | None:
    """Return the file of a module, or None for anything else that a dotted name may mean."""
    spec = _spec(name)
    return spec.origin if spec and spec.origin and spec.origin.endswith(".py") else None


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
def _parsed(path: str, name: str) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a file's tree and the modules that it may import."""
    tree = ast.parse(Path(path).read_bytes())
    imported = tuple(dict.fromkeys(_imports(tree)))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            body[0] = ast.Pass()
    return digest(ast.dump(tree)), imported


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
                lazy = _lazy_exports(node.module).get(alias.name)
                if lazy:
                    yield f"{node.module}.{lazy}"


@functools.cache
def _lazy_exports(package: str) -> dict[str, str]:
    """Return the mapping that a package's ``__init__`` hands to ``benchsuite.lazy.attach``."""
    path = _source(package) if package.startswith("benchsuite") else None
    if path is None or not path.endswith("__init__.py"):
        return {}
    for node in ast.walk(ast.parse(Path(path).read_bytes())):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "attach":
            return ast.literal_eval(node.args[1])
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "attach":
            return ast.literal_eval(node.args[1])
    return {}
