"""The peers' benchmark runs: what it prints on a GPU is measured by the code tried here."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks/speed"
SCRIPT = FOLDER / "peers_cuda.py"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("peers_cuda")
    for name in [name for name in sys.modules if name.startswith("peers_")]:
        monkeypatch.delitem(sys.modules, name)


def told(script, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["peers_cuda.py", *arguments])
    return script.parsed()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "GPTQ/our"], "no row 'GPTQ/our': there are 'limits/limit', 'GPTQ/ours'"),
        (["--local", "gsm8k"], "--local gsm8k: write it as TASK=PATH"),
        (["--gguf", "nowhere.gguf"], "--gguf nowhere.gguf: there is no such file"),
    ],
)
def test_a_mistyped_argument_is_refused(script, monkeypatch, capsys, arguments, said):
    with pytest.raises(SystemExit):
        told(script, monkeypatch, *arguments)
    assert said in capsys.readouterr().err


def test_a_library_that_is_not_there_is_named_with_its_command(script, tmp_path, monkeypatch):
    asked = {"timeout": 60}
    # An interpreter without site packages has none of the libraries.
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    launcher = tmp_path / "start.py"
    launcher.write_text(
        f"import runpy, sys\nsys.path.insert(0, {str(FOLDER)!r})\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    monkeypatch.setattr(script, "__file__", str(launcher))
    peers = {peer.name: peer for peer in script.PEERS}
    got = script.outcome(peers["answers/lm-eval vllm"], asked, str(bare), tmp_path)
    assert got == {"why": "missing: there is no lm_eval here; pip install vllm"}


def test_the_tables_say_how_many_times_ours_and_how_much_is_equal(script, capsys):
    layer = {"first": 0.5, "peak": 1.0, "error": 0.02, "whole": 8.0}
    found = {
        ("GPTQ", "ours"): {**layer, "inner": 0.25},
        ("GPTQ", "gptqmodel"): {**layer, "inner": 1.0},
        ("HQQ", "hqq"): {"why": "missing: there is no hqq here; pip install hqq"},
        ("answers", "ours"): {
            "ARC": {"seconds": 0.5, "said": [0, 3], "limit": 0.1, "tokens": 9},
        },
        ("answers", "lm-eval hf"): {"ARC": {"seconds": 1.0, "said": [0, 2]}},
    }
    script.quantizing_table(found, {"GPTQ": 0.2})
    script.answering_table(found, {"items": {"ARC": ["one", "two"]}})
    out = capsys.readouterr().out
    assert "| GPTQ | limit | 0.200 |" in out
    assert "| GPTQ | gptqmodel | 1.000 | 4.00 | 0.50 | 8.0 | 1.0 | 0.0200 |" in out
    assert "| HQQ | hqq | missing: there is no hqq here; pip install hqq |" in out
    assert "| ARC | lm-eval hf | 2.0 | 2.00 | 1.00 | 1 of 2 |" in out
    assert "| ARC | limit | 20 | | 0.10 | 9 tokens said or scored |" in out


@pytest.mark.stress
def test_it_runs_and_all_who_answer_say_the_same(tmp_path):
    pytest.importorskip("lm_eval")
    pytest.importorskip("hqq")
    rows = [
        "limits/limit",
        "GPTQ/ours",
        "HQQ/ours",
        "HQQ/hqq",
        "answers/ours",
        "answers/lm-eval hf",
    ]
    command = [sys.executable, str(SCRIPT), "--small", "--out", str(tmp_path / "found.json")]
    subprocess.run([*command, "--only", *rows], check=True, timeout=600)
    kept = json.loads((tmp_path / "found.json").read_text())
    assert list(kept["rows"]) == rows[1:]
    assert set(kept["limits"]) >= {"GPTQ", "SignRound", "HQQ"}
    errors = [kept["rows"][name]["error"] for name in ("HQQ/ours", "HQQ/hqq")]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    for question in ("ARC", "GSM8K"):
        ours, theirs = (kept["rows"][f"answers/{who}"][question] for who in ("ours", "lm-eval hf"))
        assert ours["said"] == theirs["said"]
        assert ours["tokens"] > 0
