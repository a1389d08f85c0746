"""The line that says where a long cell is: on a terminal, below pytest's own, and gone after."""

import os
import pty
import re
import sys
import termios

import pytest

from tests import forked
from tests.harness.shaky import CONFTEST

# Three calls: the first and the last are shown, one that comes too soon after another is not.
BODY = """
import os
import pytest

@pytest.mark.study("shaky")
def test_shaky(cell, record, progress):
    for layer in range(3):
        progress("quant " + "x" * int(os.environ.get("LONG", 0)), layer + 1, 3)
    if cell.id == "toy_a-odd-seed1":
        assert os.environ.get("FAIL") is None
    record.update(perplexity=1.5)
"""

COLUMNS = 80
FIRST = "toy_a-plain-seed1: quant  1/3"


class Screen:
    """As much of a terminal as pytest and we use; it never scrolls."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0
        self.seen: list[str] = []

    def write(self, text: str) -> None:
        for control, argument, plain in re.findall(r"\x1b\[(\d*)([A-Za-z])|([\s\S])", text):
            if plain:
                self._plain(plain)
            else:
                self._control(argument, int(control or 1))

    def _plain(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._down()
        else:
            if self.column == COLUMNS:
                self._down()
                self.column = 0
            line = self.rows[self.row]
            line.extend(" " * (self.column + 1 - len(line)))
            line[self.column] = character
            self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append([])

    def _control(self, name: str, n: int) -> None:
        if name == "A":
            self.row -= n
        elif name == "G":
            self.seen.append(self.text)
            self.column = n - 1
        elif name == "K":
            self.rows[self.row] = [] if n == 2 else self.rows[self.row][: self.column]
        else:
            assert name == "m", f"an unknown control sequence {name!r}"

    @property
    def text(self) -> str:
        return "\n".join("".join(row).rstrip() for row in self.rows)


@pytest.fixture
def terminal(pytester, monkeypatch):
    """Run the cells on a pseudo-terminal and return the screen."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_shaky=BODY)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(COLUMNS))

    def run(*args: str) -> Screen:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (50, COLUMNS))
        command = [sys.executable, "-m", "pytest", "test_shaky.py", "-p", "no:cacheprovider"]
        with open(theirs, "wb") as end:
            process = forked.start([*command, *args], pytester.path, os.environ, end, end, end)
        output = b""
        try:
            while chunk := os.read(ours, 65536):
                output += chunk
        except OSError:  # the other end is closed: Linux's way of saying that it is the end
            pass
        process.wait()
        os.close(ours)
        screen = Screen()
        screen.output = output.decode()
        screen.write(screen.output)
        return screen

    return run


@pytest.mark.parametrize("args", [(), ("--color=no",), ("-v",), ("-s",)])
def test_a_long_cell_says_where_it_is_and_leaves_no_trace(terminal, args):
    screen = terminal(*args)
    assert any(text.endswith(f"\n{FIRST}") for text in screen.seen)
    assert any(text.endswith("\ntoy_b-odd-seed2: quant  3/3") for text in screen.seen)
    assert not any("2/3" in text for text in screen.seen)
    assert "quant" not in screen.text
    assert "8 passed" in screen.text


def test_pytests_own_lines_are_as_without_progress(terminal):
    screen = terminal()
    assert re.search(r"^test_shaky\.py \.{8} +\[100%\]$", screen.text, re.MULTILINE)
    shown = [text.splitlines() for text in screen.seen if FIRST in text]
    assert shown[0][-2:] == ["test_shaky.py", FIRST]


def test_a_failed_cells_line_is_gone_too(terminal, monkeypatch):
    monkeypatch.setenv("FAIL", "1")
    screen = terminal("--tb=no")
    assert re.search(r"^test_shaky\.py \.\.F\.{5} +\[100%\]$", screen.text, re.MULTILINE)
    assert "quant" not in screen.text


def test_a_line_too_long_for_the_terminal_is_cut(terminal, monkeypatch):
    monkeypatch.setenv("LONG", "200")
    screen = terminal()
    assert any("toy_a-plain-seed1: quant xxx" in text for text in screen.seen)
    assert "quant" not in screen.text


def test_under_xdist_there_is_no_line(terminal):
    screen = terminal("-n", "2")
    assert "8 passed" in screen.text
    assert "quant" not in screen.output


def test_a_terminal_that_cannot_move_its_cursor_gets_no_line(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    screen = terminal("--color=no")
    assert "8 passed" in screen.text
    assert "quant" not in screen.output
    assert "\x1b" not in screen.output


@pytest.mark.parametrize("args", [(), ("-s",), ("--color=yes",)])
def test_nothing_is_written_where_the_output_is_no_terminal(terminal, pytester, args):
    result = pytester.runpytest_subprocess("test_shaky.py", *args)
    result.assert_outcomes(passed=8)
    assert "quant" not in result.stdout.str()
    assert "\x1b[1A" not in result.stdout.str()
