"""The door by which pytest finds benchsuite wherever it is installed: it stays shut.

A project asks for the plugin in its conftest: ``pytest_plugins = ["benchsuite.plugin"]``. The
cells that ship with the package have no project around them, and open the door by their name:
``pytest --pyargs benchsuite.benchmarks``.
"""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Load the plugin, before options are read, where the package's own cells are asked for."""
    # Read, not searched for among the words: a worker of xdist is handed --pyargs as a setting.
    asked = early_config.known_args_namespace
    if asked.pyargs and any(word.startswith("benchsuite.") for word in asked.file_or_dir):
        early_config.pluginmanager.import_plugin("benchsuite.plugin")
