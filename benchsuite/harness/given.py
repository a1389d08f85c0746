"""Models named on the command line, ``--model NAME=SOURCE``: any checkpoint, without a conftest.

A source is a folder, a GGUF file, or a hub id with or without ``@revision``. A name that the
catalogue knows needs none. The model joins the studies that can take it while the session lasts.
``-k any_model`` selects the cells of all such models.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchsuite import catalog
from benchsuite.catalog import ModelEntry, is_gguf
from benchsuite.errors import UsageError
from benchsuite.study import names, register_study, study

_OWN: dict[str, ModelEntry] = {}
"""What this process' session has named and the catalogue did not know."""

_JOINED: dict[str, tuple[str, ...]] = {}
"""The models that each study has for this session alone."""


def read(values: list[str], where: Path) -> tuple[dict[str, ModelEntry], dict[str, Path]]:
    """Return the entries of the models named, and the paths of those that are here.

    ``where`` is the folder that relative paths start from. Raises ``UsageError``.
    """
    from benchsuite.models import source as places

    _leave()
    entries, paths = {}, {}
    for text in values:
        name, equals, source = text.partition("=")
        known = catalog.MODELS.get(name)
        if known and name not in entries and (not equals or source in _hub_words(known)):
            entries[name] = known
            continue
        if known or name in entries:
            raise UsageError(
                f"--model: the name {name!r} is taken",
                fix="choose another"
                + (f", or write --model {name} --local {name}=PATH" if known else ""),
            )
        if not equals or not source or not re.fullmatch("[a-z0-9_]+", name):
            raise UsageError(
                f"--model {text!r} cannot be read",
                fix="write --model NAME=SOURCE, with a NAME of a-z, 0-9 and _, and as SOURCE a "
                "folder, a .gguf file or a hub id, or a NAME that `benchsuite models` shows",
            )
        path = places.within(Path(os.path.realpath(where / Path(source).expanduser())))
        if path.exists():
            paths[name] = path
            entries[name] = _of_path(name, path)
        else:
            entries[name] = _of_hub(name, source)
        _OWN[name] = entries[name]
    return entries, paths


def _hub_words(entry: ModelEntry) -> tuple[str, ...]:
    """Return the sources that mean what the catalogue has under the entry's name."""
    return (entry.hub_id, f"{entry.hub_id}@{entry.revision}") if entry.hub_id else ()


def is_own(name: str) -> bool:
    """Whether a model is this session's own, and not the catalogue's."""
    return name in _OWN


def _of_path(name: str, path: Path) -> ModelEntry:
    from benchsuite.models import folder, stand_in

    if is_gguf(path):
        from benchsuite.models.gguf import configuration

        config = configuration(path)
        return stand_in.entry_of_config(name, "", config, config["dtype"])
    config = folder.read_config(path)
    folder.refuse_quantized(path, name)
    return stand_in.entry_of_config(name, "", config, folder.stored_dtype(path))


def _of_hub(name: str, source: str) -> ModelEntry:
    from benchsuite.models import folder, stand_in
    from benchsuite.models import source as places

    hub_id, _, revision = source.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
        raise UsageError(
            f"--model {name}: there is no {source}, and it is no hub id",
            fix="check the path, or write OWNER/NAME or OWNER/NAME@REVISION",
        )
    entry = ModelEntry(name, hub_id, revision=revision or "main")
    here = places.locate(entry).folder
    if here is None:
        return _shaped(entry)
    folder.refuse_quantized(here, name)
    config, dtype = folder.read_config(here), folder.stored_dtype(here)
    return stand_in.entry_of_config(name, hub_id, config, dtype, entry.revision)


def _shaped(entry: ModelEntry) -> ModelEntry:
    """Return a hub model with the shape that the catalogue has of it: to estimate and rehearse."""
    for known in catalog.MODELS.values():
        if (known.hub_id, known.revision) == (entry.hub_id, entry.revision):
            kind, shape, dtype = known.model_type, known.shape, known.dtype
            return replace(entry, model_type=kind, shape=shape, dtype=dtype, gated=known.gated)
    return entry


def join(entries: Mapping[str, ModelEntry]) -> None:
    """Let the studies have the models; each leaves out the cells that it cannot run with them."""
    for name in names() if entries else ():
        declared = study(name)
        _JOINED[name] = tuple(one for one in entries if one not in declared.axes["model"])
        register_study(declared.with_models(*entries))


def _leave() -> None:
    """Take an earlier session's models out again: its commands may have used them to the end."""
    for name, joined in _JOINED.items():
        register_study(study(name).without_models(*joined))
    for entry in _OWN.values():
        catalog.unregister(entry)
    _JOINED.clear()
    _OWN.clear()
