"""``benchsuite run``: pytest on the project's benchmarks, or on the packaged ones."""

from collections.abc import Sequence

import pytest

from benchsuite.commands.collecting import pytest_words


def run(arguments: Sequence[str]) -> int:
    """Measure the selected cells: run -k EXPR ...

    The same as `pytest benchmarks`; where there is no such folder, as `pytest --pyargs
    benchsuite.benchmarks`, the cells of the shipped studies. A named path counts instead.
    """
    return int(pytest.main(pytest_words(arguments)))
