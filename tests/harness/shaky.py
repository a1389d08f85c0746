"""A study of eight cells of toys, one of which does what a test has it do."""

from tests.conftest import read_flat
from tests.harness.toys import toys

CONFTEST = toys("toy_a", "toy_b")
CONFTEST += """
axes = {"model": ("toy_a", "toy_b"), "method": ("plain", "odd")}
register_study(Study("shaky", "?", axes, (1, 2), reads={"model": ""}))
"""

BODY = '''
import os
import pytest
from benchsuite.errors import BenchsuiteError, CellCannotRun

@pytest.mark.study("shaky")
def test_shaky(cell, record):
    """One cell."""
    with record.stage("quant"):
        record.update(perplexity=1.5)
        if cell.id == os.environ.get("ODD", "toy_a-odd-seed2"):
            {mischief}
'''


def stored(pytester, pattern):
    folder = pytester.path / "reports/store/records"
    return [read_flat(path) for path in sorted(folder.glob(pattern))]
