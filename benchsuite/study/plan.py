"""A plan, frozen: what will be run and judged, fixed in a file before there are results.

The file is JSON that a person can read: cells are products of axis values, not a list. Its
``sha256`` is taken over everything else in it, so that a later change shows.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchsuite.errors import UsageError
from benchsuite.printable import some
from benchsuite.study.cell import Cell
from benchsuite.study.claim import Claim, is_tested
from benchsuite.study.parameter import tuples
from benchsuite.study.study import Study

SCHEMA_VERSION = 1
VERSION, DIGEST = "benchsuite_plan", "sha256"
MOST_NAMED = 3
CLAIM_FIELDS = ("kind", "metric", "method", "other", "limit", "control", "by_seed", "over_items")


@dataclass(frozen=True)
class StudyPlan:
    """What a plan fixes of one study.

    ``cells`` maps each cell's id to its parameters. ``seeds`` are in the order in which they are
    added; there is a look at the claims after ``looks[i]`` of them. ``claims`` are as the file has
    them: each with the models it is judged ``on``. ``seen`` are further seeds that had records when
    the plan was frozen.
    """

    name: str
    cells: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    spending: str
    margins: Mapping[str, str]
    claims: tuple[Mapping[str, Any], ...]
    seen: tuple[int, ...]

    @property
    def family(self) -> int:
        """How many tests are corrected together: each claim counts once a model."""
        return sum(len(claim["on"]) for claim in self.claims if is_tested(claim["kind"]))

    def check(self, grid: Iterable[Cell], where: str) -> None:
        """Raise ``UsageError`` unless the study's grid still has each cell, with its parameters."""
        today = {cell.id: cell for cell in grid}
        gone = [cell_id for cell_id in self.cells if cell_id not in today]
        if gone:
            raise UsageError(
                f"the plan has cells that study {self.name!r} does not: {some(gone, MOST_NAMED)}",
                where,
                "give what the plan was frozen with (--model, a conftest), or freeze another plan",
            )
        for cell_id, planned in self.cells.items():
            now = today[cell_id].parameters
            for name in dict.fromkeys((*planned, *now)):
                if plain(planned.get(name)) != plain(now.get(name)):
                    raise UsageError(
                        f"the plan has {name}={planned.get(name)!r} for {self.name}/{cell_id}, "
                        f"the study has {now.get(name)!r}",
                        where,
                        "set the study's parameter back, or freeze another plan",
                    )


@dataclass(frozen=True)
class FrozenPlan:
    """A plan as read from its file, whose digest was right.

    ``settings`` are the values of ``--set`` by study, ``margins`` those of ``--margin`` by metric,
    ``tour`` and ``downstream`` those options.
    """

    path: Path
    sha256: str
    frozen: str
    alpha: float
    tour: bool
    downstream: str
    settings: Mapping[str, Mapping[str, Any]]
    margins: Mapping[str, str]
    studies: Mapping[str, StudyPlan]

    @property
    def digest(self) -> str:
        """The beginning of the digest: enough to tell plans apart."""
        return self.sha256[:12]

    @property
    def most(self) -> int:
        """The seeds of the last look where seeds are added look by look, otherwise 0."""
        return max((p.looks[-1] for p in self.studies.values() if len(p.looks) > 1), default=0)


def read_plan(path: Path) -> FrozenPlan:
    """Read a frozen plan; one that was edited since is refused.

    Raises ``UsageError`` for a file that is no plan, or not as it was frozen.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8-sig"))
        version = body[VERSION]
    except OSError as error:
        raise UsageError(
            f"the plan cannot be read: {error.strerror}", str(path), "check the path"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError("this is no plan", str(path), "`benchsuite plan` writes one") from error
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"the plan has version {version}, and {SCHEMA_VERSION} can be read",
            str(path),
            "use the benchsuite that froze it",
        )
    found = content_digest(body)
    if body.get(DIGEST) != found:
        raise UsageError(
            f"the plan was changed after it was frozen: it says sha256 {_short(body.get(DIGEST))}, "
            f"its content has {_short(found)}",
            str(path),
            "take the frozen file back, from version control for one, or freeze another plan with "
            "`benchsuite plan` and report both",
        )
    try:
        return _plan(path, body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"the plan lacks something: {error}", str(path), "freeze another with `benchsuite plan`"
        ) from error


def _plan(path: Path, body: Mapping[str, Any]) -> FrozenPlan:
    return FrozenPlan(
        path,
        body[DIGEST],
        body["frozen"],
        float(body["alpha"]),
        bool(body["tour"]),
        body["downstream"],
        {
            name: {k: tuples(v) for k, v in found.items()}
            for name, found in body["settings"].items()
        },
        body["margins"],
        {name: _study_plan(name, found) for name, found in body["studies"].items()},
    )


def _study_plan(name: str, body: Mapping[str, Any]) -> StudyPlan:
    return StudyPlan(
        name,
        dict(_cells(name, body)),
        tuple(body["seeds"]),
        tuple(body["looks"]),
        body["spending"],
        body["margins"],
        tuple(body["claims"]),
        tuple(body["seen"]),
    )


def _cells(name: str, body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for pattern in body["cells"]:
        axes = pattern["axes"]
        parameters = {**body["parameters"], **pattern["parameters"]}
        for values in itertools.product(*axes.values()):
            yield Cell(name, dict(zip(axes, values, strict=True)), {}, {}).id, parameters


def content_digest(body: Mapping[str, Any]) -> str:
    """Return the sha256 over a plan's content, all but the digest itself, however it is spaced."""
    content = {key: value for key, value in body.items() if key != DIGEST}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def patterns(cells: Sequence[Cell]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what all cells' parameters share, and the cells as products with what they add.

    The products are exact: together they have each cell once and no other.
    """
    shared = {
        name: value
        for name, value in cells[0].parameters.items()
        if all(name in c.parameters and c.parameters[name] == value for c in cells)
    }
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(plain(cell.parameters), []).append(cell)
    found = []
    for members in alike.values():
        own = {k: v for k, v in members[0].parameters.items() if k not in shared}
        names = list(members[0].axes)
        for product in _products([tuple(cell.axes.values()) for cell in members]):
            axes = {axis: list(values) for axis, values in zip(names, product, strict=True)}
            found.append({"axes": axes, "parameters": own})
    return shared, found


def _products(points: Sequence[tuple[Any, ...]]) -> list[tuple[tuple[Any, ...], ...]]:
    """Return products of values that take in each point once: axis by axis, the like are joined."""
    boxes = [tuple((value,) for value in point) for point in points]
    for axis in reversed(range(len(points[0]))):
        joined: dict[Any, list[Any]] = {}
        for box in boxes:
            joined.setdefault((box[:axis], box[axis + 1 :]), []).extend(box[axis])
        boxes = [(*before, tuple(found), *after) for (before, after), found in joined.items()]
    return boxes


def claim_facts(claim: Claim) -> dict[str, Any]:
    """Return a claim as a plan has it."""
    return {"claim": claim.sentence, **{name: getattr(claim, name) for name in CLAIM_FIELDS}}


def margins_of(study: Study) -> dict[str, str]:
    """Return the smallest difference that matters, of each metric of a study and of its claims."""
    names = dict.fromkeys((*(m.name for m in study.metrics), *(c.metric for c in study.claims)))
    return {name: study.metric(name).margin for name in names}


def readable(value: Any, indent: int = 0) -> str:
    """Return JSON with a line for each key and each object, and lists of plain values on one."""
    inner = " " * (indent + 2)
    if isinstance(value, Mapping) and value:
        parts = [f"{json.dumps(str(k))}: {readable(v, indent + 2)}" for k, v in value.items()]
        ends = "{}"
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
        parts, ends = [readable(v, indent + 2) for v in value], "[]"
    else:
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    lines = ",\n".join(f"{inner}{part}" for part in parts)
    return f"{ends[0]}\n{lines}\n{' ' * indent}{ends[1]}"


def plain(value: Any) -> str:
    """Return a value as JSON, which knows no tuples: what was written equals what is read."""
    return json.dumps(value, sort_keys=True, default=str)


def _short(digest: Any) -> str:
    return str(digest)[:12]
