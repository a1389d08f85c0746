"""What a study is: axes, parameters, claims. Plain data, importable without torch.

Under xdist the controller imports no test module and sees no item, so it judges a run from these
declarations and the store alone.
"""

import ast
import importlib
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchsuite import catalog
from benchsuite.errors import UsageError, unknown_name
from benchsuite.study.cell import Cell

Axis = Sequence[str]


@dataclass(frozen=True)
class Claim:
    """An assertion over many cells, judged per model after the run.

    ``kind`` is one of ``lower`` and ``higher`` (``method`` has a lower or higher ``metric`` than
    ``other``), ``identical`` (``metric`` equal bit for bit over the seeds of ``method``),
    ``cv_below`` (the coefficient of variation of ``metric`` stays under ``limit`` percent) and
    ``equivalent`` (``method`` within ``limit`` of ``other``), ``true`` (``metric`` is true for
    every seed). A ``control`` is a comparison that must come out: if it does not, the study cannot
    see what it is looking for. ``by_seed`` says that a seed fixes randomness which both methods
    share, so that the paired test decides; ``over_items`` that the paired bootstrap over the items
    decides, which both methods ranked.
    """

    sentence: str
    kind: str
    metric: str
    method: str
    other: str | None = None
    limit: float | None = None
    control: bool = False
    by_seed: bool = False
    over_items: bool = False

    @property
    def fails_session(self) -> bool:
        """Whether a violation fails the session without ``--strict-claims``."""
        return self.kind == "identical"


def lower(
    metric: str, method: str, *, than: str, control: bool = False, by_seed: bool = False
) -> Claim:
    """Claim that ``method`` has a lower ``metric`` than ``than``."""
    sentence = f"{method} has lower {metric} than {than}"
    return Claim(sentence, "lower", metric, method, than, control=control, by_seed=by_seed)


def higher(
    metric: str, method: str, *, than: str, control: bool = False, by_seed: bool = False
) -> Claim:
    """Claim that ``method`` has a higher ``metric`` than ``than``."""
    sentence = f"{method} has higher {metric} than {than}"
    return Claim(sentence, "higher", metric, method, than, control=control, by_seed=by_seed)


def ranks_better(metric: str, method: str, *, than: str, control: bool = False) -> Claim:
    """Claim that ``method`` ranks the same items with a higher ``metric`` (AUROC) than ``than``."""
    return replace(higher(metric, method, than=than, control=control), over_items=True)


def identical(metric: str, method: str) -> Claim:
    """Claim that ``metric`` is equal bit for bit over all seeds of ``method``."""
    what = method if metric == "weights_sha256" else f"{method}'s {metric}"
    return Claim(f"{what} is bit-identical over seeds", "identical", metric, method)


def true(metric: str, method: str, sentence: str) -> Claim:
    """Claim that ``metric`` is true for every seed of ``method``; ``sentence`` says what it is."""
    return Claim(f"{method} {sentence}", "true", metric, method)


def cv_below(metric: str, method: str, percent: float) -> Claim:
    """Claim that the coefficient of variation over seeds stays below ``percent``."""
    sentence = f"{method}'s {metric} varies by less than {percent:g} % (cv) over seeds"
    return Claim(sentence, "cv_below", metric, method, limit=percent)


def equivalent(metric: str, method: str, *, to: str, within: float, by_seed: bool = False) -> Claim:
    """Claim that ``method`` is equivalent to ``to`` within a margin set beforehand."""
    sentence = f"{method} is equivalent to {to} within {within:g} {metric}"
    return Claim(sentence, "equivalent", metric, method, to, limit=within, by_seed=by_seed)


@dataclass(frozen=True)
class Tour:
    """What the quick tour runs of a study: fewer models and seeds, named sample counts."""

    axes: Mapping[str, Axis]
    seeds: Sequence[int]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def _no_code(cell: Cell) -> Sequence[str]:
    return ()


def _no_engine(cell: Cell) -> str | None:
    return None


def _nothing_more(method: str) -> str:
    return ""


def _named(cell: Cell, name: str) -> str:
    return str(cell[name])


def _every_cell(axes: Mapping[str, Any]) -> bool:
    return True


LEAST = {"n_calibration_samples": 1, "seq_len": 2, "group_size": -1}
"""What shared parameters may be at least; a group size of -1 is one group for a whole row."""


@dataclass(frozen=True)
class Study:
    """One experimental question as a grid of cells.

    ``parameters`` are the document's; ``embedded`` replaces some of them for embedded models, and
    ``only`` names those that just some methods have. ``allowed`` lists the values that a parameter
    may have, ``least`` the smallest number; one that it does not name may be 0, never negative.
    A method in ``once`` has no randomness of its own and runs for the first seed alone.
    ``code(cell)`` names the modules that measure the cell: their syntax trees, and those of what
    they import, make the code digest of its fingerprint. ``packages(cell)`` names the distributions
    that it computes with beside the core's: their versions enter the fingerprint too, and a cell
    that lacks one is skipped with the install command. ``models``, ``corpora`` and ``tasks``
    name the axes and parameters whose values are catalogue entries that the cell reads, for tasks
    by way of ``task_of(cell, name)``.
    ``engine(cell)`` names the inference engine that runs it in a process of its own, whose versions
    enter the fingerprint. ``describe(method)`` is what ``benchsuite list STUDY`` tells of a method.
    ``unranked`` methods are shown beside the others and never called best: references, and methods
    of another kind, such as those that round activations too.
    ``files(cell)`` are files whose content decides the numbers, a configuration for one.
    ``settings_of`` names a study whose ``--set`` values hold here too, for the parameters shared.
    ``metric`` is what methods are ranked by and ``metrics`` are further numbers of a record that
    the report shows. ``reporter`` names a function that writes the study's own files into
    ``reports/<study>/``, as ``"module:function"``; see ``benchsuite.reporting.report.Reporter``.
    """

    name: str
    question: str
    axes: Mapping[str, Axis]
    seeds: Sequence[int]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    embedded: Mapping[str, Any] = field(default_factory=dict)
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)
    once: Sequence[str] = ()
    allowed: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=lambda: dict(LEAST))
    tour: Tour | None = None
    claims: Sequence[Claim] = ()
    code: Callable[[Cell], Sequence[str]] = _no_code
    packages: Callable[[Cell], Sequence[str]] = _no_code
    engine: Callable[[Cell], str | None] = _no_engine
    describe: Callable[[str], str] = _nothing_more
    files: Callable[[Cell], Sequence[str]] = _no_code
    settings_of: str = ""
    includes: Callable[[Mapping[str, Any]], bool] = _every_cell
    models: Sequence[str] = ("model",)
    corpora: Mapping[str, str] = field(default_factory=dict)
    tasks: Sequence[str] = ()
    task_of: Callable[[Cell, str], str] = _named
    metric: str = "perplexity"
    higher_is_better: bool = False
    metrics: Sequence[str] = ()
    reporter: str = ""
    controls: Sequence[str] = ()
    unranked: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.axes or next(iter(self.axes)) != "model" or "seed" in self.axes:
            raise UsageError(
                f"study {self.name!r} has the axes {list(self.axes)}",
                fix="the first axis is `model`; the seed is given by `seeds`, not as an axis",
            )
        for axis, values in self.axes.items():
            for value in values:
                if not re.fullmatch(r"[a-z0-9_]+", value):
                    raise UsageError(
                        f"study {self.name!r}: {axis!r} has the value {value!r}",
                        fix="use only a-z, 0-9 and _, which `pytest -k` accepts",
                    )

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
        for values in itertools.product(*axes.values()):
            point = dict(zip(axes, values, strict=True))
            if not self.includes(point):
                continue
            defaults = dict(self.parameters)
            if catalog.model(point["model"]).embedded:
                defaults |= self.embedded
            parameters = defaults | dict(small.parameters if small else {})
            parameters |= self._checked(settings or {})
            for name, methods in self.only.items():
                if point["method"] not in methods:
                    del defaults[name], parameters[name]
            for seed in chosen[:1] if point.get("method") in self.once else chosen:
                extra = self._checked(first_seed or {}) if seed == chosen[0] else {}
                yield Cell(self.name, {**point, "seed": seed}, {**parameters, **extra}, defaults)

    def _checked(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        for name, value in settings.items():
            if name not in self.parameters:
                raise unknown_name(f"parameter of study {self.name}", name, self.parameters)
            if name in self.allowed and value not in self.allowed[name]:
                raise UsageError(
                    f"--set {self.name}.{name}={value!r} is not possible",
                    fix=f"{name} is one of {', '.join(map(str, self.allowed[name]))}",
                )
            self._check_number(name, value)
            self._check_entry(name, value)
            default = self.parameters[name]
            if default is not None and not _same_kind(value, default):
                raise UsageError(
                    f"--set {self.name}.{name}={value!r} is a {type(value).__name__}",
                    fix=f"{name} is a {type(default).__name__}, by default {default!r}",
                )
        return settings

    def _check_number(self, name: str, value: Any) -> None:
        least = self.least.get(name, 0)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and not least <= value < math.inf:
            raise UsageError(
                f"--set {self.name}.{name}={value!r} is out of range",
                fix=f"{name} is at least {least}, by default {self.parameters[name]!r}",
            )

    def _check_entry(self, name: str, value: Any) -> None:
        """Raise for a name that is to be a catalogue entry and is none."""
        kinds = (
            ("model", self.models, catalog.MODELS),
            ("corpus", self.corpora, catalog.CORPORA),
            ("task", self.tasks, catalog.TASKS),
        )
        for kind, names, table in kinds:
            if name in names and value and value not in table:
                raise unknown_name(f"{kind} in --set {self.name}.{name}", str(value), table)

    def with_models(self, *names: str) -> "Study":
        """Return the study with further catalogue models on its first axis."""
        return self._with("model", names)

    def with_methods(self, *names: str) -> "Study":
        """Return the study with further registered methods on its method axis."""
        return self._with("method", names)

    def _with(self, axis: str, names: Sequence[str]) -> "Study":
        """Return the study with further values of an axis; one that is there already stays once."""
        values = tuple(dict.fromkeys((*self.axes[axis], *names)))
        return replace(self, axes={**self.axes, axis: values})


def _same_kind(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))


STUDIES: dict[str, Study] = {}


# Imported by name, as samplers and reporters are: what is run knows no study, and a project that
# registers its own finds ours beside them.
SHIPPED = "benchsuite.studies.shipped"


def register(study: Study) -> Study:
    """Add a study, or replace the one of its name; a user's own ``conftest.py`` calls this too."""
    STUDIES[study.name] = study
    return study


def names() -> tuple[str, ...]:
    """Return the names of all studies, those that ship with the project and the user's own."""
    importlib.import_module(SHIPPED)
    return tuple(STUDIES)


def study(name: str) -> Study:
    """Return a registered study; an unknown name is a usage error naming the nearest."""
    if name not in names():
        raise unknown_name("study", name, names())
    return STUDIES[name]


def parse_setting(text: str) -> tuple[str, str, Any]:
    """Parse ``STUDY.PARAMETER=VALUE`` into study, parameter and a Python value."""
    match = re.fullmatch(r"([a-z0-9_]+)\.([A-Za-z0-9_]+)=(.*)", text)
    if not match:
        raise UsageError(
            f"--set {text!r} cannot be read",
            fix="write --set STUDY.PARAMETER=VALUE, as in --set calibration_selection.quant_bits=3",
        )
    name, parameter, raw = match.groups()
    literal = {"true": "True", "false": "False", "none": "None"}.get(raw.lower(), raw)
    try:
        value = ast.literal_eval(literal)
    except (ValueError, SyntaxError):
        value = raw
    return name, parameter, value
