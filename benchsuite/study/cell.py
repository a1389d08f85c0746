"""A cell: one experiment of a study, one pytest item."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchsuite import catalog
from benchsuite.printable import in_file_name


@dataclass(frozen=True)
class Cell:
    """One point of a study's grid: axis values, a seed, and the parameters in force.

    ``axes`` is ordered: the model first, the seed last. ``defaults`` are the study's own
    parameters for this model; what differs from them shows in the exported file's name.
    ``additions`` are the parameters that measure more and change nothing of the rest.
    """

    study: str
    axes: Mapping[str, Any]
    parameters: Mapping[str, Any]
    defaults: Mapping[str, Any]
    additions: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        """Return an axis value or a parameter by name."""
        return self.axes[name] if name in self.axes else self.parameters[name]

    @property
    def model(self) -> str:
        """The catalogue name of the cell's model."""
        return self.axes["model"]

    @property
    def method(self) -> str:
        """The method under test."""
        return self.axes["method"]

    @property
    def seed(self) -> int:
        """The seed from which everything random in the cell is drawn."""
        return self.axes["seed"]

    @functools.cached_property
    def id(self) -> str:
        """The pytest id, ``llama2_7b-cola_zero-seed42``."""
        return "-".join(f"seed{v}" if k == "seed" else str(v) for k, v in self.axes.items())

    @property
    def place(self) -> str:
        """Where its methods are compared: model and further axes, ``llama2_7b-arc_easy``."""
        return "-".join(str(v) for k, v in self.axes.items() if k not in ("method", "seed"))

    @property
    def name(self) -> str:
        """The name of its file, with what is not default: ``llama-2-7b-hf__random__seed42``."""
        shown = {**self.axes, "model": catalog.document_name(self.model)}
        parts = [f"seed{v}" if k == "seed" else str(v) for k, v in shown.items()]
        parts += [f"{k}-{in_file_name(str(v).lower())}" for k, v in self.changed.items()]
        return "__".join(parts)

    @property
    def changed(self) -> dict[str, Any]:
        """The parameters that differ from the study's defaults."""
        return {k: v for k, v in sorted(self.parameters.items()) if self.defaults.get(k) != v}
