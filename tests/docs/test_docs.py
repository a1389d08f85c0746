"""The docs say what is so: commands parse, links resolve, options, studies and examples exist."""

import inspect
import json
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from benchsuite import catalog
from benchsuite.calibration.registry import SAMPLERS
from benchsuite.commands import comparing, gating, samples
from benchsuite.commands import main as cli
from benchsuite.commands.plan import own_words
from benchsuite.comparing import parse_margins
from benchsuite.harness.options import OPTIONS
from benchsuite.records.building import RecordBuilder
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.forms import flat, nested, sealed
from benchsuite.reporting.coverage import MARKS
from benchsuite.study import names, study
from benchsuite.study.cell import Cell
from benchsuite.study.table import parameter_rows
from tests import forked
from tests.docs.pages import PAGES, ROOT, blocks, cells_of, name_of, shown_commands

# Options of ours, or anybody's, that take a folder which is on the user's machine alone.
TAKE_PATHS = ("--local", "--checkpoint", "--engine-python")


COMMANDS = sorted({command for page in PAGES for command in shown_commands(page)})


def test_the_docs_show_commands_at_all():
    assert len(COMMANDS) > 25
    assert {command.split()[0] for command in COMMANDS} == {"pytest", "benchsuite", "make"}


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_every_make_target_exists(command):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M)
    wanted = [word for word in command.split()[1:] if "=" not in word]
    assert set(wanted) <= set(targets)


def of_benchmarks(command: str) -> list[str] | None:
    """Return the arguments by which a command selects cells; None if it selects none."""
    program, *words = shlex.split(command.replace(" | ", "|"))
    if program == "benchsuite":
        (names, *arguments) = words or ["list"]
        if names.startswith("-"):  # --help, --version
            return None
        assert set(names.split("|")) <= set(cli.COMMANDS), names
        if names == "plan":
            arguments = own_words(arguments)[1]
        takes_cells = set(names.split("|")) <= cli.OF_PYTEST
        selects = takes_cells and arguments[:1] and arguments[0].startswith("-")
        return arguments if selects else None
    if words[:1] == ["benchmarks"]:
        return words[1:]
    for word in words:
        if word.startswith("tests"):
            assert (ROOT / word).exists(), word
    return None


def runnable(arguments: list[str], folder: Path) -> list[str]:
    """Put a folder that is there in the place of the docs' own, and leave reports/ alone."""
    words, takes_path = [f"--reports-dir={folder}"], False
    shown = shlex.join(arguments).replace("--reports-dir ", "--reports-dir=")
    for word in shlex.split(shown):
        # Ray need not be installed, nor a plan be frozen, to know which cells a command selects.
        if word != "--lf" and not word.startswith(("--reports-dir", "--ray", "--plan=")):
            words.append(f"{word.partition('=')[0]}={folder}" if takes_path else word)
        takes_path = word in TAKE_PATHS
    return words


@pytest.mark.stress
def test_every_command_over_benchmarks_selects_cells(tmp_path, examples):
    # Those of the how-tos' own projects are run by test_howto.
    elsewhere = "how_deep|spared_w4"
    asked = [c for c in COMMANDS if not (c.startswith("make") or re.search(elsewhere, c))]
    arguments = {c: of_benchmarks(c) for c in asked}
    shown = {c: runnable(a, tmp_path) for c, a in arguments.items() if a is not None}
    own = [
        c
        for c in shown
        if re.search("rtn_bits|my_notes|longest|coarse|parrot|first_token|direct ", c)
    ]
    ours = [c for c in shown if c not in own]
    found = {}
    for some, project in ((ours, ROOT), (own, examples)):
        different = [list(words) for words in dict.fromkeys(tuple(shown[c]) for c in some)]
        cells = cells_of(different, project)
        found |= {c: cells[different.index(shown[c])] for c in some}
    wrong = {c: cells for c, cells in found.items() if not cells or isinstance(cells, str)}
    assert not wrong
    assert len(ours) > 10


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if re.match("benchsuite (compare|gate) ", c)]
)
def test_every_comparison_can_be_read(command):
    _, name, *words = shlex.split(command)
    compare = samples if "--samples" in words else comparing
    chosen = (gating if name == "gate" else compare).parsed(words)
    parse_margins(chosen.margin)
    for task in filter(None, getattr(chosen, "questions", "").split(",")):
        catalog.task(task)


# --- links, paths and options


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_in_the_text_exist(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    top = r"(?:benchsuite|benchmarks|fixtures|tests|docs)/"
    for path in re.findall(rf"`({top}[\w./]*)`", prose):
        assert (ROOT / path).exists() or "longest" in path, path


@pytest.fixture(scope="module")
def flags():
    """Every long option of pytest with its plugins, and of the project's own scripts."""
    command = [sys.executable, "-m", "pytest", "--help", "-p", "no:cacheprovider"]
    text = forked.run(command, ROOT, heavy=False).stdout
    for folder in ("benchsuite", "benchmarks", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            text += " ".join(re.findall(r"[\"']--[a-z-]+[\"']", path.read_text()))
    return set(re.findall(r"--[a-z][a-z-]+", text))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_in_the_text_exist(page, flags):
    # Commands that are not ours.
    others = ("pip", "docker ", "hf ", "ruff", "--constraint", "log_samples")
    others += ("#SBATCH", "srun", "ray ", "role=", "hostname", "`--no-kill`", "`--num-cpus`")
    for line in page.read_text().splitlines():
        if not any(program in line for program in others):
            assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)) <= flags, line


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.flag)
def test_every_option_is_on_the_page_about_running(option):
    assert f"| `{option.flag}" in (ROOT / "docs/running.md").read_text()


# --- what the pages say of the code


def test_the_architecture_shows_the_cell_that_runs():
    (shown,) = blocks(ROOT / "docs/architecture.md", "python")
    assert shown in (ROOT / "benchmarks/test_calibration_selection.py").read_text()


def test_the_readme_makes_what_the_makefile_makes():
    makefile = (ROOT / "Makefile").read_text()
    readme = (ROOT / "README.md").read_text()
    without_make = readme.partition("### Without make")[2].partition("\n## ")[0]
    # The command of `make real` is long: the page says how to have it printed.
    for recipe in re.findall(r"^\t\$\(BIN\)/(python -m pytest .*[^\\\n])$", makefile, flags=re.M):
        assert f".venv/bin/{recipe}" in without_make
    assert "With `-n`, `make real` prints" in without_make
    for part in ("PIP_BUILD_CONSTRAINT=build-constraints.txt", "--constraint constraints.txt"):
        assert part in makefile
        assert part in without_make
    (extras,) = re.findall(r"^EXTRAS \?= (.*)$", makefile, flags=re.M)
    assert f"--editable '.[{extras}]'" in without_make


def test_every_study_has_a_page_and_a_part_of_the_readme():
    shipped = [name for name in names() if (ROOT / f"benchsuite/studies/{name}").exists()]
    assert "calibration_selection" in shipped
    for name in shipped:
        assert (ROOT / f"docs/studies/{name}.md").exists(), name
        assert f"| [{name}](docs/studies/{name}.md) |" in (ROOT / "README.md").read_text(), name


def test_the_coverage_page_names_what_there_is():
    page = (ROOT / "docs/coverage.md").read_text()
    parts = re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", page, flags=re.M | re.S)
    assert {name for name, _ in parts} <= set(names())
    for name, table in parts:
        head, _, *rows = [line.strip("| ").split(" | ") for line in table.strip().splitlines()]
        declared = study(name).axes
        assert set(head[1:]) <= set(declared["model"]), name
        assert {row[0] for row in rows} <= set(declared["method"]), name
        marks = {re.sub(r" \(\d+\)$", "", mark) for row in rows for mark in row[1:]}
        assert marks <= set(MARKS.values()), name


@pytest.mark.parametrize("name", [name for name in names() if name != "latent_training"])
def test_a_study_page_has_the_table_of_parameters_that_list_prints(name):
    table = "".join(
        f"| `{row[0]}` | {' | '.join(row[1:])} |\n" for row in parameter_rows(study(name))
    )
    assert table in (ROOT / f"docs/studies/{name}.md").read_text()


def test_the_study_page_states_the_declared_grid():
    page = (ROOT / "docs/studies/calibration_selection.md").read_text()
    declared = study("calibration_selection")
    for values in declared.axes.values():
        assert all(f"`{value}`" in page for value in values)
    assert f"{len(list(declared.cells()))} cells" in page
    assert ", ".join(map(str, declared.seeds)) in page
    for claim in declared.claims:
        assert claim.method in page.partition("## Claims")[2]


def test_every_sampler_is_in_the_table():
    table = (ROOT / "docs/samplers.md").read_text()
    assert [name for name in SAMPLERS if f"| `{name}` |" not in table] == []


def test_every_key_of_a_record_is_explained():
    cell = Cell("toy", {"model": "tiny_llama_1m", "method": "a", "seed": 1}, {}, {})
    builder = RecordBuilder(cell, Fingerprint("i", "c", "e"), {})
    page = (ROOT / "docs/records.md").read_text()
    record = builder.finish("passed")
    for key in {*sealed(flat(record)), *nested(record), "weights_digest"}:
        assert f"`{key}`" in page, key


def test_the_changelog_begins_with_the_version_of_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    version = settings["project"]["version"]
    (newest, *_) = re.findall(r"^## (\S+?),", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert newest == version
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()


def test_the_citation_names_what_it_must():
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year"} <= set(reference)


# --- the project that docs/adding.md writes


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """A project made of the code blocks of docs/adding.md, each named by its first line."""
    folder = tmp_path_factory.mktemp("own_project")
    for block in blocks(ROOT / "docs/adding.md", "python"):
        name = re.match(r"# ([\w/]+\.py)\n", block)
        assert name, "a block's first line names its file"
        path = folder / name[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(block)
    (folder / "my_project/__init__.py").touch()
    for path in (ROOT / "benchmarks").glob("test_*.py"):
        (folder / "benchmarks" / path.name).write_text(path.read_text())
    return folder


OWN = {
    "longest": "longest",
    "bits_4": "bits_4",
    "coarse": "coarse",
    "parrot": "parrot",
    "closed_book-first_token": "fp16__closed_book__first_token",
    "direct-problems": "equations__direct__problems",
}


# They load models, engines and questions; that they are cells is tested above.
@pytest.mark.stress
@pytest.mark.parametrize("own", [("longest", "bits_4"), tuple(OWN)[2:]])
def test_the_project_in_the_docs_runs(own, examples, tmp_path):
    paragraphs = [part for page in PAGES for part in page.read_text().split("\n\n")]
    for split, part in (("train", paragraphs[::2]), ("test", paragraphs[1::2])):
        rows = [json.dumps({"text": paragraph}) for paragraph in part]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    settings = [
        "rtn_bits.evaluation_corpus=my_notes",
        "calibration_selection.evaluation_corpus=my_notes",
        "calibration_selection.calibration_corpus=my_notes",
        "calibration_selection.evaluation_tokens=4096",
        "calibration_selection.n_calibration_samples=4",
        "quantizers.evaluation_tokens=1024",
        "quantizers.pool_documents=64",
        "quantizers.n_calibration_samples=4",
        "quantizers.seq_len=64",
        "quantizers.n_questions=4",
        "quantizers.maths_new_tokens=8",
        "uncertainty.samples=20",
        "latent_reasoning.max_steps=1",
        "latent_reasoning.n_items=20",
        "determinism.repetitions=2",
        "determinism.others=(1,)",
        "determinism.served_prompts=0",
    ]
    options = ["--seeds=1", f"--local=my_notes={tmp_path}", *(f"--set={s}" for s in settings)]
    chosen = ["benchmarks", "-k", f"tiny_llama_1m and ({' or '.join(own)})"]
    options += ["-p", "no:cacheprovider", f"--reports-dir={tmp_path}/reports"]
    command = [sys.executable, "-m", "pytest", *chosen, *options]
    done = forked.run(command, examples)
    assert done.returncode == 0, done.stdout + done.stderr
    raw = {path.name.split("__seed")[0] for path in (tmp_path / "reports").glob("*/raw_runs/*")}
    assert raw == {f"tiny_llama_1m__{OWN[name]}" for name in own}
    page = (tmp_path / "reports/index.html").read_text()
    assert ("size_bytes (MB)" in page) == ("bits_4" in own)
    assert ("selection_time_sec (s)" in page) == ("longest" in own)


def test_the_catalogue_names_in_the_docs_exist(examples):
    text = "\n".join(page.read_text() for page in PAGES)
    own = set(re.findall(r"(?:Model|Corpus|Task)Entry\(\"(\w+)\"", text))
    known = {*catalog.MODELS, *catalog.CORPORA, *catalog.TASKS, *own, "NAME"}
    assert set(re.findall(r"--(?:local|checkpoint) (\w+)=", text)) <= known
    assert inspect.getdoc(catalog.register)
