"""A table as LaTeX, Markdown and CSV."""

import csv
import io
import re
import string
from collections.abc import Sequence

from benchsuite.printable import printable
from benchsuite.reporting.exporting.tables import Table
from benchsuite.reporting.latex import latex_escape


def to_latex(table: Table) -> str:
    r"""Return a table that needs ``\usepackage{booktabs,longtable}``, with caption and label.

    Sentences go over pages, as a longtable. Where a text stands in the place of a number, a letter
    stands for it, which a line below the table explains.
    """
    marks = _marks(table)
    head = " & ".join(map(latex_escape, table.heads)) + r" \\"
    body = [
        " & ".join(_cell(table, marks, i, j, text) for j, text in enumerate(row)) + r" \\"
        for i, row in enumerate(table.rows)
    ]
    caption = [
        rf"\caption{{{latex_escape(_sentences(table.caption))}}}",
        rf"\label{{{label(table)}}}",
    ]
    lines = _long(table, caption, head, body) if table.prose else _float(table, caption, head, body)
    notes = [f"$^{letter}$ {latex_escape(text)}" for text, letter in marks.items()]
    below = [r"\par\smallskip\noindent " + r"\quad ".join(notes)] if notes else []
    return "\n".join([*lines[:-1], *below, lines[-1], ""])


def _float(table: Table, caption: list[str], head: str, body: list[str]) -> list[str]:
    return [
        r"\begin{table}",
        r"\centering",
        *caption,
        # Eight columns fit the text width of an article in one column.
        r"\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.heads) - 1)}}}",
        *(r"\toprule", head, r"\midrule", *body, r"\bottomrule"),
        r"\end{tabular}",
        r"\end{table}",
    ]


def _long(table: Table, caption: list[str], head: str, body: list[str]) -> list[str]:
    widths = {name: rf"p{{{part}\linewidth}}" for name, part in table.prose.items()}
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
    """Return the table's name for ``\\ref``: letters, digits, dots and hyphens."""
    return "tab:" + re.sub(r"[^A-Za-z0-9.-]", "-", table.name)


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
