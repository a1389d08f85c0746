"""How a session that goes on looks on a terminal of any size: lines of text, each with a style."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from benchsuite.harness.watching import Now, View
from benchsuite.printable import count, printable
from benchsuite.records.gpu_use import Use
from benchsuite.records.journal import Ended
from benchsuite.reporting.commands import as_typed

_CODES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2"}
_NARROW = 72
_LEAST_NAME = 12
_LEAST_LINES = 2
_FEW = 3
_GAP = "  "
OUTCOMES = ("running", "failed", "waiting", "skipped")


class Line(NamedTuple):
    """A line and how it is shown."""

    text: str
    style: str = ""

    def painted(self, width: int) -> str:
        """Return the line as a terminal takes it, no wider than it."""
        text = cut(printable(self.text), width)
        return f"\x1b[{_CODES[self.style]}m{text}\x1b[0m" if self.style else text


def lines(
    views: Sequence[View], use: Mapping[str, Use], width: int | None, height: int | None
) -> list[Line]:
    """Return what a screen shows; None for a file, which is as wide and as long as it must be.

    On a screen that is too small long lists are cut, each with the number of those left out.
    """
    each = None if height is None else max(1, (height + 1) // max(1, len(views)) - 1)
    found: list[Line] = []
    for view in views:
        found += [Line("")] * bool(found) + _session(view, use, width, each)
    return found if height is None else found[:height]


def _session(
    view: View, use: Mapping[str, Use], width: int | None, height: int | None
) -> list[Line]:
    head = [*_head(view, width)]
    running = [*_running(view, use, width)]
    failed = [Line(f"  {_why(one, view)}", "red") for one in view.failed]
    gpus = [*_apart(view, use, running)]
    groups = [*_groups(view)]
    room = None if height is None else height - len(head)
    # What runs is looked for first, but the last few of the failed are always there.
    kept = 0 if room is None or not failed else 1 + min(len(failed), _FEW)
    found = [*_some("running", running, room and room - kept)]
    found += _some("failed", failed, room and room - len(found))
    found += _some("GPUs", gpus, room and room - len(found))
    if room is None or len(found) + len(groups) <= room:
        found += groups
    return head + found


def _some(title: str, every: Sequence[Line], room: int | None) -> Iterator[Line]:
    """Yield a list under its title, or so much of it as there are lines for."""
    if not every or (room is not None and room < _LEAST_LINES):
        return
    yield Line(title, "bold")
    if room is None or len(every) < room:
        yield from every
    else:
        yield from every[: room - 2]
        yield Line(f"  and {len(every) - room + 2} more", "dim")


def _head(view: View, width: int | None) -> Iterator[Line]:
    yield Line(as_typed(["pytest", *view.plan.words]), "dim")
    counts, total = view.counts, view.counts.total()
    done = counts["passed"] + counts["cached"]
    told = [f"{done} of {count(total, 'cell')} done"]
    if counts["cached"]:
        told[0] += f" ({counts['cached']} cached)"
    told += [f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]]
    ended = total - counts["waiting"] - counts["running"]
    if width is not None:
        yield Line(_bar(ended, total, min(width, 60)), "red" if counts["failed"] else "green")
    if width is not None and width < _NARROW:
        yield from (Line(part, "bold") for part in (told[0], ", ".join(told[1:])) if part)
        yield from (Line(part) for part in _times(view))
    else:
        yield Line(", ".join(told), "bold")
        yield Line(", ".join(_times(view)))


def _bar(done: int, total: int, width: int) -> str:
    """Return a bar whose percentage is 100 only when all is done."""
    room = max(1, width - 7)
    filled = room * done // max(1, total)
    return f"[{'#' * filled}{'.' * (room - filled)}] {100 * done // max(1, total):3}%"


def _times(view: View) -> Iterator[str]:
    if view.state == "running":
        yield f"{seconds(view.elapsed)} so far"
        if view.left is not None:
            left = f"about {seconds(view.left)} left"
            yield left + (f" without {_untold(view)}" if view.untold else "")
        elif view.counts["waiting"] or view.counts["running"]:
            yield "no cell has ended that would tell how long the others take"
    elif view.state == "over":
        yield f"over after {seconds(view.elapsed)}, exit status {view.status}"
    else:
        yield f"cut off after {seconds(view.elapsed)}: its process is gone; the command resumes"


def _untold(view: View) -> str:
    return f"{count(view.untold, 'cell')} of models not seen yet"


def _running(view: View, use: Mapping[str, Use], width: int | None) -> Iterator[Line]:
    rows = [
        (now.marker.worker, _name(now.marker.nodeid, view), _where(now), seconds(now.elapsed),
         _left(now), _gpus(now.marker.gpus, use))
        for now in view.running
    ]  # fmt: skip
    for row in fitted(rows, width):
        yield Line(row, "cyan")


def fitted(rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """Yield rows as aligned columns: worker, cell, stage, elapsed, left, GPUs.

    What is too wide loses the end of its stage where that is enough; else its GPUs first, then the
    ends of the stage and of the cell's name, then the time that it has run.
    """
    rows = [[printable(text) for text in row] for row in rows]
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def excess() -> int:
        shown = [w for w in widths if w]
        return 0 if width is None else 2 + sum(shown) + len(_GAP) * (len(shown) - 1) - width

    if excess() > max(0, widths[2] - _LEAST_NAME):
        widths[5] = 0
    for column in (2, 1):
        widths[column] = max(min(widths[column], _LEAST_NAME), widths[column] - max(0, excess()))
    if excess() > 0:
        widths[3] = 0
    for row in rows:
        texts = [
            f"{cut(text, w):>{w}}" if number in (3, 4) else f"{cut(text, w):<{w}}"
            for number, (text, w) in enumerate(zip(row, widths, strict=True))
            if w
        ]
        yield f"  {_GAP.join(texts)}".rstrip()


def _where(now: Now) -> str:
    marker = now.marker
    if not marker.total:
        return marker.stage
    step = f"{marker.step} {marker.done}/{marker.total}"
    return step if marker.step.startswith(marker.stage) else f"{marker.stage}: {step}"


def _left(now: Now) -> str:
    if now.left is not None:
        return f"~{seconds(now.left)} left" if now.left else "longer than usual"
    return "" if now.step_left is None else f"step ~{seconds(now.step_left)} left"


def _gpus(uuids: Sequence[str], use: Mapping[str, Use]) -> str:
    found = [use[uuid] for uuid in uuids if uuid in use]
    if not found:
        return ""
    busy = "+".join(f"{one.busy}" for one in found)
    held, memory = (sum(getattr(one, what) for one in found) for what in ("held", "memory"))
    numbers = ",".join(str(one.number) for one in found)
    return f"GPU {numbers}: {busy} %, {held / 2**30:.1f} of {memory / 2**30:.0f} GiB"


def _apart(view: View, use: Mapping[str, Use], running: Sequence[Line]) -> Iterator[Line]:
    """Yield the GPUs by themselves, where the screen is too narrow for them beside the cells."""
    for now, line in zip(view.running, running, strict=True):
        told = _gpus(now.marker.gpus, use)
        if told and told not in line.text:
            yield Line(f"  {now.marker.worker} {told}")


def _why(one: Ended, view: View) -> str:
    """Return a failed cell and its reason, which may begin with the cell's name itself."""
    cell = one.nodeid.partition("[")[2].removesuffix("]")
    reason = one.reason.removeprefix(f"{cell}: ")
    return f"{_name(one.nodeid, view)}: {reason}" if reason else _name(one.nodeid, view)


def _groups(view: View) -> Iterator[Line]:
    if len(view.groups) < 2:
        return
    yield Line("tests", "bold")
    wide = max(len(_short(test)) for test in view.groups)
    for test, counts in view.groups.items():
        yield Line(f"  {_short(test):<{wide}}  {_told(counts)}")


def _told(counts: Counter[str]) -> str:
    parts = [f"{counts['passed'] + counts['cached']} of {counts.total()}"]
    return ", ".join([*parts, *(f"{counts[o]} {o}" for o in OUTCOMES[:2] if counts[o])])


def _name(nodeid: str, view: View) -> str:
    """Return a cell's id; with its test's name where there are several."""
    test, _, cell = nodeid.partition("[")
    cell = cell.removesuffix("]")
    if not cell:
        return _short(test)
    return cell if len(view.groups) < 2 else f"{_short(test)} {cell}"


def _short(test: str) -> str:
    return test.rpartition("::")[2].removeprefix("test_")


def seconds(number: float) -> str:
    """Return a time in two units at most: ``45 s``, ``12 min 5 s``, ``3 h 20 min``, ``2 d 4 h``."""
    whole = round(max(0.0, number))
    for (big, name), (small, below) in itertools.pairwise(_UNITS):
        if whole >= big:
            rest = whole % big // small
            return f"{whole // big} {name}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def cut(text: str, width: int) -> str:
    """Return a text no longer than ``width``; one that goes on ends in an ellipsis."""
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"
