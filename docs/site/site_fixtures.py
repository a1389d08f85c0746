"""The fixtures as a page, from their source: what each is, returns and asks for."""

import ast
from collections.abc import Iterator

from site_links import ROOT

_CELL = """## `cell`

*the [`Cell`](api/benchsuite.study.md#cell) that a test marked `study(...)` runs, from the plugin*

`cell.model`, `cell.method`, `cell.seed`, and `cell["name"]` for any axis or parameter; `cell.id` is
what `-k` matches."""
# What `Any` stands for where naming the class would import torch with every project's conftest.
RETURNS = {
    "model": "`benchsuite.models.Lease`, or a checkpoint with the same `model`, `tokenizer`, "
    "`entry`, `digest` and `weights`",
    "original": "`benchsuite.models.Lease`",
    "model_pool": "`benchsuite.models.ModelPool`",
    "lease": "a function of a catalogue name to a `benchsuite.models.Lease`",
    "evaluation_tokens": "a tensor, int64 [n_tokens], on the cell's device",
    "features": "a cache whose `get(key, build)` returns arrays and the seconds of their one build",
    "calibrate": "a function of a method and a seed to a tensor, int64 [n_samples, seq_len]",
    "question_sets": "a list of three `benchsuite.evaluation.answers.QuestionSet`",
    "questions": "a function of a network to a `benchsuite.evaluation.answers.Answers`",
    "original_answers": "a function without arguments to an array, bool [questions]",
    "latency": "a function of a network and a prompt, int64 [n_tokens], to the record's values",
    "served_latency": "a function of a network and a prompt, int64 [n_tokens], to the record's "
    "values",
    "downstream": "a function of a lease to the record's object",
    "artefact": "a function of a key and of `build(folder)` to an `Artefact`: `path`, `seconds`",
    "at_precision": "a function without arguments to the network at the cell's precision",
    "answers": "what `test()` and `demonstrations()` return: a list of "
    "`benchsuite.evaluation.uncertainty.Asked` each",
    "relevances": "a dictionary by the name of a similarity",
    "tools": "`benchsuite.evaluation.uncertainty.Tools`",
    "judge": "a function that grades answers, or None",
    "save_model": "a function of a lease and a `benchsuite.quantizers.QuantizationResult`, or None",
    "training_sets": "a dictionary that holds one training set",
}
_OF_PYTEST = frozenset(("pytestconfig", "request", "tmp_path"))


def fixtures() -> Iterator[tuple[str, str, str, ast.FunctionDef]]:
    """Yield each fixture's file, name, scope and definition."""
    for path in sorted((ROOT / "fixtures").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if ast.unparse(mark).partition("(")[0] == "pytest.fixture":
                    given = {
                        k.arg: ast.literal_eval(k.value) for k in getattr(mark, "keywords", [])
                    }
                    name, scope = given.get("name", node.name), given.get("scope", "function")
                    yield path.stem, name, scope, node


def fixtures_page() -> str:
    """Return the page of all fixtures, by the file that they are in."""
    parts = [
        "# Fixtures",
        "*This page is made from the code at every build.*",
        "A test asks for a fixture by naming it as an argument. A project loads them all with "
        '`pytest_plugins = ["benchsuite.plugin"]` in its root `conftest.py`. '
        "`pytest --fixtures -v benchmarks` prints the same with pytest's own.",
        _CELL,
    ]
    for file, name, scope, node in fixtures():
        kind = "" if scope == "function" else f", once a {scope}"
        asked = [a.arg for a in node.args.args if a.arg not in _OF_PYTEST]
        parts += [
            f"## `{name}`",
            f"*fixture of `fixtures/{file}.py`{kind}*",
            ast.get_docstring(node) or "",
            f"**Returns** {_returned(name, node)}.",
        ]
        if asked:
            parts.append(f"Uses {', '.join(f'`{one}`' for one in asked)}.")
    return "\n\n".join(parts) + "\n"


def _returned(name: str, node: ast.FunctionDef) -> str:
    if name in RETURNS:
        return RETURNS[name]
    kind = ast.unparse(node.returns) if node.returns else "None"
    if kind.startswith("Iterator["):  # what it yields is what a test gets
        kind = kind.removeprefix("Iterator[").removesuffix("]")
    return f"`{kind}`"
