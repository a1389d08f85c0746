"""What goes on in a reports folder, seen from another process: nothing is written, nothing locked.

The session's journal says what it is to run and how items ended, the running markers where its
cells are. What is left is estimated by what cells of a kind took, those in the store included:
a cached cell's record says what it took.
"""

import heapq
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from benchsuite.harness.scheduling.times import Times, kind_of
from benchsuite.records.files import age
from benchsuite.records.journal import Ended, Plan, Reader, journals
from benchsuite.records.running import Marker, Running

_NEVER_BEGUN = 60.0
"""Seconds after which a journal without a plan is nobody's."""


@dataclass(frozen=True)
class Now:
    """A cell that runs: where it is, for how many seconds, and how many are left, if known.

    ``step_left`` are those of the step that it is in, by the part of it that is done.
    """

    marker: Marker
    elapsed: float
    left: float | None
    step_left: float | None


@dataclass(frozen=True)
class View:
    """A session at one moment.

    ``left`` are the seconds until the last cell ends, but for ``untold`` cells that wait: those of
    models of which none has ended yet. None where that is all of them. ``state`` is ``running``,
    ``over``, or ``cut off`` where its process died. ``groups`` counts the outcomes of each test,
    what waits and runs included; ``failed`` are the failed, the last first.
    """

    plan: Plan
    state: str
    status: int | None
    elapsed: float
    left: float | None
    untold: int
    counts: Counter[str]
    groups: dict[str, Counter[str]]
    running: list[Now]
    failed: list[Ended]


@dataclass
class Watched:
    """A session that is looked at again and again."""

    reader: Reader
    ended: dict[str, Ended] = field(default_factory=dict)
    _times: Times = field(default_factory=Times)
    _model_of: dict[str, str] = field(default_factory=dict)
    _ran: set[str] = field(default_factory=set)
    _skipped: set[str] = field(default_factory=set)

    def look(self, running: Running) -> View | None:
        """Return what is so now, or None while the journal does not yet say what is planned."""
        for one in self.reader.news():
            self._take(one)
        plan = self.reader.plan
        if plan is None:
            return None
        state, now = self._state(plan), time.time()
        cells = [] if state == "cut off" else list(self._running(plan, running, now))
        at_work = {cell.marker.nodeid for cell in cells}
        waiting = [item for item in plan.items if item not in self.ended and item not in at_work]
        groups: dict[str, Counter[str]] = {}
        for item in plan.items:
            ended = self.ended.get(item)
            outcome = "waiting" if ended is None else ended.outcome
            outcome = "running" if item in at_work else outcome
            groups.setdefault(item.partition("[")[0], Counter())[outcome] += 1
        left, untold = None, 0
        if state == "running":
            left, untold = self._left(plan, cells, waiting)
        return View(
            plan=plan,
            state=state,
            status=self.reader.status,
            elapsed=(self.reader.ended or self._last(state, now)) - plan.began,
            left=left,
            untold=untold,
            counts=sum(groups.values(), Counter()),
            groups=groups,
            running=cells,
            failed=[one for one in reversed(self.ended.values()) if one.outcome == "failed"],
        )

    def is_over(self) -> bool:
        """Say whether nothing more is to come: of the session, or of those that it begins."""
        plan = self.reader.plan
        done = plan is not None and self.reader.status is not None and not plan.goes_on
        return done or self.is_gone()

    def is_gone(self) -> bool:
        """Say whether the session's process is over; one that never said its plan soon is."""
        silent, plan = age(self.reader.path), self.reader.begin()
        return silent > _NEVER_BEGUN if plan is None else plan.owner.is_gone(silent)

    def _state(self, plan: Plan) -> str:
        if self.reader.status is not None:
            return "over"
        return "cut off" if plan.owner.is_gone(age(self.reader.path)) else "running"

    def _last(self, state: str, now: float) -> float:
        return now if state == "running" else now - age(self.reader.path)

    def _take(self, one: Ended) -> None:
        self.ended.pop(one.nodeid, None)
        self.ended[one.nodeid] = one
        kind = kind_of(one.nodeid)
        if one.outcome == "skipped":
            self._skipped.add(kind.model)
        if one.outcome not in ("passed", "cached"):
            return
        # The first cell of a model on a worker has loaded it too.
        usual = one.outcome == "cached" or self._model_of.get(one.worker) == kind.model
        self._model_of[one.worker] = kind.model
        self._times.add(kind, one.seconds, usual)
        self._ran.add(kind.model)

    def _running(self, plan: Plan, running: Running, now: float) -> Iterator[Now]:
        for marker in sorted(running.markers(), key=lambda m: (m.worker, m.started_at)):
            if marker.run != plan.run or marker.owner.is_gone(0.0):
                continue
            elapsed = max(0.0, now - datetime.fromisoformat(marker.started_at).timestamp())
            kind = kind_of(marker.nodeid)
            known = kind.model in self._ran
            left = max(0.0, self._times.expected(kind) - elapsed) if known else None
            yield Now(marker, elapsed, left, _step_left(marker, now))

    def _left(
        self, plan: Plan, cells: Sequence[Now], waiting: Sequence[str]
    ) -> tuple[float | None, int]:
        """Return when the last cell ends if each worker takes the longest that waits, and `untold`.

        Of a model whose cells were skipped alone, the others will be too: that takes no time.
        """
        kinds = Counter(map(kind_of, waiting))
        told = {kind: n for kind, n in kinds.items() if kind.model in self._ran}
        skipped = sum(n for kind, n in kinds.items() if kind.model in self._skipped - self._ran)
        untold = kinds.total() - skipped - sum(told.values())
        known = [cell.left for cell in cells if cell.left is not None]
        if (cells or waiting) and not (told or known):
            return None, untold
        free = known + [0.0] * (max(plan.workers, 1) - len(known))
        heapq.heapify(free)
        for kind in sorted(told, key=self._times.expected, reverse=True):
            for _ in range(told[kind]):
                heapq.heapreplace(free, free[0] + self._times.expected(kind))
        return max(free), untold


def _step_left(marker: Marker, now: float) -> float | None:
    if not marker.done or not marker.total:
        return None
    return max(0.0, now - marker.since) / marker.done * (marker.total - marker.done)


class Watching:
    """The sessions of a reports folder that go on, or went on when they were first seen."""

    def __init__(self, reports: Path) -> None:
        self.reports = reports
        self._running = Running(reports / "store" / "running")
        self._sessions: dict[Path, Watched] = {}
        self._over: set[Path] = set()

    def look(self) -> list[View]:
        """Return the sessions that go on, the oldest first; where none does, the last one."""
        found = journals(self.reports)
        for path in found:
            if path not in self._over:
                self._sessions.setdefault(path, Watched(Reader(path)))
        views: list[View] = []
        for path in found:
            session = self._sessions.get(path)
            if session is None:
                continue
            if views and session.is_gone():  # what it came to is of no interest any more
                del self._sessions[path]
                self._over.add(path)
            elif (view := session.look(self._running)) is not None:
                views.append(view)
        on = [view for view in views if view.state == "running"]
        return on[::-1] or views[:1]

    def goes_on(self) -> bool:
        """Say whether any session that was looked at goes on."""
        return any(not session.is_over() for session in self._sessions.values())
