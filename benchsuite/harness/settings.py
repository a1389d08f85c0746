"""What the command line and the ini file say of an option, put together."""

from pathlib import Path
from typing import Any

import pytest

from benchsuite.errors import UsageError

REPEATED = ("local", "model", "checkpoint", "trust_remote_code", "set", "margin", "engine_python")
"""The options that may be given several times, and whose setting is a list."""

_OF_PATHS = ("local", "model", "checkpoint", "engine_python")


def value(config: pytest.Config, name: str) -> Any:
    """Return an option's value: the command line's or, without one, the ini file's.

    A repeatable option has both: the ini file's words first, but for those whose name (before the
    ``=``) the command line gives another value.
    """
    given = config.getoption(f"benchsuite_{name}")
    if given is not None and name not in REPEATED:
        return given
    set_up = _from_ini(config, name)
    if name not in REPEATED:
        return set_up
    said = {_named(word) for word in given or ()}
    if name in _OF_PATHS:
        set_up = [_from_root(word, config.rootpath, name) for word in set_up]
    return [*(word for word in set_up if _named(word) not in said), *(given or ())]


def reports_dir(config: pytest.Config) -> Path:
    """Return the reports folder: relative to where it was typed, or to the root if it is a setting.

    An empty setting would be the project's own folder.
    """
    folder = str(value(config, "reports_dir"))
    if not folder.strip():
        raise UsageError(
            "the setting benchsuite_reports_dir is empty",
            where=str(config.inipath or "-o"),
            fix="name a folder, or leave it out",
        )
    typed = config.getoption("benchsuite_reports_dir")
    return (config.invocation_params.dir if typed else config.rootpath) / folder


def _named(word: str) -> str:
    return word.partition("=")[0].strip()


def _from_root(word: str, root: Path, option: str) -> str:
    """Return a setting's ``NAME=PATH`` with the path below the root, wherever pytest is run.

    The source of a model may be a hub id: that is one where no such path is.
    """
    name, _, path = word.partition("=")
    below = root / Path(path).expanduser()
    return f"{name}={below}" if path and (option != "model" or below.exists()) else word


def _from_ini(config: pytest.Config, name: str) -> Any:
    where, flag = str(config.inipath or "-o"), f"--{name.replace('_', '-')}"
    try:
        found = config.getini(f"benchsuite_{name}")
    except (TypeError, ValueError, pytest.UsageError) as error:
        what = f"the setting benchsuite_{name} cannot be read: {error}"
        raise UsageError(what, where, f"write what {flag} takes") from error
    # TOML has lists and numbers, which pytest hands on as they are.
    if name in REPEATED:
        odd, fix = any(not isinstance(one, str) for one in found), "give a list of texts"
    else:
        odd, fix = isinstance(found, list), "give one text"
    if odd:
        raise UsageError(
            f"the setting benchsuite_{name} is {found!r}", where, f"{fix}, as {flag} takes"
        )
    return found
