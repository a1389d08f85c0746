"""One paragraph for an error that a user can mend, in the place of a traceback."""

import errno

from benchsuite.errors import BenchsuiteError, out_of_memory
from benchsuite.study import Cell, study

_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
}


def explain(error: BaseException, cell: Cell, stage: str) -> str | None:
    """Return one paragraph for an error that a user can mend; None asks for the traceback."""
    if isinstance(error, BenchsuiteError):
        return f"{cell.id}: {error}"
    if _out_of_memory(error):
        said = (_words_of(error) or type(error).__name__).splitlines()[0][:200]
        sizes = _sizes_of_making(cell)
        lower = f"Lower {' or '.join(sizes)} with --set {cell.study}.NAME=VALUE, choose"
        return (
            f"{cell.id}: out of memory in stage {stage!r} ({said}). {lower if sizes else 'Choose'} "
            "a smaller model, or run it alone on a device with more memory"
        )
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{cell.id}: missing file {error.filename} in stage {stage!r}. Restore it and rerun"
    if isinstance(error, OSError) and error.errno in _DISK:
        place = f" ({error.filename})" if error.filename else ""
        return (
            f"{cell.id}: {_DISK[error.errno]} in stage {stage!r}{place}. Make room, or name "
            "another folder with --reports-dir, and rerun: what is finished is kept"
        )
    return None


def _out_of_memory(error: BaseException) -> bool:
    try:
        return out_of_memory(error)
    except Exception:  # an error of another's making that cannot say its text
        return False


def _words_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _sizes_of_making(cell: Cell) -> list[str]:
    """Return the cell's parameters that say how many tokens the making of what is tried holds."""
    declared = study(cell.study)
    return [
        name
        for name, parameter in declared.parameters.items()
        if name in cell.parameters and not set(declared.making).isdisjoint(parameter.tokens_of)
    ]
