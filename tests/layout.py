"""The house in numbers: rooms, floors, arrows, circles, arrows that run up.

A room is a folder of the package, or a file that lies loose at its top. An arrow is an import from
one room to another. A room's floor is one above the highest that it imports from, so that the
longest chain of imports goes down floor by floor; rooms of a circle share a floor.

    python tests/layout.py [FOLDER]     # of this checkout, or of another one
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

# From the top to the bottom: a room imports from rooms that stand further down.
ORDER = (
    ("fixtures", "plugin", "__main__"),
    ("commands",),
    ("harness",),
    ("studies",),
    ("reporting",),
    ("records",),
    ("study",),
    ("determinism", "latent", "comparing"),
    ("engines",),
    ("evaluation",),
    ("quantizers",),
    ("calibration",),
    ("decoding",),
    ("models",),
    ("corpora",),
    ("embedded",),
    ("statistics",),
    ("catalog",),
    ("registry",),
    ("errors", "guest", "lazy", "__init__"),
    ("printable",),
)
RANK = {room: rank for rank, rooms in enumerate(reversed(ORDER)) for room in rooms}


def modules(root: Path) -> dict[str, Path]:
    """Return the package's modules by dotted name, the fixtures among them."""
    found = {}
    for folder, prefix in (
        (root / "benchsuite", "benchsuite"),
        (root / "fixtures", "benchsuite.fixtures"),
    ):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((prefix, *parts)).removesuffix(".__init__")
            found[name] = path
    return found


def imports(tree: ast.AST, known: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules of ours that a file imports, wherever in it, but for type checkers."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found = name if name in known else node.module
                if found in known and found != "benchsuite":
                    yield found
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def arrows(root: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Return (room, room) -> the imports between their files."""
    known = modules(root)
    found = defaultdict(list)
    for name, path in known.items():
        for other in imports(ast.parse(path.read_bytes()), known):
            if room(name) != room(other):
                found[room(name), room(other)].append((name, other))
    return dict(found)


def room(name: str) -> str:
    """Return the room of a module: the folder below the package, or the loose file itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def file_circles(root: Path) -> list[set[str]]:
    """Return the groups of files that import each other in a circle, at their top level or not."""
    known = modules(root)
    graph = {n: set(imports(ast.parse(p.read_bytes()), known)) for n, p in known.items()}
    return circles(graph)


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the strongly connected groups of more than one node (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(group)

    for node in graph:
        if node not in index:
            visit(node)
    return found


def floors(found: Mapping[tuple[str, str], object], rooms: set[str]) -> dict[str, int]:
    """Return each room's floor; those of a circle stand on one."""
    graph = {room: {b for a, b in found if a == room} for room in rooms}
    tied = {member: frozenset(group) for group in circles(graph) for member in group}
    floor: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in floor:
            group = tied.get(name, frozenset((name,)))
            below = {other for member in group for other in graph[member]} - group
            floor.update(dict.fromkeys(group, 1 + max(map(of, below), default=0)))
        return floor[name]

    for name in rooms:
        of(name)
    return floor


def main() -> None:
    """Print the numbers, and the rooms from the top floor down."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1])
    known, found = modules(root), arrows(root)
    rooms = {room(name) for name in known}
    floor = floors(found, rooms)
    loose = sum(1 for path in (root / "benchsuite").glob("*.py"))
    lines = sum(len(path.read_text().splitlines()) for path in known.values())
    upward = [pair for pair in found if RANK.get(pair[0], -1) < RANK.get(pair[1], -1)]
    print(f"lines                    {lines}")
    print(f"rooms                    {len(rooms)}, {loose} of them loose files")
    print(f"floors                   {max(floor.values())}")
    print(f"arrows between rooms     {len(found)}")
    graph = {name: {b for a, b in found if a == name} for name in rooms}
    print(f"circles between rooms    {len(circles(graph))}")
    print(f"circles between files    {len(file_circles(root))}")
    print(f"arrows against the order {len(upward)}")
    for level in range(max(floor.values()), 0, -1):
        print(f"{level:>3}  {'  '.join(sorted(r for r in rooms if floor[r] == level))}")


if __name__ == "__main__":
    main()
