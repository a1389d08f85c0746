"""The command-line options and their ini defaults."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchsuite.catalog import ModelEntry, Sources, register
from benchsuite.errors import UsageError, unknown_name
from benchsuite.harness import given, settings, typed
from benchsuite.harness.clashes import Clashes, defined_twice
from benchsuite.records.store import digest_cache
from benchsuite.study import use_margins
from benchsuite.study.plan import FrozenPlan, read_plan

CHOICES = {
    "weights": ("hub", "random"),
    "device": ("auto", "cpu", "cuda"),
    "downstream": ("", "first", "all"),
}


@dataclass(frozen=True)
class _Option:
    flag: str
    ini_type: Any
    default: Any
    help: str
    argparse: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")


_SWITCH = {"action": "store_const", "const": True}
_REPEATED = {"action": "append"}

OPTIONS = (
    _Option("--reports-dir", "string", "reports", "folder for records, artefacts and reports"),
    _Option("--rerun", "bool", False, "measure selected cells again, cached or not", _SWITCH),
    _Option("--tour", "bool", False, "the quick tour: few models and seeds, small counts", _SWITCH),
    _Option("--seeds", "string", "", "seeds instead of the study's: 123,456,789"),
    _Option("--until-decided", "string", "0", "N: seeds for open comparisons, up to N an arm"),
    _Option("--plan", "string", "", "FILE: a frozen plan, whose cells are run and no others"),
    _Option("--strict-cells", "bool", False, "a cell that cannot run here fails", _SWITCH),
    _Option("--strict-claims", "bool", False, "a violated comparison fails the session", _SWITCH),
    _Option("--weights", "string", "hub", "hub, or random: a rehearsal at the true shapes"),
    _Option("--local", "args", [], "NAME=PATH: a model or data set from a folder", _REPEATED),
    _Option(
        "--model",
        "args",
        [],
        "NAME=SOURCE: one more model, from a folder, a .gguf file or the hub (OWNER/NAME); "
        "a catalogued NAME alone",
        _REPEATED,
    ),
    _Option(
        "--checkpoint",
        "args",
        [],
        "NAME=PATH: evaluate this quantized model instead of making one",
        _REPEATED,
    ),
    _Option("--save-models", "bool", False, "keep each cell's quantized model", _SWITCH),
    _Option(
        "--downstream",
        "string",
        "",
        "also run the downstream tasks, on the first seed or on all",
        {"nargs": "?", "const": "first", "choices": ("first", "all")},
    ),
    _Option(
        "--wandb",
        "string",
        "",
        "log each measured cell as a Weights & Biases run, online or offline",
        {"nargs": "?", "const": "online", "choices": ("online", "offline")},
    ),
    _Option("--device", "string", "auto", "auto, cpu or cuda"),
    _Option(
        "--trust-remote-code", "args", [], "MODEL whose own code may run", {"action": "append"}
    ),
    _Option(
        "--set", "args", [], "STUDY.PARAMETER=VALUE; enters fingerprint and file name", _REPEATED
    ),
    _Option(
        "--margin",
        "args",
        [],
        "METRIC=VALUE: the smallest difference that matters, 1 in the unit shown or 0.5% relative",
        _REPEATED,
    ),
    _Option(
        "--engine-python",
        "args",
        [],
        "ENGINE=PATH: the interpreter, or the program, of an engine that cannot live here",
        _REPEATED,
    ),
    _Option(
        "--ray",
        "string",
        "",
        "run the cells on a Ray cluster: this one's, or the one at HOST:PORT",
        {"nargs": "?", "const": "auto"},
    ),
    _Option("--gpus-per-cell", "string", "1", "GPUs that work on one cell's model together"),
    _Option("--cell-threads", "string", "1", "CPU threads of a cell; enters the fingerprint"),
)


def add_options(parser: pytest.Parser, manager: pytest.PytestPluginManager) -> None:
    """Declare the options, each with an ini setting ``benchsuite_<name>`` as its default.

    An option that another plugin has too is a usage error, whichever plugin is loaded first.
    """
    manager.register(Clashes(manager, [option.flag for option in OPTIONS]), "benchsuite-clashes")
    group = parser.getgroup("benchsuite", "benchmarks of LLM compression (benchsuite)")
    for option in OPTIONS:
        try:
            group.addoption(
                option.flag,
                dest=f"benchsuite_{option.name}",
                default=None,
                help=f"{option.help} [ini: benchsuite_{option.name}]",
                **option.argparse,
            )
        except argparse.ArgumentError as error:
            raise defined_twice(option.flag, manager.get_plugins()) from error
        parser.addini(
            f"benchsuite_{option.name}",
            f"default of {option.flag}",
            option.ini_type,
            option.default,
        )


@dataclass(frozen=True)
class Options:
    """The options in force, checked."""

    reports_dir: Path
    rerun: bool
    tour: bool
    seeds: tuple[int, ...]
    until_decided: int
    strict_cells: bool
    strict_claims: bool
    sources: Sources
    models: Mapping[str, ModelEntry]
    checkpoint: Mapping[str, Path]
    save_models: bool
    wandb: str
    downstream: str
    device: str
    settings: Mapping[str, Mapping[str, Any]]
    cell_threads: int
    gpus_per_cell: int
    ray: str
    engine_python: Mapping[str, str]
    margins: Mapping[str, str]
    plan: FrozenPlan | None = None

    @classmethod
    def of(cls, config: pytest.Config) -> "Options":
        """Read the options, the command line before the ini file."""

        value = partial(settings.value, config)
        for option in OPTIONS:
            typed.refuse_empty(option.flag, config.getoption(f"benchsuite_{option.name}"))
        where = config.invocation_params.dir
        reports = settings.reports_dir(config)
        for name, allowed in CHOICES.items():
            if value(name) not in allowed:
                raise unknown_name(f"value of --{name}", str(value(name)), filter(None, allowed))
        models, paths = given.read(value("model"), where)
        for entry in models.values():
            register(entry)
        margins = typed.margins(value("margin"))
        use_margins(margins)
        found = cls(
            reports_dir=reports,
            rerun=value("rerun"),
            tour=value("tour"),
            seeds=typed.seeds(value("seeds")),
            until_decided=typed.whole("--until-decided", value("until_decided")),
            strict_cells=value("strict_cells"),
            strict_claims=value("strict_claims"),
            sources=Sources(
                local=paths | typed.local(value("local"), where),
                weights=value("weights"),
                trusted=typed.models("--trust-remote-code", value("trust_remote_code")),
                digest_cache=digest_cache(reports),
            ),
            models=models,
            checkpoint=typed.checkpoints(value("checkpoint"), where),
            save_models=value("save_models"),
            wandb=typed.tracked(value("wandb")),
            downstream=value("downstream"),
            device=value("device"),
            settings=typed.settings(value("set")),
            cell_threads=typed.positive("--cell-threads", value("cell_threads")),
            gpus_per_cell=gpus_per_cell(config),
            ray=value("ray"),
            engine_python=typed.interpreters(value("engine_python"), where),
            margins=margins,
        )
        if not value("plan"):
            return found
        base = where if config.getoption("benchsuite_plan") else config.rootpath
        return found.under(read_plan(base / value("plan")))

    def under(self, plan: FrozenPlan) -> "Options":
        """Return the options with what the plan fixes; others in its place are a usage error."""
        planned = {(n, p): v for n, values in plan.settings.items() for p, v in values.items()}
        for name, values in self.settings.items():
            for parameter, value in values.items():
                if (name, parameter) not in planned or planned[name, parameter] != value:
                    raise _fixed(plan, f"--set {name}.{parameter}={value}")
        if self.tour and not plan.tour:
            raise _fixed(plan, "--tour")
        if self.downstream not in ("", plan.downstream):
            raise _fixed(plan, f"--downstream={self.downstream}")
        if self.until_decided not in (0, plan.most):
            raise _fixed(plan, f"--until-decided={self.until_decided}")
        known = {seed for planned in plan.studies.values() for seed in planned.seeds}
        further = [seed for seed in self.seeds if seed not in known]
        if further:
            raise _fixed(plan, f"--seeds {','.join(map(str, further))}")
        margins = self.margins or plan.margins  # other ones are a departure, which is told
        use_margins(margins)
        return replace(
            self,
            plan=plan,
            margins=margins,
            tour=plan.tour,
            downstream=plan.downstream,
            settings=plan.settings,
            until_decided=plan.most,
        )

    def again(self, rootpath: Path) -> tuple[str, ...]:
        """Return the words by which a command typed here finds the same records.

        Without the parameters, the seeds and the tour: those the cells themselves tell.
        """
        here, words = Path.cwd(), []
        if self.reports_dir != rootpath / "reports":
            words += ["--reports-dir", _relative(self.reports_dir, here)]
        for flag, value in (("--weights", self.sources.weights), ("--device", self.device)):
            if value != CHOICES[flag.removeprefix("--")][0]:
                words += [flag, value]
        words += self._sources_again(here)
        if self.plan is not None:
            words += ["--plan", _relative(self.plan.path, here)]
        if self.cell_threads != 1:
            words += ["--cell-threads", str(self.cell_threads)]
        return tuple(words)

    def _sources_again(self, here: Path) -> list[str]:
        """Return the words that name the models, folders and checkpoints which were given."""
        words, sources = [], self.sources
        for name, entry in self.models.items():
            if not given.is_own(name):
                words += ["--model", name]
            elif name not in sources.local:
                words += ["--model", f"{name}={entry.hub_id}@{entry.revision}"]
        for flag, paths in (("--local", sources.local), ("--checkpoint", self.checkpoint)):
            for name, path in paths.items():
                named = "--model" if flag == "--local" and given.is_own(name) else flag
                words += [named, f"{name}={_relative(path, here)}"]
        for name in sorted(sources.trusted):
            words += ["--trust-remote-code", name]
        return words


def gpus_per_cell(config: pytest.Config) -> int:
    """Return how many GPUs work on one cell: wanted before the other options are read."""
    return typed.positive("--gpus-per-cell", settings.value(config, "gpus_per_cell"))


def _relative(path: Path, here: Path) -> str:
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _fixed(plan: FrozenPlan, word: str) -> UsageError:
    return UsageError(
        f"{word} is not in the plan",
        str(plan.path),
        "leave it away, for the plan fixes it, or run it without --plan",
    )
