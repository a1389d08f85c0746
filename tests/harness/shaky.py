"""A study of eight cells of toys, one of which does what a test has it do."""

from tests.conftest import read_flat

CONFTEST = """
from benchsuite.catalog import ModelEntry, register
from benchsuite.study import Study, register as register_study

pytest_plugins = ["benchsuite.fixtures.record"]
SHAPE = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
         "num_attention_heads": 1}
for name in ("toy_a", "toy_b"):
    register(ModelEntry(name, "toys/" + name, "llama", SHAPE, "float32", embedded=True))
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
