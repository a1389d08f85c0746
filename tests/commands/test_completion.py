"""Half-typed words: what they may become, in real shells, without torch and without a conftest."""

import os
import pty
import select
import shutil
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from benchsuite.commands.candidates import _OF_TRAIN, candidates
from benchsuite.commands.completion import split
from benchsuite.commands.main import COMMANDS, main
from benchsuite.records.files import Owner
from benchsuite.records.journal import Journal, Plan


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["wat"], ["watch"]),
        ([], [*COMMANDS, "--help", "--version"]),
        (["list", "latent_r"], ["latent_reasoning"]),
        (["models", ""], ["get"]),
        (["models", "get", "smol"], ["smollm2_135m_q4"]),
        (["compare", "tiny_opt"], ["tiny_opt_4m"]),
        (["completion", "z"], ["zsh"]),
        (["report", "some/fold"], []),
        (["run", "-k", "tiny_opt"], ["tiny_opt_4m"]),
        (["run", "-k", "(tiny_opt"], ["(tiny_opt_4m"]),
        (["run", "-k", "tiny_opt_4m and cola_z"], ["tiny_opt_4m and cola_zero"]),
        (["run", "-k", "tiny_opt_4m "], ["tiny_opt_4m and", "tiny_opt_4m or"]),
        (["run", "-k", "rtn and not"], ["rtn and not"]),
        (["run", "-k", "there_is_no_such"], []),
        (["status", "-m", "embedded and gp"], ["embedded and gpu"]),
        (["status", "-m", "cell(mod"], ["cell(model="]),
        (["status", "-m", "cell(model=tiny_opt"], ["cell(model='tiny_opt_4m'"]),
        (["status", "-m", "cell(seed=1, study='quan"], ["cell(seed=1, study='quantizers'"]),
        (["run", "--set", "quant"], ["quantizers."]),
        (["run", "--set", "calibration_selection.quant_b"], ["calibration_selection.quant_bits="]),
        (["run", "--set", "nothing.quant_b"], []),
        (["run", "--device", "c"], ["cpu", "cuda"]),
        (["run", "--device=c"], ["--device=cpu", "--device=cuda"]),
        (["run", "--downstream", "f"], ["first"]),
        (["run", "--reports-dir", "rep"], []),
        (["run", "--local", "c4"], ["c4="]),
        (["run", "--trust-remote-code", "tiny_opt"], ["tiny_opt_4m"]),
        (["run", "--reports"], ["--reports-dir"]),
        (["plan", "--o"], ["--out"]),
        (["watch", "--o"], ["--once"]),
        (["no_such_command", "--"], []),
    ],
)  # fmt: skip
def test_what_a_word_may_become(words, expected, folder):
    assert candidates(words) == expected


def test_names_of_a_projects_own_come_from_its_last_run(folder):
    session = folder / "reports/sessions/20261127T120000Z-a"
    session.mkdir(parents=True)
    items = ("benchmarks/test_mine.py::test_mine[my_model-my_method-seed7]",)
    Journal(session, Plan(Owner.me(), "a", 0.0, (), 1, False, items))
    (folder / "conftest.py").write_text("raise SystemExit('a conftest was run')")
    assert candidates(["run", "-k", "my"]) == ["my_model", "my_method"]


@pytest.mark.parametrize(
    ("line", "words", "inside"),
    [
        ("benchsuite run ", ["benchsuite", "run", ""], False),
        ("benchsuite run -k 'a and b", ["benchsuite", "run", "-k", "a and b"], True),
        ("benchsuite -m \"cell(x='y'\"", ["benchsuite", "-m", "cell(x='y'"], False),
        ("benchsuite -k a\\ and\\ b", ["benchsuite", "-k", "a and b"], False),
        ("benchsuite  -k '' ", ["benchsuite", "-k", "", ""], False),
        ("", [""], False),
    ],
)
def test_an_unfinished_line_is_read_as_a_shell_reads_it(line, words, inside):
    assert split(line) == (words, inside)


def test_no_completion_imports_torch():
    """Of every command's options, and of every kind of name."""
    script = """
import sys
from benchsuite.commands.candidates import candidates
from benchsuite.commands.main import COMMANDS
for command in COMMANDS:
    assert "--help" in candidates([command, "--"]), command
for words in (["list", ""], ["run", "-k", ""], ["run", "-m", "cell("], ["run", "--set", "q"]):
    assert candidates(words), words
assert not {"torch", "transformers"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.stress
def test_the_options_of_train_are_those_of_its_parser():
    from benchsuite.commands.latent import _parser

    flags = {flag for action in _parser()._actions for flag in action.option_strings}
    assert set(_OF_TRAIN) == flags - {"-h"}


class Shell:
    """An interactive bash on a terminal of its own."""

    def __init__(self, folder):
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 160))
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        plain = os.environ | {"PATH": path, "TERM": "dumb", "HOME": str(folder), "PS1": "> "}
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            cwd=folder,
            env=plain,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def type(self, keys, until):
        """Type keys, and read what the terminal shows until it has a text."""
        os.write(self._ours, keys.encode())
        shown = ""
        while until not in shown:
            assert select.select([self._ours], [], [], 60)[0], f"no {until!r} in {shown!r}"
            shown += os.read(self._ours, 65536).decode(errors="replace")

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


def test_a_real_bash_completes(folder):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    shell = Shell(folder)
    try:
        shell.type("eval \"$(benchsuite completion bash)\"; PS1='rea''dy> '\n", "ready> ")
        for half, whole in (
            ("benchsuite wat", "ch "),
            ('benchsuite run -k "tiny_opt_4m and cola_z', 'ero" '),
            ("benchsuite run --device=cu", "da "),
            ("benchsuite run --set calibration_selection.quant_b", "its="),
        ):
            shell.type(f"{half}\t", f"{half}{whole}")
            shell.type("\x15", "")  # the line is thrown away
    finally:
        shell.close()


def test_a_shell_that_is_not_known_is_refused(capsys):
    assert main(["completion", "tcsh"]) == 4
    assert "choose from" in capsys.readouterr().err
    assert main(["completion"]) == 4
