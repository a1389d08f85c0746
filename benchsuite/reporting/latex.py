"""Text as LaTeX prints it: every character as it stands, with no package but the kernel's."""

from benchsuite.printable import printable

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # In the default font encoding these would be printed as other characters.
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': r"\texttt{\char34}",
    "`": r"\textasciigrave{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "→": r"$\to$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "·": r"$\cdot$",
    "\u00a0": "~",
    "\t": " ",
    "\n": " ",
}
# Letters of Latin-1 that the default font encoding has.
_LETTERS = frozenset(map(chr, range(0xC0, 0x100))) - frozenset("ÐÞðþ×÷")


def latex_escape(text: str) -> str:
    """Return text that LaTeX prints as it is.

    A character that the default fonts lack is named by its number, ``U+6A21``, and one that a
    terminal would obey is spelled out: no name of a model keeps a document from compiling.
    """
    told = printable(text)
    return "".join(map(_printed, told, f"{told[1:]} "))


def _printed(character: str, following: str) -> str:
    if character == following == "-":  # two hyphens would be printed as a dash
        return "-{}"
    if character in _SPECIAL:
        return _SPECIAL[character]
    plain = " " <= character <= "\x7e" or character in _LETTERS
    return character if plain else f"U+{ord(character):04X}"
