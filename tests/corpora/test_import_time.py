import subprocess
import sys

HEAVY = ("torch", "numpy", "pandas", "pyarrow", "transformers", "datasets", "sklearn", "scipy")


def _imported(code: str) -> set[str]:
    code += f"\nimport sys; print(*[name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_rooms_import_nothing_heavy():
    code = "import benchsuite.corpora, benchsuite.calibration, benchsuite.calibration.registry"
    assert _imported(code) == set()


def test_digests_at_collection_import_nothing_heavy(snapshot):
    code = f"""
from benchsuite.catalog import Sources
from benchsuite.corpora import task_digest, text_digest
text_digest("embedded_text", "train")
text_digest("wikitext2", "train", Sources(local={{"wikitext2": {str(snapshot)!r}}}))
text_digest("wikitext2", "train")
task_digest("closed_book", "test")
"""
    assert _imported(code) == set()
