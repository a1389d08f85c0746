"""Names to methods: plain data, so that the study is declared without torch.

A new method is one file with a ``METHOD`` and one entry here, or one call of
``register_latent_method`` in a user's own ``conftest.py``.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchsuite.errors import UsageError, unknown_name
from benchsuite.latent.config import Config
from benchsuite.models.light_imports import import_transformers
from benchsuite.registry import Registry

if TYPE_CHECKING:
    from benchsuite.latent.methods.base import Method

_ROOM = "benchsuite.latent.methods"


@dataclass(frozen=True)
class LatentMethod:
    """One method: the module whose ``METHOD`` it is, and the keys that define it.

    ``own`` are keys of the configuration, by section. A variant is ``like`` another method: it
    inherits what a configuration file says of that one. One that is not ``trained`` is the model
    as it is.
    """

    module: str
    own: Mapping[str, Any] = field(default_factory=dict)
    like: str = ""
    trained: bool = True


def _kava(**own: Any) -> LatentMethod:
    return LatentMethod(f"{_ROOM}.kava", own, like="kava")


_NO_PROJECTION = {"latent": {"projection": False}}

METHODS = Registry(
    "method",
    {
        "full_cot": LatentMethod(f"{_ROOM}.full_cot", _NO_PROJECTION),
        "no_cot": LatentMethod(f"{_ROOM}.no_cot", _NO_PROJECTION),
        "icot": LatentMethod(f"{_ROOM}.icot", _NO_PROJECTION),
        "coconut": LatentMethod(f"{_ROOM}.coconut", _NO_PROJECTION),
        "codi": LatentMethod(f"{_ROOM}.codi"),
        "pccot": LatentMethod(f"{_ROOM}.pccot"),
        "kava": LatentMethod(f"{_ROOM}.kava"),
        "sim_cot": LatentMethod(f"{_ROOM}.sim_cot", {"loss": {"step_weight": 1.0}}, like="codi"),
        # The model as it is, shown worked examples.
        "few_shot": LatentMethod(
            f"{_ROOM}.full_cot", {**_NO_PROJECTION, "data": {"worked_examples": 8}}, trained=False
        ),
        # The paper's ablations: KaVa but for one thing.
        "kava_no_kv": _kava(loss={"kv_weight": 0.0}),
        "kava_no_codi": _kava(loss={"codi_weight": 0.0}),
        "kava_no_projection": _kava(**_NO_PROJECTION),
        "kava_lambda0": _kava(loss={"importance_mix": 0.0}),
        "kava_lambda1": _kava(loss={"importance_mix": 1.0}),
        "kava_crop": _kava(loss={"eviction": "crop"}),
    },
)


def register_latent_method(name: str, method: LatentMethod) -> None:
    """Add a method under ``name``; a name that stands for another one is a usage error."""
    METHODS.add(name, method)


def method(name: str) -> "Method":
    """Return a method by its name; an unknown one is a usage error naming the nearest."""
    found = METHODS.find(name)
    # Its module imports a model's code from transformers.
    import_transformers()
    return importlib.import_module(found.module).METHOD


def config_of(name: str, config: Config) -> Config:
    """Return the configuration that a method is trained and decoded with.

    Raises ``UsageError`` for an unknown method under ``methods`` or in ``training.start_from``, and
    for one that would start from itself.
    """
    lineage(name, config)
    return _own(name, config)


def lineage(name: str, config: Config) -> list[str]:
    """Return a method and those that its training starts from, the earliest last.

    Raises ``UsageError`` as ``config_of`` does.
    """
    named = [known for known, entry in METHODS.items() if not entry.like]
    for written in config.methods:
        if written not in named:
            raise unknown_name(f"method under methods of {config.name}", str(written), named)
    line, before = [name], _own(name, config).training.start_from
    while before:
        line.append(before)
        if before in line[:-1]:
            raise UsageError(
                f"training.start_from of {config.name} has no beginning: {' from '.join(line)}",
                fix="write start_from under methods, for the methods that start from another",
            )
        before = _own(before, config).training.start_from
    return line


def _own(name: str, config: Config) -> Config:
    entry = METHODS.find(name)
    return config.for_method(entry.like or name, entry.own)
