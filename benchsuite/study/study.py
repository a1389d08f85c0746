"""What a study is: axes, parameters, metrics, claims. Plain data, importable without torch.

Under xdist the controller imports no test module and sees no item, so it judges a run from these
declarations and the store alone.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchsuite import catalog
from benchsuite.errors import UsageError, unknown_name
from benchsuite.study.cell import Cell
from benchsuite.study.claim import Claim
from benchsuite.study.column import Column
from benchsuite.study.declared import check_names, checked_claims, checked_metrics
from benchsuite.study.document import Document
from benchsuite.study.margins import as_given
from benchsuite.study.metric import PERPLEXITY, Cost, Metric
from benchsuite.study.parameter import Parameter, check_reads

Axis = Sequence[str]
"""The values of one axis of a grid."""

# What a reports folder holds beside a folder for each study.
_FOLDERS = ("checkpoint", "rehearsal", "sessions", "store")


@dataclass(frozen=True)
class Tour:
    """What the quick tour runs of a study: fewer models and seeds, named sample counts."""

    axes: Mapping[str, Axis]
    seeds: Sequence[int]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def _is_seed(seed: Any) -> bool:
    return isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**32


def _nothing(cell: Cell) -> Sequence[str]:
    return ()


def _no_engine(cell: Cell) -> str | None:
    return None


def _its_own(cell: Cell) -> tuple[str, str] | None:
    return None


def _needs_it_whole(cell: Cell) -> bool:
    return False


def _nothing_more(method: str) -> str:
    return ""


def _named(cell: Cell, name: str) -> str:
    return str(cell[name])


def _every_cell(axes: Mapping[str, Any]) -> bool:
    return True


@dataclass(frozen=True)
class Study:
    """One experimental question as a grid of cells.

    **What runs.** ``parameters`` are ``Parameter``s by name; a plain value is one with this
    default. ``reads`` says which axes name catalogue entries that the cell reads (``{"dataset":
    "task"}``); the axis ``model`` does, unless ``{"model": ""}`` says that it does not. The entry
    of a task that an axis or a parameter stands for is ``task_of(cell, name)``. A method in
    ``once`` has no randomness of its own and runs for the first seed alone. ``includes(point)``
    leaves points of the grid out. ``settings_of`` names a study whose ``--set`` values hold here
    too, for the parameters shared.

    **What decides its numbers** beside the benchmark's file, its fixtures and what they import.
    ``code(cell)`` names the modules that are reached by a method's name. ``packages(cell)`` names
    the distributions that it computes with beside the core's: a cell that lacks one is skipped with
    the install command. ``engine(cell)`` names the inference engine that runs it in a process of
    its own. ``published(cell)`` is the hub repository and revision of a checkpoint that it loads in
    the place of its model, where that comes from the hub. ``files(cell)`` are files whose content
    decides the numbers.

    **Where it runs.** ``streams(cell)`` says that a cell only quantizes its model layer by layer
    and lets it read text: then the model may be larger than the device.

    **How it is read.** Methods are ranked by the first of ``metrics``; the report shows the others
    too. ``controls`` are methods that must come out far off. ``unranked`` ones are shown beside the
    others and never called best: references, and methods of another kind, such as those that round
    activations too. ``original`` is the method that leaves the model as it is: the report tells
    each method's difference to it. ``costs`` are what the page draws the ranked metric against.
    ``columns`` say what records and items hold beside parameters and metrics, for the data card.
    ``making`` are the stages whose time makes what is tried, of which the record's
    ``total_time_sec`` is the sum; empty is all stages. ``describe(method)`` is what
    ``benchsuite list STUDY`` says of a method. ``document`` holds the source document's
    words and numbers. ``reporter`` names a function that writes the study's own files into
    ``reports/<study>/``, as ``"module:function"``; see ``benchsuite.reporting.report.Reporter``.
    """

    name: str
    question: str
    axes: Mapping[str, Axis]
    seeds: Sequence[int]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    once: Sequence[str] = ()
    tour: Tour | None = None
    claims: Sequence[Claim] = ()
    code: Callable[[Cell], Sequence[str]] = _nothing
    packages: Callable[[Cell], Sequence[str]] = _nothing
    engine: Callable[[Cell], str | None] = _no_engine
    published: Callable[[Cell], tuple[str, str] | None] = _its_own
    describe: Callable[[str], str] = _nothing_more
    files: Callable[[Cell], Sequence[str]] = _nothing
    streams: Callable[[Cell], bool] = _needs_it_whole
    settings_of: str = ""
    includes: Callable[[Mapping[str, Any]], bool] = _every_cell
    reads: Mapping[str, str] = field(default_factory=dict)
    task_of: Callable[[Cell, str], str] = _named
    metrics: Sequence[Metric] = (PERPLEXITY,)
    making: Sequence[str] = ()
    reporter: str = ""
    controls: Sequence[str] = ()
    unranked: Sequence[str] = ()
    original: str = ""
    costs: Sequence[Cost] = ()
    columns: Sequence[Column] = ()
    document: Document = field(default_factory=Document)

    def __post_init__(self) -> None:
        declared = {
            name: value if isinstance(value, Parameter) else Parameter(value)
            for name, value in self.parameters.items()
        }
        object.__setattr__(self, "parameters", declared)
        self._check_name_and_seeds()
        self._check_axes()
        object.__setattr__(self, "metrics", checked_metrics(self.name, self.metrics))
        check_names(self.name, self.axes, declared, self.metrics)
        object.__setattr__(self, "claims", checked_claims(self.name, self.claims))
        for claim in self.claims:
            self._check_claim(claim)
        for name in self.tour.parameters if self.tour else ():
            if name not in declared:
                raise unknown_name(f"parameter in the tour of study {self.name}", name, declared)

    def _check_claim(self, claim: Claim) -> None:
        metric = self.metric(claim.metric)
        if claim.over_items and metric.ranking is None:
            raise UsageError(
                f"study {self.name!r} claims {claim.sentence!r} over items",
                fix=f"declare {claim.metric} in `metrics`, with the columns of its ranking",
            )
        if metric.parts and claim.tested:
            raise UsageError(
                f"study {self.name!r} claims {claim.sentence!r}, where records hold a table",
                fix=f"name one of its parts, as in {claim.metric}.average",
            )

    def _check_name_and_seeds(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]+", self.name) or self.name in _FOLDERS:
            raise UsageError(
                f"a study cannot be named {self.name!r}",
                fix=f"use only a-z, 0-9 and _, and not {', '.join(_FOLDERS)}: it names a folder",
            )
        seeds = list(self.seeds)
        if len(set(seeds)) != len(seeds) or not all(_is_seed(seed) for seed in seeds):
            raise UsageError(
                f"study {self.name!r} has the seeds {seeds}",
                fix="name each once, a whole number from 0 to 2**32 - 1",
            )

    def _check_axes(self) -> None:
        if not self.axes or next(iter(self.axes)) != "model" or "seed" in self.axes:
            raise UsageError(
                f"study {self.name!r} has the axes {list(self.axes)}",
                fix="the first axis is `model`; the seed is given by `seeds`, not as an axis",
            )
        if "method" not in self.axes:
            raise UsageError(
                f"study {self.name!r} has the axes {list(self.axes)}, and none is `method`",
                fix="name the axis of what is compared `method`: methods are ranked and claimed of",
            )
        for axis, values in self.axes.items():
            if isinstance(values, str) or len(set(values)) != len(values):
                raise UsageError(
                    f"study {self.name!r}: {axis!r} has the values {values!r}",
                    fix="give a tuple of different texts; one alone is written (value,)",
                )
            for value in values:
                if not re.fullmatch(r"[a-z0-9_]+", value):
                    raise UsageError(
                        f"study {self.name!r}: {axis!r} has the value {value!r}",
                        fix="use only a-z, 0-9 and _, which `pytest -k` accepts",
                    )
        for axis, reads in self.reads.items():
            if axis not in self.axes:
                raise unknown_name(f"axis in reads of study {self.name}", axis, self.axes)
            if reads:
                check_reads(reads)

    # --- what runs

    def cells(
        self,
        *,
        seeds: Sequence[int] | None = None,
        settings: Mapping[str, Any] | None = None,
        first_seed: Mapping[str, Any] | None = None,
        tour: bool = False,
    ) -> Iterator[Cell]:
        """Yield the grid, model by model, so that a model is loaded once.

        ``settings`` are the user's ``--set`` values, ``first_seed`` those that hold for the first
        seed alone; unknown names are usage errors.
        """
        small = self.tour if tour else None
        axes = {**self.axes, **(small.axes if small else {})}
        chosen = seeds or (small.seeds if small else self.seeds)
        given = {**(small.parameters if small else {}), **self._checked(settings or {})}
        extra = self._checked(first_seed or {})
        for values in itertools.product(*axes.values()):
            point = dict(zip(axes, values, strict=True))
            if not self.includes(point):
                continue
            defaults = self._defaults(point)
            parameters = {name: given.get(name, value) for name, value in defaults.items()}
            for seed in chosen[:1] if point.get("method") in self.once else chosen:
                more = extra if seed == chosen[0] else {}
                mine = {name: more.get(name, value) for name, value in parameters.items()}
                yield Cell(self.name, {**point, "seed": seed}, mine, defaults, self.additions)

    def _defaults(self, point: Mapping[str, Any]) -> dict[str, Any]:
        entry = self._entry(point["model"])
        kind = {"embedded": entry.embedded, "packaged": entry.packaged is not None}
        return {
            name: parameter.value(**kind)
            for name, parameter in self.parameters.items()
            if parameter.applies(point)
        }

    def _entry(self, model: str) -> catalog.ModelEntry:
        try:
            return catalog.model(model)
        except UsageError as error:
            own = "One of your own: register(ModelEntry(...)) in conftest.py"
            where = f"study {self.name}"
            raise UsageError(error.what, where, f"{error.fix}. {own}") from error

    def _checked(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        settings = self.under_todays_names(settings)
        for name, value in settings.items():
            if name not in self.parameters:
                raise unknown_name(f"parameter of study {self.name}", name, self.parameters)
            self.parameters[name].check(self.name, name, value)
        return settings

    def under_todays_names(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by parameter with the names that the parameters have today."""
        return {self.renamed.get(name, name): value for name, value in values.items()}

    @property
    def renamed(self) -> dict[str, str]:
        """The parameters that had another name: earlier name -> today's."""
        return {p.formerly: name for name, p in self.parameters.items() if p.formerly}

    @property
    def additions(self) -> tuple[str, ...]:
        """The parameters that measure more and change nothing of what is measured without them."""
        return tuple(name for name, parameter in self.parameters.items() if parameter.adds_only)

    def reading(self, kind: str) -> dict[str, str]:
        """Return the axes and parameters that read a ``model``, ``corpus`` or ``task``.

        Each with what follows the colon: the split of a corpus.
        """
        declared = {"model": "model", **self.reads}
        declared |= {name: parameter.reads for name, parameter in self.parameters.items()}
        parts = {name: reads.partition(":") for name, reads in declared.items()}
        return {name: split for name, (what, _, split) in parts.items() if what == kind}

    # --- how it is read

    @property
    def ranked_by(self) -> Metric:
        """The metric that methods are ranked by."""
        return self.metrics[0]

    def metric(self, name: str) -> Metric:
        """Return a metric of the study by name; one that it does not declare is a plain number.

        What is in a table of numbers (``downstream.arc``) is like the others there. Its margin is
        the user's own where ``--margin`` gives one, for it or for its table.
        """
        for metric in self.metrics:
            if metric.name == name:
                return as_given(metric)
            if metric.parts and name.startswith(f"{metric.name}."):
                return as_given(as_given(metric).part(name))
        return as_given(Metric(name))

    # --- the user's own

    def with_models(self, *names: str) -> "Study":
        """Return the study with further catalogue models on its first axis."""
        return self._with("model", names)

    def without_models(self, *names: str) -> "Study":
        """Return the study without some models of its first axis."""
        left = tuple(model for model in self.axes["model"] if model not in names)
        return replace(self, axes={**self.axes, "model": left})

    def with_methods(self, *names: str) -> "Study":
        """Return the study with further registered methods on its method axis."""
        return self._with("method", names)

    def _with(self, axis: str, names: Sequence[str]) -> "Study":
        """Return the study with further values of an axis; one that is there already stays once."""
        values = tuple(dict.fromkeys((*self.axes[axis], *names)))
        return replace(self, axes={**self.axes, axis: values})
