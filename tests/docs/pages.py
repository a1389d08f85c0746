"""The pages of the docs, what they show, and the cells that shown commands select."""

import json
import re
import sys
from pathlib import Path

from tests import forked

ROOT = Path(__file__).parents[2]
PAGES = [
    *(
        ROOT / name
        for name in (
            "README.md",
            "CONTRIBUTING.md",
            "CHANGELOG.md",
            "SECURITY.md",
            "reports/README.md",
            ".github/PULL_REQUEST_TEMPLATE.md",
        )
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def name_of(page: Path) -> str:
    """Return a page's name for a test's id."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str | None = None) -> list[str]:
    """Return a page's code blocks: indented ones, or the fenced ones of a language."""
    text = page.read_text()
    if language is not None:
        return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return re.findall(r"(?:^ {4,}\S.*\n?)+", text, flags=re.M)


def shown_commands(page: Path) -> set[str]:
    """Return every ``pytest``, ``benchsuite`` and ``make`` command of a page."""
    prose = re.sub(r"^```.*?^```|^ {4,}[^\n]*$", "", page.read_text(), flags=re.M | re.S)
    spans = [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose)]
    lines = [line for block in blocks(page) for line in block.splitlines()]
    found = set()
    for line in [*spans, *lines]:
        command = re.sub(r"\s#.*$", "", line).strip()
        command = re.sub(r"^(\.venv/bin/)?python -m (?=pytest)|^\.venv/bin/", "", command)
        if re.match(r"(pytest|benchsuite|make)( |$)", command) and command != "benchsuite":
            found.add(command)
    return found


COLLECT = """
import contextlib, io, json, sys
import pytest
from benchsuite.commands.collecting import pytest_words
from benchsuite.harness.items import cell_of

class Selections:
    # Asks pytest's own -k and -m again and again, over one collection.
    def __init__(self, selections):
        self.selections, self.found = selections, []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config, items):
        mark = config.pluginmanager.get_plugin("mark")
        for config.option.keyword, config.option.markexpr in self.selections:
            chosen = list(items)
            mark.pytest_collection_modifyitems(chosen, config)
            cells = [cell for item in chosen if (cell := cell_of(item))]
            self.found.append([(cell.study, cell.id) for cell in cells])
        config.option.keyword = config.option.markexpr = ""

results = []
for options, selections in json.loads(sys.argv[1]):
    asked = Selections(selections)
    command = ["-p", "benchsuite.plugin", *pytest_words(options), "--collect-only", "-q"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        status = pytest.main(command, plugins=[asked])
    wrong = [out.getvalue()[-2000:]] * len(selections)
    results.append(wrong if status else asked.found)
print(json.dumps(results))
"""


def cells_of(commands: list[list[str]], project: Path) -> list[list[list[str]] | str]:
    """Return the studies and ids of the cells that each command selects, or what is wrong with it.

    Those that differ in ``-k``, ``-m``, workers and GPUs alone share one collection.
    """
    asked: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    places = []
    for words in commands:
        chosen, options = selecting(words)
        selections = asked.setdefault(options, [])
        selections.append(chosen)
        places.append((options, len(selections) - 1))
    command = [sys.executable, "-c", COLLECT, json.dumps(list(asked.items()))]
    done = forked.run(command, project, heavy=False)
    assert done.returncode == 0, done.stderr
    found = dict(zip(asked, json.loads(done.stdout.splitlines()[-1]), strict=True))
    return [found[options][n] for options, n in places]


def selecting(words: list[str]) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Return a command's ``-k`` and ``-m``, and its other options without those of the machine."""
    chosen, options, rest = {"-k": "", "-m": "", "-n": "", "--gpus-per-cell": ""}, [], iter(words)
    for word in rest:
        if word in chosen:
            chosen[word] = next(rest)
        else:
            options.append(word)
    return (chosen["-k"], chosen["-m"]), tuple(options)
