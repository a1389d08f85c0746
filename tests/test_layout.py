"""The house stays as it was built: imports go down, and no circle ties rooms or files together."""

import ast
from pathlib import Path

from benchsuite.study import names, study
from tests import layout

ROOT = Path(__file__).parents[1]


def test_imports_go_down_and_every_room_has_its_place():
    found = layout.arrows(ROOT)
    rooms = {room for pair in found for room in pair}
    assert not rooms - set(layout.RANK), "give the room a place in tests/layout.py"
    upward = {
        f"{a} -> {b}: {imports[0]}"
        for (a, b), imports in found.items()
        if layout.RANK[a] <= layout.RANK[b] and a != "__init__"
    }
    assert not upward


def test_no_circle_ties_files_or_rooms():
    found = layout.arrows(ROOT)
    graph: dict[str, set[str]] = {}
    for a, b in found:
        graph.setdefault(a, set()).add(b)
    assert not layout.circles(graph)
    assert not layout.file_circles(ROOT)


def test_a_module_has_at_most_400_lines():
    files = [
        p
        for top in ("benchsuite", "benchmarks", "fixtures", "tests")
        for p in (ROOT / top).rglob("*.py")
    ]
    lines = {str(p.relative_to(ROOT)): len(p.read_text("utf-8").splitlines()) for p in files}
    assert {name: n for name, n in lines.items() if n > 400} == {}


def test_few_files_lie_loose():
    loose = [path.name for path in (ROOT / "benchsuite").glob("*.py")]
    assert len(loose) <= 8, loose


def test_harness_records_and_reporting_know_no_study_by_name():
    """The rooms around a cell serve any study: none of them names ours."""
    studies = [path.name for path in (ROOT / "benchsuite/studies").iterdir() if path.is_dir()]
    named = [
        f"{path.relative_to(ROOT)}: {study}"
        for room in ("harness", "records", "reporting", "study")
        for path in (ROOT / "benchsuite" / room).rglob("*.py")
        for study in studies
        if f'"{study}"' in path.read_text() or f"studies.{study}" in path.read_text()
    ]
    assert not named


def test_harness_records_and_reporting_know_no_stage_or_metric_of_a_study():
    """What a study calls its steps and its numbers is read from its declaration and its records."""
    words: set[str] = set()
    for declared in map(study, names()):
        words |= {metric.name for metric in declared.metrics}
        words |= {*declared.making, *(s for p in declared.parameters.values() for s in p.tokens_of)}
        words |= {name for name, p in declared.parameters.items() if p.tokens_of}
    assert {"quant", "evaluation", "perplexity", "seq_len"} <= words
    named = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for room in ("harness", "records", "reporting")
        for path in (ROOT / "benchsuite" / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        # The option --downstream has the name of a metric.
        if isinstance(node, ast.Constant) and node.value in words - {"downstream"}
    ]
    assert not named


def test_the_numbers_see_a_circle_and_an_arrow_that_runs_up(tmp_path):
    for name, text in {
        "benchsuite/__init__.py": "",
        "benchsuite/records/__init__.py": "",
        "benchsuite/records/store.py": "from benchsuite.harness import items\n",
        "benchsuite/harness/__init__.py": "",
        "benchsuite/harness/items.py": "def f():\n    import benchsuite.records.store\n",
        "fixtures/models.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = layout.arrows(tmp_path)
    assert set(found) == {("records", "harness"), ("harness", "records")}
    assert layout.RANK["records"] < layout.RANK["harness"]
    assert layout.file_circles(tmp_path) == [
        {"benchsuite.records.store", "benchsuite.harness.items"}
    ]
