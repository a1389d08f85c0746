"""Models that a project's cells are of and never load."""


def toys(*names):
    """Return the beginning of a conftest.py: the models, and what else its studies need."""
    return f"""
from benchsuite.catalog import ModelEntry, register
from benchsuite.study import Study, identical, lower, register as register_study

pytest_plugins = ["benchsuite.fixtures.record"]
SHAPE = {{"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
         "num_attention_heads": 1}}
for name in {names!r}:
    register(ModelEntry(name, "toys/" + name, "llama", SHAPE, "float32", embedded=True))
"""
