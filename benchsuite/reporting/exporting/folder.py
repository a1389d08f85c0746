"""The folder of an export: written beside its place, and put there when it is whole."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchsuite.errors import UsageError
from benchsuite.records.files import fitting_name, sha256
from benchsuite.reporting.exporting.card import CARD, data_card
from benchsuite.reporting.exporting.data import without_places, write_data
from benchsuite.reporting.exporting.figures import write_figures
from benchsuite.reporting.exporting.tables import Table, left_out, tables_of
from benchsuite.reporting.exporting.texts import to_csv, to_latex, to_markdown
from benchsuite.reporting.judging import Columns
from benchsuite.reporting.merged_plan import judged_under
from benchsuite.reporting.report import place_of, write_own_files
from benchsuite.reporting.results import StudyResults
from benchsuite.study.plan import FrozenPlan

SUMS = "SHA256SUMS"
_FORMS = {"tex": to_latex, "md": to_markdown, "csv": to_csv}


def write_export(
    directories: Sequence[Path],
    folder: Path,
    plan: FrozenPlan | None = None,
    *,
    tell: Callable[[str], object] = lambda note: None,
) -> list[Path]:
    """Export the records under some reports folders; return the files, relative to ``folder``.

    ``tell`` is given what was left out and why, which the data card says too. Under a frozen
    ``plan`` tables and figures are of its cells; the Parquet files are of all.

    ::

        README.md, SHA256SUMS           the data card; the digest of every other file
        records.parquet, items.parquet  all of them
        <study>/<table>.tex, .md, .csv  the tables of the report's page
        <study>/figures/*.svg           its figures, and every seed's
        <study>/...                     what the study's own reporter writes

    An earlier export gives way to the new one; what else is in the folder is no export's, and is a
    `UsageError` before anything is written.
    """
    _refuse_what_is_no_export(folder)
    sources, results = judged_under(plan, directories)
    for note in sources.notes:
        tell(note)
    place = folder.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
    try:
        files = _write(results, directories, sources.columns, draft, sources.notes)
        _put(draft, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return files


def _write(
    results: Sequence[StudyResults],
    directories: Sequence[Path],
    columns: Columns,
    draft: Path,
    notes: Sequence[str],
) -> list[Path]:
    data = write_data(directories, draft)
    for name in dict.fromkeys(one.study.name for one in results):
        own = [one for one in results if one.study.name == name]
        place = draft / name
        place.mkdir()
        for table in _named_apart(own):
            for ending, form in _FORMS.items():
                (place / f"{table.name}.{ending}").write_text(form(table), encoding="utf-8")
        write_own_files(own, place, columns)
        for one in own:
            write_figures(one, place_of(one, place) / "figures")
    told = list(notes)
    for one in results:
        told += [one.standing.sentence] if one.standing else []
        told += [*one.notes, *one.conflicts, *left_out(one)]
    told = [without_places(text, directories) for text in told]
    sums = {name: (draft / name).stat().st_size for name in _below(draft)}
    facts = {name: (size, sha256(draft / name)) for name, size in sums.items()}
    (draft / CARD).write_text(data_card(results, data, facts, told), encoding="utf-8")
    lines = [f"{sha256(draft / name)}  {name}\n" for name in _below(draft)]
    (draft / SUMS).write_text("".join(lines), encoding="utf-8")
    return list(map(Path, _below(draft)))


def _named_apart(results: Sequence[StudyResults]) -> list[Table]:
    """Return the tables of one study in several settings, no two of one name."""
    found: dict[str, Table] = {}
    for table in (table for one in results for table in tables_of(one)):
        n = sum(name.partition("__again-")[0] == table.name for name in found)
        name = fitting_name(f"{table.name}__again-{n + 1}" if n else table.name)
        found[name] = replace(table, name=name)
    return list(found.values())


def _below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _refuse_what_is_no_export(folder: Path) -> None:
    """Raise a usage error where a folder holds more than an earlier export wrote there."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    fix = "name a new folder with --to, or move what is there"
    if not (folder / SUMS).is_file():
        raise UsageError("there is something that is no export", str(folder), fix)
    lines = (folder / SUMS).read_text("utf-8").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in (name for name in _below(folder) if name != SUMS):
        if name not in sums:
            raise UsageError("a file is there that no export wrote", str(folder / name), fix)
        if sha256(folder / name) != sums[name]:
            raise UsageError("it was changed since it was exported", str(folder / name), fix)


def _put(draft: Path, folder: Path) -> None:
    """Put the new export in the place of an earlier one."""
    draft.chmod(0o755)
    old = draft.with_name(f"{draft.name}-old")
    if folder.exists():
        folder.rename(old)
    draft.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
