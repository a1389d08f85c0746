"""The page as a browser shows it: at two widths, light and dark, and on paper."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchsuite.reporting import render_page
from tests.reporting.factory import drawn, grid, record, results

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
PDF_TO_TEXT = next(filter(None, map(shutil.which, ("mutool", "pdftotext"))), None)
CSS = Path(__file__).parents[2] / "benchsuite/reporting/templates/report.css"

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
LONG = "a_name_that_nobody_can_break_" * 8

# A frame as wide as the screen applies the page's media queries, and its parent can measure it.
FRAME = """<!doctype html><body style="margin:0">
<iframe src="index.html" style="border:0;width:{width}px;height:900px"></iframe>
<script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument;
  page.querySelectorAll("details").forEach(d => d.open = {opened});
  document.title = "width " + page.documentElement.scrollWidth;
}});
</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report with everything that a page can hold, under names as long as they get."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "calibration_selection").mkdir()
    wide = Path("calibration_selection/wide.csv")
    head = ",".join(["model", *(f"a_long_column_{n}" for n in range(20))])
    rows = [",".join([LONG, *(f"{n / 7 * 10**n}" for n in range(20))]) for _ in range(3)]
    (folder / wide).write_text("\n".join([head, *rows]))
    plain = grid("tiny_llama_1m", "llama2_7b")
    changed = grid("opt_6_7b", settings={"quant_bits": 3, "evaluation_tokens": 16384})
    rehearsed = grid("mistral_7b", methods=["random"])
    records = drawn(plain) | drawn(changed)
    records |= drawn(rehearsed, change=lambda cell: {"weights": "random"})
    lost = plain[0]
    del records[lost.id]
    failure = record(lost, failure=("quant", f"out of memory in {LONG}"))
    made = results(
        [*plain, *changed, *rehearsed],
        records,
        failed={lost.id: failure},
        files=[wide, Path(f"calibration_selection/{LONG}.json")],
    )
    stand_in = results(plain, drawn(plain, change=lambda cell: {"stand_in": f"not {LONG}"}))
    (folder / "index.html").write_text(render_page([made, stand_in], folder=folder))
    return folder


def chromium(folder, *arguments):
    """Run Chromium once and return what it printed and what it complained of."""
    options = ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--enable-logging=stderr"]
    with_profile = [*options, f"--user-data-dir={folder / 'profile'}"]
    command = [CHROMIUM, *with_profile, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("opened", ["true", "false"])
def test_the_page_is_never_wider_than_the_screen(folder, tmp_path, width, opened):
    shutil.copytree(folder, tmp_path / "report")
    frame = tmp_path / "report/frame.html"
    frame.write_text(FRAME.format(width=width, opened=opened))

    shown = chromium(tmp_path, "--allow-file-access-from-files", "--dump-dom", f"file://{frame}")

    assert re.search(r"<title>width (\d+)</title>", shown.stdout)[1] == str(width)
    assert "CONSOLE" not in shown.stderr


@needs_chromium
@pytest.mark.skipif(PDF_TO_TEXT is None, reason="needs mutool or pdftotext")
def test_paper_shows_what_the_screen_folds(folder, tmp_path):
    paper = tmp_path / "page.pdf"
    chromium(tmp_path, f"--print-to-pdf={paper}", f"file://{folder / 'index.html'}")
    draw = ["draw", "-q", "-F", "txt"] if "mutool" in PDF_TO_TEXT else []
    out = ["-"] if not draw else []
    command = [PDF_TO_TEXT, *draw, str(paper), *out]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = re.sub(r"\s+", " ", told)

    assert "One value of weights_sha256 over 5 seeds" in words
    assert "Records behind these numbers" in words
    assert words.count("peak memory") >= 3  # the last column of each table of times


def luminance(colour):
    """Return the relative luminance of #rgb or #rrggbb as WCAG 2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """Return the contrast ratio of two colours, 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_and_dots_stand_out(scheme):
    light, dark, paper = re.findall(r":root\{([^}]*)\}", CSS.read_text())
    told = light + {"light": "", "dark": ";" + dark, "print": ";" + paper}[scheme]
    colours = dict(re.findall(r"--(\w+):(#\w+)", told))

    texts = [(ink, ground) for ink in ("ink", "soft", "accent") for ground in ("bg", "card")]
    pills = [(name, f"{name}bg") for name in ("ok", "bad", "mid", "no")]
    for ink, ground in [*texts, *pills, ("mid", "bg")]:
        assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["dot"], colours["card"]) >= 3
