"""``benchsuite watch``: a run that goes on, seen from another terminal."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn, TextIO

from benchsuite.commands import live_page, screen
from benchsuite.commands.collecting import reports_folder
from benchsuite.commands.pages import refuse_all_but_pages
from benchsuite.commands.parser import Parser
from benchsuite.errors import UsageError
from benchsuite.harness.watching import View, Watching
from benchsuite.records.files import write_whole
from benchsuite.records.gpu_use import GpuUse, Use

_EVERY = 1.0
_LONGEST_PAGE = 1000

# The other screen, which leaves what was there as it is, and no cursor on it.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _TO_END_OF_LINE, _TO_END = "\x1b[H", "\x1b[K", "\x1b[J"


def watch(arguments: Sequence[str]) -> int:
    """Show what goes on in a reports folder until the run ends: cells done, running, failed, left.

    Reads alone, from any terminal of a machine that sees the folder. Ctrl-C leaves, and the run
    goes on. Where the output is no terminal the state of this moment is printed, once. With --page
    a page for the browser is kept up to date until the run ends.
    """
    parser = Parser(watch)
    parser.add_argument(
        "--reports-dir", metavar="DIR", help="the run's reports folder; the project's without it"
    )
    parser.add_argument("--once", action="store_true", help="print the state of now and leave")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write it as a page too")
    chosen = parser.parse_args(arguments)
    reports = reports_folder() if chosen.reports_dir is None else Path(chosen.reports_dir)
    if chosen.page is not None:
        _check_page(chosen.page, reports)
    watching = Watching(reports)
    views = _first(watching)
    terminal = sys.__stdout__
    if terminal is None or not terminal.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        terminal = None
    try:
        if not chosen.once and (terminal or chosen.page):
            views = _follow(watching, views, terminal, chosen.page)
    except KeyboardInterrupt:
        return 0
    finally:
        if chosen.page is not None:
            _write_page(chosen.page, reports, watching.look() or views, refresh=False)
    if terminal is None or chosen.once:
        use = GpuUse().once() if _on_gpus(views) else {}
        for line in screen.lines(views, use, None, None):
            print(line.text)
        return 0
    # What was so at last stays on the screen that the user had.
    width, height = _size(terminal)
    _write(terminal, [line.painted(width) for line in screen.lines(views, {}, width, height - 1)])
    return 0


def _check_page(page: Path, reports: Path) -> None:
    refuse_all_but_pages(page)
    if page.resolve().is_relative_to((reports / "store").resolve()):
        raise UsageError(f"{page} lies in the store of a run", fix="name a file outside of it")


def _write_page(page: Path, reports: Path, views: Sequence[View], *, refresh: bool) -> None:
    lines = screen.lines(views, {}, None, _LONGEST_PAGE)
    report = live_page.link(page, reports)
    write_whole(
        page, live_page.render(views, lines, report, refresh=refresh).encode(), durable=False
    )


def _first(watching: Watching) -> list[View]:
    views = watching.look()
    if not views:
        there = watching.reports.is_dir()
        raise UsageError(
            "no run has begun there" if there else "there is no such folder",
            where=str(watching.reports),
            fix="name the run's folder with --reports-dir, or begin one: `benchsuite run`",
        )
    return views


def _on_gpus(views: Sequence[View]) -> bool:
    return any(now.marker.gpus for view in views for now in view.running)


def _follow(
    watching: Watching, views: list[View], terminal: TextIO | None, page: Path | None
) -> list[View]:
    """Show what goes on until nothing does; return what was so at last."""
    use = GpuUse()
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        with nullcontext() if terminal is None else _other_screen(terminal):
            while watching.goes_on():
                busy = use.latest() if _on_gpus(views) else {}
                if page is not None:
                    _write_page(page, watching.reports, views, refresh=True)
                if terminal is not None:
                    _draw(terminal, views, busy)
                time.sleep(_EVERY)
                views = watching.look() or views
    finally:
        use.close()
        signal.signal(signal.SIGTERM, before)
    return views


def _draw(terminal: TextIO, views: Sequence[View], busy: Mapping[str, Use]) -> None:
    width, height = _size(terminal)
    shown = screen.lines(views, busy, width, height - 1)
    painted = [f"{line.painted(width)}{_TO_END_OF_LINE}" for line in shown]
    _write(terminal, painted, before=_HOME, after=_TO_END)


@contextmanager
def _other_screen(terminal: TextIO) -> Iterator[None]:
    try:
        _write(terminal, [], before=_ENTER)
        yield
    finally:
        _write(terminal, [], before=_LEAVE)


def _leave(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _write(terminal: TextIO, lines: Sequence[str], before: str = "", after: str = "") -> None:
    """Write past what stands around stdout: every text is made printable before it is painted."""
    text = before + "".join(f"{line}\r\n" for line in lines) + after
    terminal.buffer.write(text.encode(terminal.encoding, "replace"))
    terminal.buffer.flush()


def _size(terminal: TextIO) -> tuple[int, int]:
    width, height = os.get_terminal_size(terminal.fileno())
    return width or 80, height or 24
