"""``benchsuite run``: pytest on the project's benchmarks, or on the packaged ones."""

import os
import sys
from collections.abc import Sequence

from benchsuite.commands.collecting import pytest_words


def run(arguments: Sequence[str]) -> int:
    """Measure the selected cells, as `pytest benchmarks` does.

    Where there is no such folder it is `pytest --pyargs benchsuite.benchmarks`: the cells of the
    shipped studies. A named path counts instead.
    """
    # In this process' place: signals reach pytest, and nothing of ours is imported before it looks.
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *pytest_words(arguments)])
