"""The records of one generation pass as one thing: a model at a precision on a data set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchsuite import catalog
from benchsuite.records.record import Record
from benchsuite.reporting.judging import Columns, ranking_of
from benchsuite.reporting.settings import by_setting, changed_in
from benchsuite.statistics.item_tests import ItemDifference
from benchsuite.statistics.ranking import Term, auroc_contrast
from benchsuite.studies.uncertainty.declaration import family
from benchsuite.studies.uncertainty.metrics import AUROC

# The G-NLL study's metric; the questions are answered with it.
PRIMARY = "g_nll"
# Within a family, a model counts as large from this many times the smallest one's parameters.
LARGER = 1.5


@dataclass(frozen=True, eq=False)
class Run:
    """One model at one precision on one data set: a record and per-question rows by score.

    ``seeds`` counts the runs that differ from it in their seed alone, itself included.
    """

    model: str
    precision: str
    dataset: str
    seed: int
    records: Mapping[str, Record]
    read: Columns
    seeds: int = 1
    _known: dict[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)

    @property
    def family(self) -> str:
        """The model's family."""
        return family(self.model)

    @property
    def n_parameters(self) -> int:
        """How many parameters the model has, by the catalogue; 0 where that does not know it.

        A model that a command line named is in the catalogue of that session alone.
        """
        known = catalog.MODELS.get(self.model)
        return known.n_parameters if known else 0

    @property
    def tuned(self) -> bool:
        """Whether the model is tuned to instructions, by its names in the catalogue."""
        entry = catalog.MODELS.get(self.model)
        made_from = entry.packaged.made_from if entry and entry.packaged else ""
        hub_id = entry.hub_id if entry else self.any_record.source.hub_id
        return "instruct" in f"{self.model} {hub_id} {made_from}".lower()

    @property
    def label(self) -> str:
        """The name under which the run is shown: its model, a reduced precision, its seed of many.

        Without the seed two runs would share one place in a figure, and one number hide the other.
        """
        name = self.model if self.precision == "fp16" else f"{self.model} {self.precision}"
        return name if self.seeds == 1 else f"{name} seed {self.seed}"

    @property
    def any_record(self) -> Record:
        """A record of the run: what does not depend on the score is equal in all of them."""
        return self.records.get(PRIMARY) or next(iter(self.records.values()))

    def rows(self, method: str = "") -> Mapping[str, Any]:
        """Return the per-question columns of a score's record, or of any."""
        method = method or next(iter(self.records))
        if method not in self._known:
            self._known[method] = self.read(self.records[method])
        return self._known[method]

    def auroc(self, method: str = PRIMARY) -> float | None:
        """Return a score's AUROC, None where it is undefined or was not run."""
        record = self.records.get(method)
        return None if record is None else record.value("auroc")


def runs_of(records: Sequence[Record], columns: Columns) -> list[Run]:
    """Return the runs of real weights in the records' order.

    Where there are hub models, the embedded ones are left out: they know another world. Of several
    settings one is taken, see ``in_one_setting``.
    """
    found: dict[tuple[Any, ...], dict[str, Record]] = {}
    for record in in_one_setting(records):
        axes = record.cell.axes
        key = tuple(axes[name] for name in ("model", "precision", "dataset", "seed"))
        found.setdefault(key, {})[axes["method"]] = record
    alike = Counter(key[:3] for key in found)
    return [
        Run(model, precision, dataset, seed, by_method, columns, alike[model, precision, dataset])
        for (model, precision, dataset, seed), by_method in found.items()
    ]


def in_one_setting(records: Sequence[Record]) -> list[Record]:
    """Return the records of the setting in which most were measured, in their order.

    Of two with as many it is the one with fewer changes. A difference between two settings would
    pass for one between the models.
    """
    real = [r for r in records if r.kind == "real" and r.source.weights != "checkpoint"]
    if any(r.source.weights != "embedded" for r in real):
        real = [r for r in real if r.source.weights != "embedded"]

    def rank(mine: list[Record]) -> tuple[int, int]:
        return -len(mine), len(changed_in(mine))

    return min(by_setting(real), key=rank, default=[])


def sizes(runs: Sequence[Run]) -> dict[str, str]:
    """Return model -> ``small`` or ``large`` within its family, or ``unknown``."""
    smallest: dict[str, int] = {}
    for run in sized(runs):
        smallest[run.family] = min(run.n_parameters, smallest.get(run.family, run.n_parameters))
    return {run.model: "unknown" for run in runs} | {
        run.model: "large" if run.n_parameters > LARGER * smallest[run.family] else "small"
        for run in sized(runs)
    }


def sized(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of models whose number of parameters is known."""
    return [run for run in runs if run.n_parameters]


def preferred(runs: Sequence[Run]) -> list[Run]:
    """Return each model once: its runs in 16 bits, or as they are where it has none."""
    full = {run.model for run in runs if run.precision == "fp16"}
    return [run for run in runs if run.precision == "fp16" or run.model not in full]


def contrast(weighted: Sequence[tuple[float, Run]], method: str = PRIMARY) -> ItemDifference:
    """Return the weighted sum of the runs' AUROCs under a score, with its error over questions.

    A question is one observation in all runs that met it. Runs on the same data set are compared
    over the questions that all of them scored.
    """
    rows = [run.rows(method) for _, run in weighted]
    scored = [_scored(columns) for columns in rows]
    shared: dict[tuple[str, int], set[Any]] = {}
    for (_, run), kept in zip(weighted, scored, strict=True):
        shared[run.dataset, run.seed] = shared.get((run.dataset, run.seed), kept) & kept
    terms = []
    for (weight, run), columns in zip(weighted, rows, strict=True):
        names = columns["question_id"].tolist()
        chosen = np.array([name in shared[run.dataset, run.seed] for name in names], bool)
        ranking = ranking_of({name: column[chosen] for name, column in columns.items()}, AUROC)
        arm = (run.model, run.precision, run.dataset)
        terms.append(Term(weight, *ranking[:2], run.dataset, *ranking[2:], arm))
    return auroc_contrast(terms)


def _scored(columns: Mapping[str, Any]) -> set[Any]:
    return set(columns["question_id"][~np.isnan(columns["uncertainty"])].tolist())
