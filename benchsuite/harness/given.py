"""Models named on the command line, ``--model NAME=SOURCE``: any checkpoint, without a conftest.

A source is a folder, a GGUF file, or a hub id with or without ``@revision``. The model joins the
studies that can take it while the session lasts. ``-k any_model`` selects the cells of all such
models.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from benchsuite import catalog
from benchsuite.catalog import ModelEntry, is_gguf
from benchsuite.errors import UsageError
from benchsuite.study import names, register_study, study

_JOINED: dict[str, ModelEntry] = {}
"""What this process' session has named."""


def read(values: list[str], where: Path) -> tuple[dict[str, ModelEntry], dict[str, Path]]:
    """Return the entries of the models named, and the paths of those that are here.

    ``where`` is the folder that relative paths start from. Raises ``UsageError``.
    """
    from benchsuite.models import source as places

    _leave()
    entries, paths = {}, {}
    for text in values:
        name, equals, source = text.partition("=")
        if not equals or not source or not re.fullmatch("[a-z0-9_]+", name):
            raise UsageError(
                f"--model {text!r} cannot be read",
                fix="write --model NAME=SOURCE, with a NAME of a-z, 0-9 and _, and as SOURCE a "
                "folder, a .gguf file or a hub id",
            )
        if name in catalog.MODELS or name in entries:
            raise UsageError(
                f"--model: the name {name!r} is taken",
                fix=f"choose another, or say where {name} is with --local {name}=PATH",
            )
        path = places.within((where / Path(source).expanduser()).resolve())
        if path.exists():
            paths[name] = path
            entries[name] = _of_path(name, path)
        else:
            entries[name] = _of_hub(name, source)
    return entries, paths


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
        return entry
    folder.refuse_quantized(here, name)
    config, dtype = folder.read_config(here), folder.stored_dtype(here)
    return stand_in.entry_of_config(name, hub_id, config, dtype, entry.revision)


def join(entries: Mapping[str, ModelEntry]) -> None:
    """Let the studies have the models; each leaves out the cells that it cannot run with them."""
    for name in names() if entries else ():
        register_study(study(name).with_models(*entries))
    _JOINED.update(entries)


def _leave() -> None:
    """Take an earlier session's models out again: its commands may have used them to the end."""
    for name in names() if _JOINED else ():
        register_study(study(name).without_models(*_JOINED))
    for entry in _JOINED.values():
        catalog.unregister(entry)
    _JOINED.clear()
