"""Words of ``-k`` and ``-m`` that name nothing, when they chose nothing: with the nearest name."""

import difflib
import re
from collections.abc import Collection

from benchsuite import catalog
from benchsuite.study import names, study

# A word of an expression, in its own or in another spelling (llama2-7b): the parts of cell(...)
# that come before an equals sign are no names of ours.
_WORD = re.compile(r"[\w.-]+\b(?!\s*=)")
_SEED = re.compile(r"\bseed\s*=?\s*(\d+)")


def misspelt(*expressions: str, seeds: Collection[int]) -> list[str]:
    """Return a sentence for each word that is part of no name but close to one.

    Names are the catalogue's models, the studies, and the values of their axes; ``seeds`` are those
    of the cells that there were to choose from.
    """
    known = {*catalog.MODELS, *names()}
    for name in names():
        known.update(*study(name).axes.values())
    said = []
    for word in dict.fromkeys(w for e in expressions for w in _WORD.findall(e)):
        if word.startswith("test_") or any(word.lower() in name for name in known):
            continue
        near = difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=0.75)
        if near:
            said.append(f"no cell is named {word!r}. Did you mean {near[0]!r}?")
    for seed in dict.fromkeys(s for e in expressions for s in _SEED.findall(e)):
        if not any(str(there).startswith(seed) for there in seeds):
            listed = ", ".join(map(str, sorted(seeds)))
            said.append(f"no cell has seed {seed}. The seeds are {listed}; --seeds takes others")
    return said
