"""The page of a run that goes on: what the terminal shows, loaded anew by the browser itself."""

import datetime
import html
import os
from collections.abc import Sequence
from pathlib import Path

from benchsuite.commands.screen import Line
from benchsuite.harness.watching import View
from benchsuite.printable import printable

_EVERY = 3

_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
pre { font: 13px/1.5 ui-monospace, monospace; overflow-x: auto }
.bold { font-weight: bold } .red { color: light-dark(#a40000, #ff8a80) }
.cyan { color: light-dark(#00586b, #7fd8ea) } .dim { color: light-dark(#555, #aaa) }
progress { width: 100%; height: 1rem }
"""


def render(views: Sequence[View], lines: Sequence[Line], report: str, *, refresh: bool) -> str:
    """Return the page, which loads itself anew as long as somebody writes it: with ``refresh``.

    There is no result on it: a comparison looked at in mid-run is a look to be paid for.
    ``report`` leads to the report that a run leaves, empty where there is none.
    """
    total = sum(view.counts.total() for view in views)
    ended = total - sum(view.counts["waiting"] + view.counts["running"] for view in views)
    again = f'<meta http-equiv="refresh" content="{_EVERY}">' if refresh else ""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    told = f"As of {now}." + (" This page loads itself anew." if refresh else "")
    over = all(view.state == "over" for view in views)
    link = f' <a href="{html.escape(report)}">The report</a>' if report and over else ""
    text = "\n".join(
        f'<span class="{line.style}">{html.escape(printable(line.text))}</span>'
        if line.text
        else ""
        for line in lines
    )
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">{again}
<title>{ended} of {total} ended</title><style>{_STYLE}</style></head>
<body><h1>{ended} of {total} ended</h1>
<progress max="{max(1, total)}" value="{ended}" aria-label="{ended} of {total} ended"></progress>
<p>{told}{link}</p>
<pre>{text}</pre></body>
</html>
"""


def link(page: Path, reports: Path) -> str:
    """Return the way from a page to the report of a folder, empty where there is none."""
    report = reports / "index.html"
    if not report.is_file():
        return ""
    return Path(os.path.relpath(report.resolve(), page.resolve().parent)).as_posix()
