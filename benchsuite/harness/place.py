"""The words by which pytest finds the cells: the user's own, the project's, or the package's."""

from pathlib import Path

import pytest

PACKAGED = ("--pyargs", "benchsuite.benchmarks")


def usual_words() -> tuple[str, ...]:
    """Return the words for this folder: its own benchmarks, or those that ship with the package."""
    return ("benchmarks",) if Path("benchmarks").is_dir() else PACKAGED


def given_words(config: pytest.Config) -> tuple[str, ...]:
    """Return the files, folders or packages that the user named; none if pytest looked itself."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return ()
    files = dict.fromkeys(word.partition("::")[0] for word in config.args)
    return ("--pyargs", *files) if config.option.pyargs else tuple(files)
