"""A table as LaTeX, Markdown and CSV."""

import csv
import io
import re
import string
from collections.abc import Sequence

from benchsuite.printable import printable
from benchsuite.reporting.exporting.tables import Table
from benchsuite.reporting.latex import latex_escape

# Points: a line of an article's text, and at the size of the tables a letter and a column's gap.
_LINE, _LETTER, _GAP = 345, 3.8, 6


def to_latex(table: Table) -> str:
    r"""Return a table that needs ``\usepackage{booktabs,longtable}``, with caption and label.

    Sentences go over pages, as a longtable. Where a text stands in the place of a number, a letter
    stands for it, which a line below the table explains.
    """
    marks = _marks(table)
    told = latex_escape(_sentences(table.caption))
    caption = [rf"\caption{{{told}}}", rf"\label{{{label(table)}}}"]
    rows = [
        [_cell(table, marks, i, j, text) for j, text in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    heads = list(map(latex_escape, table.heads))
    lines = (_long if table.prose else _float)(table, caption, heads, rows)
    notes = [f"$^{letter}$ {latex_escape(text)}" for text, letter in marks.items()]
    below = [r"\par\smallskip\noindent " + r"\quad ".join(notes)] if notes else []
    return "\n".join([*lines[:-1], *below, lines[-1], ""])


def _float(table: Table, caption: list[str], heads: list[str], rows: list[list[str]]) -> list[str]:
    """Return a floating table; one that is wider than the text goes on below, under its names."""
    parts = []
    for columns in _fitting(table):
        shown = [[line[j] for j in columns] for line in (heads, *rows)]
        head, *body = (" & ".join(line) + r" \\" for line in shown)
        inside = (r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}")
        begin = rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}"
        parts.append("\n".join((begin, *inside)))
    return [
        r"\begin{table}",
        r"\centering",
        *caption,
        r"\medskip",
        r"\scriptsize\setlength{\tabcolsep}{3pt}",
        "\n\\par\\medskip\n".join(parts),
        r"\end{table}",
    ]


def _fitting(table: Table) -> list[list[int]]:
    """Return columns that fit a line of an article together, the first of all in each part."""
    widths = [
        max(2 if text in table.reasons else len(text) for text in (head, *column)) * _LETTER + _GAP
        for head, *column in zip(table.heads, *table.rows, strict=True)
    ]
    parts, left = [[0]], _LINE - widths[0]
    for j in range(1, len(widths)):
        if left < widths[j] and len(parts[-1]) > 1:
            parts.append([0])
            left = _LINE - widths[0]
        parts[-1].append(j)
        left -= widths[j]
    return parts


def _long(table: Table, caption: list[str], heads: list[str], rows: list[list[str]]) -> list[str]:
    widths = {name: rf"p{{{part}\linewidth}}" for name, part in table.prose.items()}
    head, *body = (" & ".join(line) + r" \\" for line in (heads, *rows))
    return [
        r"\begingroup\scriptsize",
        rf"\begin{{longtable}}{{{''.join(widths.get(name, 'l') for name in table.heads)}}}",
        "\n".join(caption) + r"\\",
        *(r"\toprule", head, r"\midrule\endfirsthead"),
        *(r"\toprule", head, r"\midrule\endhead"),
        *(r"\bottomrule\endfoot", "\n\\addlinespace\n".join(body)),
        r"\end{longtable}",
        r"\endgroup",
    ]


def label(table: Table) -> str:
    """Return what ``\\ref`` calls the table: letters, digits, dots and hyphens."""
    return "tab:" + re.sub(r"[^A-Za-z0-9.-]", "-", f"{table.study}-{table.name}")


def _marks(table: Table) -> dict[str, str]:
    """Return the texts in the place of numbers, each with the letter that stands for it."""
    found = [text for row in table.rows for text in row if text in table.reasons]
    return dict(zip(dict.fromkeys(found), string.ascii_lowercase, strict=False))


def _cell(table: Table, marks: dict[str, str], i: int, j: int, text: str) -> str:
    if text in marks:
        return f"--$^{marks[text]}$"
    told = latex_escape(text)
    if table.heads[j] in table.prose:
        return rf"{{\raggedright {told}\par}}"
    return rf"\textbf{{{told}}}" if i in table.best and j < 3 and j != 1 else told


def to_markdown(table: Table) -> str:
    """Return a heading, the table, and its caption below."""
    lines = [
        f"## {markdown_text(table.title)}",
        "",
        _row(table.heads),
        "|" + "---|" * len(table.heads),
    ]
    for i, row in enumerate(table.rows):
        told = [markdown_text(text) for text in row]
        if i in table.best:
            told = [f"**{text}**" if j in (0, 2) else text for j, text in enumerate(told)]
        lines.append(_row(told))
    return "\n".join([*lines, "", markdown_text(_sentences(table.caption)), ""])


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def markdown_text(text: str) -> str:
    """Return text of one line that Markdown shows as it is."""
    told = printable(" ".join(text.replace("\u00a0", " ").split(" "))).replace("\n", " ")
    for character in "\\|*_<`[":
        told = told.replace(character, f"\\{character}")
    return told


def to_csv(table: Table) -> str:
    """Return the texts under their heads, then ``best`` and the numbers that are not rounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ranked = ["best"] if table.exact else []
    writer.writerow([*table.heads, *ranked, *table.exact])
    for i, row in enumerate(table.rows):
        texts = [printable(text.replace("\u00a0", " ")) for text in row]
        best = [i in table.best] if table.exact else []
        writer.writerow([*texts, *best, *(values[i] for values in table.exact.values())])
    return out.getvalue()


def _sentences(caption: Sequence[str]) -> str:
    return " ".join(f"{text.rstrip('.')}." for text in caption)
