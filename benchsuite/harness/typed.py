"""What is typed behind an option: read into values, or refused in one paragraph with the fix."""

import difflib
import importlib.util
import os
from pathlib import Path
from typing import Any

from benchsuite.engines.registry import engine
from benchsuite.errors import UsageError, unknown_name
from benchsuite.study import names, parse_margin, parse_setting, study


def models(flag: str, names: list[str]) -> frozenset[str]:
    """Return catalogued models by their names; another name is refused."""
    from benchsuite import catalog

    for name in names:
        if name not in catalog.MODELS:
            raise unknown_name(f"model in {flag}", name, catalog.MODELS)
    return frozenset(names)


def seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of ``--seeds 1,2,3``."""
    try:
        seeds = tuple(int(part) for part in str(text).split(",") if part.strip())
    except ValueError:
        raise UsageError(
            f"--seeds {text!r} cannot be read", fix="write integers, as in --seeds 123,456,789"
        ) from None
    if len(set(seeds)) != len(seeds) or any(not 0 <= seed < 2**32 for seed in seeds):
        raise UsageError(
            f"--seeds {text!r} names a seed twice or out of range", fix="seeds are 0 to 2**32 - 1"
        )
    return seeds


def tracked(mode: str) -> str:
    """Return the mode of ``--wandb``, refused where wandb is not installed."""
    if mode and importlib.util.find_spec("wandb") is None:
        raise UsageError(
            "--wandb needs wandb, which is not installed",
            fix="install it: pip install 'benchsuite[wandb]', or leave --wandb out",
        )
    return mode


def whole(flag: str, text: str) -> int:
    """Return a whole number of 0 or more."""
    if not str(text).isdigit():
        raise UsageError(f"{flag} {text!r} is not a number", fix=f"write {flag} 20")
    return int(text)


def positive(flag: str, text: str) -> int:
    """Return a whole number of 1 or more."""
    if not str(text).isdigit() or int(text) < 1:
        raise UsageError(f"{flag} {text!r} is not a positive integer", fix=f"write {flag} 1")
    return int(text)


def named_paths(flag: str, values: list[str], where: Path) -> dict[str, Path]:
    """Return the paths of ``NAME=PATH``, each there and each name known to the catalogue.

    Relative ones lie below ``where``.
    """
    from benchsuite import catalog

    known = {*catalog.MODELS, *catalog.CORPORA, *catalog.TASKS}
    found = {}
    for text in values:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UsageError(f"{flag} {text!r} cannot be read", fix=f"write {flag} NAME=PATH")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(
                f"{flag} names {name!r}, which is not in the catalogue",
                fix=f"{hint}`benchsuite list` shows the names",
            )
        # Not Path.resolve, which raises where links go in a circle.
        found[name] = Path(os.path.realpath(where / path))
        if not found[name].exists():
            raise UsageError(f"{flag} {name}: there is no {found[name]}", fix="check the path")
    return found


def local(values: list[str], where: Path) -> dict[str, Path]:
    """Return the paths of ``--local NAME=PATH``: of a model's folder around a GGUF, that file."""
    from benchsuite import catalog

    found = named_paths("--local", values, where)
    if not found.keys() & catalog.MODELS.keys():
        return found
    from benchsuite.models import source

    return {
        name: source.around_gguf(path) if name in catalog.MODELS else path
        for name, path in found.items()
    }


def checkpoints(values: list[str], where: Path) -> dict[str, Path]:
    """Return the models of ``--checkpoint NAME=PATH``: of a folder around a GGUF, that file.

    A folder of ``--save-models`` that holds no model is refused, with the reason that it gives.
    """
    found = named_paths("--checkpoint", values, where)
    if found:
        from benchsuite.models import saved, source

        found = {name: source.within(path) for name, path in found.items()}
        for path in found.values():
            saved.refuse_unsaved(path)
    return found


def interpreters(values: list[str], where: Path) -> dict[str, str]:
    """Return engine -> interpreter; the path is not resolved: a venv's python is a link."""
    found = {}
    for text in values:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UsageError(
                f"--engine-python {text!r} cannot be read", fix="write --engine-python ENGINE=PATH"
            )
        engine(name)
        found[name] = str(where / path)
        if not os.access(found[name], os.X_OK):
            raise UsageError(
                f"--engine-python {name}: {found[name]} cannot be executed", fix="check the path"
            )
    return found


def margins(values: list[str]) -> dict[str, str]:
    """Return metric -> margin of ``METRIC=VALUE``, of metrics that studies compare."""
    if not values:
        return {}
    studies = [study(name) for name in names()]
    known = {metric.name for declared in studies for metric in declared.metrics}
    known |= {claim.metric for declared in studies for claim in declared.claims if claim.other}
    return dict(parse_margin(text, frozenset(known)) for text in values)


def settings(values: list[str]) -> dict[str, dict[str, Any]]:
    """Return study -> parameter -> value of ``STUDY.PARAMETER=VALUE``, checked by the study."""
    settings: dict[str, dict[str, Any]] = {}
    for text in values:
        name, parameter, value = parse_setting(text)
        settings.setdefault(study(name).name, {})[parameter] = value
    for name, parameters in settings.items():
        next(study(name).cells(settings=parameters))
    return settings


def refuse_empty(flag: str, given: Any) -> None:
    """Refuse an option whose value is empty, as that of an unset variable of the shell is."""
    if any(isinstance(word, str) and not word.strip() for word in _as_list(given)):
        raise UsageError(
            f"{flag} has an empty value",
            fix="give it one, or leave it out: a variable of the shell may be unset",
        )


def _as_list(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [given]
