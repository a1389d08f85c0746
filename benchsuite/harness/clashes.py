"""Another plugin's option of the same name, said in one paragraph, whichever comes first."""

import argparse
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pluggy
import pytest

from benchsuite.errors import BenchsuiteError


class Clashes:
    """Waits for a plugin that is loaded later and defines one of ``flags`` too."""

    def __init__(self, manager: pytest.PytestPluginManager, flags: Collection[str]) -> None:
        self._flags = flags
        self._stop_watching = manager.add_hookcall_monitoring(_before, self._after)

    def pytest_configure(self, config: pytest.Config) -> None:
        """Stop watching: all options are defined."""
        if not config.option.debug:  # which watches all calls too, from later on
            self._stop_watching()

    def _after(
        self,
        outcome: pluggy.Result[Any],
        name: str,
        implementations: Sequence[pluggy.HookImpl],
        arguments: Mapping[str, object],
    ) -> None:
        error = outcome.exception
        if name != "pytest_addoption" or not isinstance(error, argparse.ArgumentError | ValueError):
            return
        flag = next((flag for flag in self._flags if _names(str(error), flag)), None)
        if flag is not None:
            outcome.force_exception(defined_twice(flag, [i.plugin for i in implementations]))


def defined_twice(flag: str, plugins: Iterable[Any]) -> pytest.UsageError:
    """Return the error for an option of ours that one of ``plugins`` defines too."""
    others = [
        str(path)
        for plugin in plugins
        if hasattr(plugin, "pytest_addoption")
        and (path := Path(getattr(plugin, "__file__", None) or "")).is_file()
        and f'"{flag}"' in path.read_text(errors="replace").replace("'", '"')
    ]
    error = BenchsuiteError(
        f"the option {flag} is defined by benchsuite and by another plugin",
        where=", ".join(others),
        fix="give that one another name, or keep the tests that need it in a project of their own, "
        "whose conftest.py does not name benchsuite.plugin",
    )
    return pytest.UsageError(str(error))


def _names(said: str, flag: str) -> bool:
    return flag in said.replace(",", " ").replace("'", " ").replace(":", " ").split()


def _before(*call: object) -> None:
    """Do nothing ahead of a call."""
