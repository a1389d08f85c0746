"""``benchsuite doctor``: what is here, what can run, and what adds the rest."""

import sys

import pytest

from benchsuite.commands import doctor
from benchsuite.commands.main import main


@pytest.fixture
def told(monkeypatch, capsys, tmp_path):
    """Return what the command prints; the hub is not asked unless a test says so."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*words):
        status = main(["doctor", "--reports-dir", str(tmp_path), "--device", "cpu", *words])
        assert status == 0
        return capsys.readouterr().out

    return run


def test_each_study_says_how_many_cells_can_run_and_why_others_cannot(told, monkeypatch):
    monkeypatch.setenv("PATH", "")
    said = told("-k", "determinism and tiny_llama_1m and (packed_gptq or llama_f16)")
    lines = said.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("studies"))
    assert lines[start].split() == [
        "studies",
        "determinism:",
        "1",
        "of",
        "2",
        "cells",
        "can",
        "run",
        "here",
    ]
    assert lines[start + 1].strip() == "1: they run under llama_server, which is not here"
    assert len(lines) == start + 2
    assert "llama_server is not here: put llama.cpp's llama-server on the PATH" in said


def test_what_is_missing_has_the_command_that_adds_it(told, monkeypatch):
    present = doctor.environment.version
    absent = {"peft", "gguf"}
    monkeypatch.setattr(
        doctor.environment, "version", lambda name: "absent" if name in absent else present(name)
    )
    said = told("-k", "determinism and tiny_llama_1m and packed_gptq")
    assert "latent lacks peft: pip install 'benchsuite[latent]'" in said
    assert "gguf lacks gguf: pip install 'benchsuite[gguf]'" in said
    assert "not asked: HF_HUB_OFFLINE" in said
    assert f"Python {sys.version.split()[0]}" in said


def test_a_hub_that_does_not_answer_is_told_with_its_reason(monkeypatch):
    monkeypatch.setattr(doctor, "hub_offline", lambda: False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    *_, said = doctor._hub()
    assert said.startswith("http://127.0.0.1:9 does not answer (")
    assert "--local NAME=PATH" in said
