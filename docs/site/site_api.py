"""The public API as pages, from the source alone: a page a room, a part a public name.

What is public is what a room's ``__init__`` exports, and what the documentation's own examples
import. Nothing of benchsuite is imported to say so.
"""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from site_links import ROOT

Node = ast.FunctionDef | ast.ClassDef | ast.Module | ast.Assign | ast.AnnAssign
_LINE = 88


@dataclass(frozen=True)
class Public:
    """A public name: where it is imported from, where it is defined, and its definition."""

    name: str
    home: str
    node: Node
    doc: str


def rooms() -> list[str]:
    """Return the packages that export names, in order."""
    found = []
    for file in sorted((ROOT / "benchsuite").rglob("__init__.py")):
        name = ".".join(file.parent.relative_to(ROOT).parts)
        if exports(name):
            found.append(name)
    return found


@cache
def exports(room: str) -> Mapping[str, str]:
    """Return what a package exports: each name, and the module that has it; of a module nothing."""
    if _file(room).name != "__init__.py":
        return {}
    found: dict[str, str] = {}
    listed: set[str] | None = None
    for node in _module(room).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            if ast.unparse(node.value.func) == "attach":
                lazy = ast.literal_eval(node.value.args[1])
                found |= {name: f"{room}.{module}" for name, module in lazy.items()}
                listed = set(lazy)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            listed = set(ast.literal_eval(node.value))
    return {name: found[name] for name in sorted(listed or ())}


def imported_by_examples() -> dict[str, set[str]]:
    """Return the modules that examples of the documentation import from, and which names."""
    found: dict[str, set[str]] = {}
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S):
            for node in ast.walk(ast.parse(block)):
                module = getattr(node, "module", None) or ""
                if isinstance(node, ast.ImportFrom) and module.startswith("benchsuite"):
                    found.setdefault(module, set()).update(alias.name for alias in node.names)
    return found


def api_pages() -> dict[str, str]:
    """Return the API's pages by their places on the site."""
    further = {
        module: names for module, names in imported_by_examples().items() if module not in rooms()
    }
    pages = {}
    for room in rooms():
        lines = [f"# {room}", _text(_doc(_module(room)))]
        for name, module in exports(room).items():
            lines += _part(resolved(name, module), module)
        for module, names in sorted(further.items()):
            if module.startswith(f"{room}.") and room == _room_of(module):
                lines += [f"## Also used: `{module}`", ""]
                for name in sorted(names):
                    lines += _part(resolved(name, module), module, "###")
        pages[f"reference/api/{room}.md"] = "\n\n".join(filter(None, lines)) + "\n"
    return pages


def resolved(name: str, module: str) -> Public:
    """Return the definition of a name that a module has, followed through its imports."""
    if module.rpartition(".")[2] == name or _is_module(f"{module}.{name}"):
        home = module if module.rpartition(".")[2] == name else f"{module}.{name}"
        return Public(name, home, _module(home), _doc(_module(home)))
    if name in exports(module) and exports(module)[name] != module:
        return resolved(name, exports(module)[name])
    body = _module(module).body
    for place, node in enumerate(body):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return Public(name, module, node, _doc(node))
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in _targets(node):
            return Public(name, module, node, _said_after(body, place))
        if isinstance(node, ast.ImportFrom) and name in {a.asname or a.name for a in node.names}:
            return resolved(name, str(node.module))
    raise LookupError(f"{module} has no {name}")


def _part(public: Public, module: str, level: str = "##") -> list[str]:
    node = public.node
    head = f"{level} `{public.name}`"
    origin = f"*{_kind(node)} of `{public.home}`*"
    if isinstance(node, ast.Module):
        lines = [head, f"*module `{public.home}`*", _text(public.doc)]
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef | ast.ClassDef) and inner.name[0] != "_":
                lines += [*_signed(inner), _text(_doc(inner))]
        return lines
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return [head, origin, _text(public.doc)]
    lines = [head, origin, *_signed(node), _text(public.doc)]
    if isinstance(node, ast.ClassDef):
        lines += list(_members(node))
    return lines


def _members(node: ast.ClassDef) -> Iterator[str]:
    """Yield the public methods and properties of a class, each with its docstring."""
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name[0] != "_":
            yield from _signed(inner, f"{node.name}.")
            yield _text(_doc(inner))


def _signed(node: ast.FunctionDef | ast.ClassDef, owner: str = "") -> list[str]:
    """Return a definition's signature as a block of code."""
    marks = {ast.unparse(mark).partition("(")[0] for mark in node.decorator_list}
    if isinstance(node, ast.ClassDef):
        arguments, returned = _made_with(node, "dataclass" in marks), ""
        if arguments is None:
            return []
    else:
        arguments = _arguments(node.args, skip=bool(owner) and "staticmethod" not in marks)
        returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        if marks & {"property", "cached_property", "functools.cached_property"}:
            return [f"```python\n{owner}{node.name}{returned.replace(' ->', ':', 1)}\n```"]
    name = f"{owner}{node.name}"
    line = f"{name}({', '.join(arguments)}){returned}"
    if len(line) > _LINE:
        inside = "".join(f"    {argument},\n" for argument in arguments)
        line = f"{name}(\n{inside}){returned}"
    return [f"```python\n{line}\n```"]


def _made_with(node: ast.ClassDef, is_data: bool) -> list[str] | None:
    """Return the arguments by which an instance is made; None if the class says nothing of them."""
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return _arguments(inner.args, skip=True)
    if not is_data and "NamedTuple" not in {ast.unparse(base) for base in node.bases}:
        return None
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
    return [
        f"{ast.unparse(n.target)}: {ast.unparse(n.annotation)}"
        + (f" = {ast.unparse(n.value)}" if n.value else "")
        for n in fields
        if "ClassVar" not in ast.unparse(n.annotation)
    ]


def _arguments(arguments: ast.arguments, *, skip: bool) -> list[str]:
    """Return a signature's arguments one by one, without ``self`` where it is to be skipped."""
    own = ast.arguments(**{k: getattr(arguments, k) for k in arguments._fields})
    positional = [*own.posonlyargs, *own.args]
    defaults = [None] * (len(positional) - len(own.defaults)) + list(own.defaults)
    found = [_argument(a, d) for a, d in zip(positional, defaults, strict=True)][int(skip) :]
    if own.vararg:
        found.append(f"*{_argument(own.vararg, None)}")
    elif own.kwonlyargs:
        found.append("*")
    found += [_argument(a, d) for a, d in zip(own.kwonlyargs, own.kw_defaults, strict=True)]
    return found + ([f"**{_argument(own.kwarg, None)}"] if own.kwarg else [])


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
    if default is None:
        return f"{argument.arg}{kind}"
    return f"{argument.arg}{kind}{' = ' if kind else '='}{ast.unparse(default)}"


def _kind(node: Node) -> str:
    if isinstance(node, ast.ClassDef):
        return "class"
    return "function" if isinstance(node, ast.FunctionDef) else "value"


def _targets(node: ast.Assign | ast.AnnAssign) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}


def _said_after(body: list[ast.stmt], place: int) -> str:
    """Return the text that stands under an assignment, as a docstring under a definition does."""
    after = body[place + 1] if place + 1 < len(body) else None
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
        return inspect.cleandoc(str(after.value.value))
    return ""


def _text(doc: str) -> str:
    """Return a docstring as Markdown: angle brackets outside code are no tags."""
    parts = re.split(r"(`+[^`]+`+)", doc)
    return "".join(p if p.startswith("`") else re.sub(r"<(?=[A-Za-z/!])", "&lt;", p) for p in parts)


def _doc(node: ast.AST) -> str:
    return ast.get_docstring(node) or ""  # type: ignore[arg-type]


def _room_of(module: str) -> str:
    """Return the innermost package with exports that a module lies in."""
    return max((room for room in rooms() if module.startswith(f"{room}.")), key=len)


@cache
def _module(name: str) -> ast.Module:
    return ast.parse(_file(name).read_text(encoding="utf-8"))


def _is_module(name: str) -> bool:
    return (ROOT / name.replace(".", "/")).with_suffix(".py").exists()


def _file(name: str) -> Path:
    path = ROOT / name.replace(".", "/")
    package = path / "__init__.py"
    return package if package.exists() else path.with_suffix(".py")
