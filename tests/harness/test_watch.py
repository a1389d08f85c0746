"""``benchsuite watch``: a run seen from another terminal, which learns nothing of being seen."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios

import pytest

from benchsuite.commands.main import main
from tests.harness.gated import let_go

CELL = "toy_a-plain-seed2"
ENTERED, LEFT = "\x1b[?1049h", "\x1b[?25h\x1b[?1049l"


@pytest.fixture
def watch(pytester, capsys, monkeypatch):
    """Return what ``benchsuite watch`` prints where its output is no terminal."""
    monkeypatch.chdir(pytester.path)

    def run(*words: str) -> str:
        assert main(["watch", *words]) == 0
        return capsys.readouterr().out

    return run


def heed_ctrl_c():
    """Undo what a shell does to the programs that it starts in the background, these tests too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Terminal:
    """The command on a pseudo-terminal, in a process of its own."""

    def __init__(self, folder, *words, columns=100, rows=30):
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (rows, columns))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchsuite", "watch", *words],
            cwd=folder,
            env=os.environ | {"TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=heed_ctrl_c,
        )
        os.close(theirs)
        self.shown = ""

    def until(self, text):
        while text not in self.shown and self._read():
            pass
        assert text in self.shown

    def end(self):
        """Wait for its end and return its status; what it showed is in ``shown``."""
        while self._read():
            pass
        os.close(self._ours)
        return self.process.wait()

    def _read(self):
        ready, _, _ = select.select([self._ours], [], [], 60)
        assert ready, f"it says nothing more: {self.shown}"
        try:
            chunk = os.read(self._ours, 65536).decode()
        except OSError:  # the other end is closed: Linux's way of saying that it is the end
            return False
        self.shown += chunk
        return bool(chunk)


def files_of(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


def test_a_run_is_seen_from_elsewhere_and_nothing_is_written(gated, pytester, watch):
    run = gated("-k", "toy_a or toy_b")
    before = files_of(pytester.path / "reports")
    said = watch()
    assert files_of(pytester.path / "reports") == before
    assert (
        'pytest test_shaky.py -k "toy_a or toy_b"\n1 of 8 cells done, 1 running, 6 waiting\n'
        in said
    )
    assert re.search(rf"^  {CELL}  quant +\d+ s", said, re.MULTILINE)
    assert re.search(r"so far, about \d+ s left without 4 cells of models not seen yet", said)
    let_go(pytester)
    run.communicate()
    assert "8 of 8 cells done\nover after" in (said := watch())
    assert "exit status 0" in said


@pytest.mark.stress
def test_workers_are_told_apart_and_a_killed_run_is_called_cut_off(gated, pytester, watch):
    run = gated("-n", "2")
    assert re.search(rf"^  gw[01]  {CELL} ", watch("--once"), re.MULTILINE)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert "cut off after" in (said := watch())
    assert "running" not in said


def test_on_a_terminal_it_follows_the_run_and_ends_with_it(gated, pytester):
    run = gated()
    terminal = Terminal(pytester.path, "--page=live.html")
    terminal.until(CELL)
    page = pytester.path / "live.html"
    assert "<title>1 of 8 ended</title>" in (shown := page.read_text())
    assert '<meta http-equiv="refresh"' in shown
    assert "report" not in shown.partition("<body>")[2]
    let_go(pytester)
    run.communicate()
    assert terminal.end() == 0
    assert "<title>8 of 8 ended</title>" in (shown := page.read_text())
    assert "refresh" not in shown
    assert '<a href="reports/index.html">The report</a>' in shown
    assert terminal.shown.startswith(ENTERED)
    _, _, after = terminal.shown.partition(LEFT)
    assert "8 of 8 cells done" in after
    assert "100%" in after


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.stress)]
)
def test_ctrl_c_leaves_it_quietly_and_the_run_goes_on(gated, pytester, number):
    run = gated()
    terminal = Terminal(pytester.path, "--page", "live.html", columns=40, rows=8)
    terminal.until("1 of 8")
    assert "refresh" in (pytester.path / "live.html").read_text()
    terminal.process.send_signal(number)
    assert terminal.end() == 0
    assert terminal.shown.endswith(LEFT)
    assert "refresh" not in (pytester.path / "live.html").read_text()
    let_go(pytester)
    run.communicate()
    assert run.returncode == 0


FAILING = """
import pytest
from benchsuite.errors import BenchsuiteError, CellCannotRun

@pytest.mark.study("shaky")
def test_shaky(cell, record):
    if cell.id == "toy_a-plain-seed1":
        raise BenchsuiteError("the corpus \\x1b[2J is empty", "wiki.txt", "give another")
    if cell.model == "toy_b":
        raise CellCannotRun("there is no GPU")
    record.update(perplexity=1.5)
"""


def test_what_failed_is_named_with_its_reason_and_cached_cells_are_told(gated, pytester, watch):
    pytester.makepyfile(test_shaky=FAILING)
    pytester.runpytest_subprocess("test_shaky.py")
    pytester.runpytest_subprocess("test_shaky.py", "-n", "1")
    said = watch()
    assert "3 of 8 cells done (3 cached), 1 failed, 4 skipped" in said
    assert "\n  toy_a-plain-seed1: the corpus" in said
    assert "\x1b" not in said


def test_a_folder_that_no_run_has_seen_is_refused(pytester, capsys, monkeypatch):
    monkeypatch.chdir(pytester.path)
    (pytester.path / "empty").mkdir()
    for words, told in (((), "there is no such folder"), (("--reports-dir=empty",), "no run")):
        assert main(["watch", *words]) == 4
        assert told in capsys.readouterr().err
    for page, told in (("empty", "is a folder"), ("empty/store/x.html", "in the store")):
        assert main(["watch", "--reports-dir=empty", "--page", page]) == 4
        assert told in capsys.readouterr().err
    assert [path.name for path in pytester.path.rglob("*")] == ["empty"]


def test_the_reports_folder_is_the_one_that_the_project_sets(pytester, capsys, monkeypatch):
    monkeypatch.chdir(pytester.path)
    pytester.makeini("[pytest]\nbenchsuite_reports_dir = elsewhere")
    assert main(["watch"]) == 4
    assert f"{pytester.path / 'elsewhere'}" in capsys.readouterr().err
