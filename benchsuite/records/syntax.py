"""What a source file says of itself, read from its syntax tree: nothing is executed.

Its digest is of the tree without docstrings, so that comments, layout and wording do not count.
"""

import ast
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchsuite.records import kept
from benchsuite.records.fingerprint import digest

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Fixture:
    """A fixture's definition: the fixtures that it asks for, and whether it asks to be used."""

    asks: tuple[str, ...]
    autouse: bool


@dataclass(frozen=True)
class Source:
    """One file: its digest, its imports, and what pytest finds in it.

    ``imports`` are chains of names with the level of a relative import, ``(0,
    "benchsuite.quantizers.gptq.quantize")``: a module, and what is taken from it. A chain that ends
    in ``*`` hands the module on as a whole. ``plugins`` are the modules of ``pytest_plugins``,
    ``asked`` what the tests of a study ask for, by the study's name.
    """

    digest: str
    imports: tuple[tuple[int, str], ...]
    plugins: tuple[str, ...]
    fixtures: Mapping[str, Fixture]
    asked: Mapping[str, tuple[str, ...]]


def source(path: Path) -> Source:
    """Return what a file says. A file that does not parse has no imports, and its bytes count."""
    return _read(path, path.stat().st_mtime_ns)


@functools.cache
def _read(path: Path, changed_ns: int) -> Source:
    content = path.read_bytes()
    known = kept.find(content)
    if known is not None:
        return _from_json(known)
    found = parsed(content)
    kept.keep(content, asdict(found))
    return found


def _from_json(known: dict[str, Any]) -> Source:
    fixtures = {
        name: Fixture(tuple(one["asks"]), one["autouse"]) for name, one in known["fixtures"].items()
    }
    imports = tuple((level, chain) for level, chain in known["imports"])
    asked = {study: tuple(names) for study, names in known["asked"].items()}
    return Source(known["digest"], imports, tuple(known["plugins"]), fixtures, asked)


def parsed(content: bytes) -> Source:
    """Return what a file of this content says, worked out from its syntax tree."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return Source(digest(content.hex()), (), (), {}, {})
    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, Function)]
    imports = tuple(dict.fromkeys(_imports(tree)))
    plugins, fixtures, asked = _plugins(tree), dict(_fixtures(functions)), _asked(functions)
    # Last: it changes the tree.
    _drop_docstrings(nodes)
    return Source(digest(ast.dump(tree)), imports, plugins, fixtures, asked)


def _drop_docstrings(nodes: Iterable[ast.AST]) -> None:
    for node in nodes:
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body[0] = ast.Pass()


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


# --- imports


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    bound: dict[str, tuple[int, str]] = {}
    nodes = list(_executed(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                bound[alias.asname or name] = 0, name
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
            for alias in node.names:
                chain = node.level, ".".join(filter(None, [node.module, alias.name]))
                yield chain
                bound[alias.asname or alias.name] = chain
        elif isinstance(node, ast.Call) and _dotted(node.func).endswith("import_module"):
            yield from ((0, str(a.value)) for a in node.args[:1] if isinstance(a, ast.Constant))
    yield from _uses(nodes, bound)


def _uses(
    nodes: Iterable[ast.AST], bound: Mapping[str, tuple[int, str]]
) -> Iterator[tuple[int, str]]:
    """Yield what is taken from the modules that names stand for: ``quantizers.gptq.quantize``."""
    inner: set[ast.AST] = set()
    for node in nodes:
        if isinstance(node, ast.Attribute):
            inner.add(node.value)
            root, _, rest = _dotted(node).partition(".")
            if node not in inner and root in bound:
                level, chain = bound[root]
                yield level, f"{chain}.{rest}"
        elif isinstance(node, ast.Name) and node.id in bound and node not in inner:
            level, chain = bound[node.id]
            yield level, f"{chain}.*"


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes from the outside in, less what is there for type checkers alone."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        children = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.If) and _dotted(node.test).endswith("TYPE_CHECKING"):
            children = list(node.orelse)
        waiting += reversed(children)


def _dotted(node: ast.AST) -> str:
    """Return ``a.b.c`` of a chain of names, of what is called if it is a call, or nothing."""
    if isinstance(node, ast.Call):
        return _dotted(node.func)
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value) if not isinstance(node.value, ast.Call) else ""
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


# --- what pytest finds


def _plugins(tree: ast.Module) -> tuple[str, ...]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(t, ast.Name) and t.id == "pytest_plugins" for t in targets):
            value = _literal(node.value)  # type: ignore[attr-defined]
            return (value,) if isinstance(value, str) else tuple(map(str, value or ()))
    return ()


def _literal(node: ast.AST) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _fixtures(functions: list[Any]) -> Iterator[tuple[str, Fixture]]:
    for function in functions:
        for decorator in function.decorator_list:
            if _dotted(decorator).rpartition(".")[2] != "fixture":
                continue
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            settings = {keyword.arg: _literal(keyword.value) for keyword in keywords}
            name = str(settings.get("name") or function.name)
            yield name, Fixture(_wanted(function), bool(settings.get("autouse")))


def _asked(functions: list[Any]) -> dict[str, tuple[str, ...]]:
    asked: dict[str, tuple[str, ...]] = {}
    for function in functions:
        for study in _marked(function, "study"):
            used = (*_wanted(function), *_marked(function, "usefixtures"))
            asked[study] = (*asked.get(study, ()), *used)
    return asked


def _marked(function: Any, mark: str) -> tuple[str, ...]:
    """Return the texts that a mark of a function holds."""
    found: list[str] = []
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and _dotted(decorator).endswith(f"mark.{mark}"):
            found += [str(_literal(argument)) for argument in decorator.args]
    return tuple(found)


def _wanted(function: Any) -> tuple[str, ...]:
    """Return the fixtures that a function asks for: its parameters, and those asked in its body."""
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _dotted(node.func).endswith("getfixturevalue"):
            names += [str(_literal(argument)) for argument in node.args[:1]]
    return tuple(names)
